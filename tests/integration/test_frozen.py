"""`freeze: all` through MMF: features once, the same probabilities whatever is cached."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import add_tiny_clip

from mmf_hm_concat import MemeClassifier
from mmf_hm_concat.data.layout import find_layout
from mmf_hm_concat.data.table import read_splits
from mmf_hm_concat.encoders import base
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.member import load_member
from mmf_hm_concat.inference.splits import predict_memes
from mmf_hm_concat.reports.run_memes import predict
from mmf_hm_concat.training.checkpoints import FROZEN, load_checkpoint

pytestmark = pytest.mark.slow

MODEL, DATA = "model_config.concat_vl", "dataset_config.hm_competition"


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """Options for a random CLIP, both towers frozen."""
    name = add_tiny_clip(tmp_path_factory.mktemp("clip"), "tiny-frozen-clip")
    return [
        *(f"{MODEL}.{branch}.name=open_clip/{name}" for branch in ("vision", "language")),
        *(f"{MODEL}.{branch}.weights=none" for branch in ("vision", "language")),
        *(f"{MODEL}.{branch}.freeze=all" for branch in ("vision", "language")),
        # Features of another run of the tests are none of these.
        f"{DATA}.cache_dir={tmp_path_factory.mktemp('cache')}",
    ]


@pytest.fixture(scope="module")
def cold(mmf, frozen, tmp_path_factory):
    """The folder of the first run, which computes all features, and its submission's bytes."""
    folder = tmp_path_factory.mktemp("run") / "cold"
    mmf(folder, *frozen)
    mmf(folder, *frozen, predict=True)
    return folder, (folder / "submission.csv").read_bytes()


@pytest.fixture
def counted(monkeypatch):
    """How many images and texts went through a frozen network since."""
    counts = {"vision": 0, "language": 0}
    from mmf_hm_concat.encoders.clip_towers import ClipImageEncoder, ClipTextEncoder

    for kind, branch in ((ClipImageEncoder, "vision"), (ClipTextEncoder, "language")):

        def features(self, given, branch=branch, original=kind.features):
            counts[branch] += len(given)
            return original(self, given)

        monkeypatch.setattr(kind, "features", features)
    return counts


def test_a_second_run_computes_nothing_and_ends_with_the_same_bytes(
    mmf, frozen, cold, counted, tmp_path
):
    log = (cold[0] / "train.log").read_text()
    assert "frozen features in" in log
    mmf(tmp_path / "warm", *frozen)
    mmf(tmp_path / "warm", *frozen, predict=True)
    assert (tmp_path / "warm" / "submission.csv").read_bytes() == cold[1]
    assert counted == {"vision": 0, "language": 0}
    # Another fusion takes the same features.
    mmf(tmp_path / "product", *frozen, f"{MODEL}.fusion=product")
    assert counted == {"vision": 0, "language": 0}


def test_evaluation_and_report_take_what_the_run_computed(frozen, cold, counted, sample):
    cache = Path(frozen[-1].partition("=")[2])
    test = find_layout(sample, {"test": "test"}, cache_dir=cache, needed=("test",))
    memes = read_splits(test, labels={})["test"]
    written = pd.read_csv(cold[0] / "submission.csv").proba.tolist()
    member = load_member(cold[0])
    assert predict_memes(member, memes, cache).tolist() == written
    found = predict(member, memes, cache)
    assert found.proba.tolist() == written
    assert found.mean_pixels.shape == (3, 32, 32)
    assert counted == {"vision": 0, "language": 0}


def test_without_a_cache_and_with_workers_it_is_the_same(mmf, frozen, cold, counted, tmp_path):
    options = [*frozen, f"{DATA}.image_cache=off", "training.num_workers=2"]
    mmf(tmp_path / "run", *options)
    epochs = dict(counted)
    mmf(tmp_path / "run", *options, predict=True)
    assert (tmp_path / "run" / "submission.csv").read_bytes() == cold[1]
    # Of the 66 memes to train on and 12 to validate, filled up to eights: once, not every epoch.
    assert max(epochs.values()) <= 66 + 12 + 2 * 8


def test_checkpoints_hold_what_is_trained_and_the_run_moves(cold, sample, tmp_path):
    folder = shutil.copytree(cold[0], tmp_path / "moved")
    state = load_checkpoint(folder / "best.ckpt")
    assert state["frozen"] == base.checksum(load_checkpoint(folder / FROZEN)["model"])
    trained = {key.split(".network.")[-1] for key in state["model"] if ".network." in key}
    assert not trained
    memes = pd.read_json(sample / "test.jsonl", lines=True)
    images = [sample / image for image in memes.img]
    written = pd.read_csv(folder / "submission.csv").proba.tolist()
    assert MemeClassifier.load(folder)(images, memes.text.tolist()) == written


def test_a_resumed_run_ends_with_the_same_weights(mmf, frozen, cold, tmp_path):
    mmf(tmp_path / "run", *frozen, "training.max_epochs=1")
    mmf(tmp_path / "run", *frozen, "checkpoint.resume=true")
    one, two = (load_checkpoint(f / "current.ckpt")["model"] for f in (cold[0], tmp_path / "run"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_other_frozen_weights_are_refused(cold, tmp_path):
    folder = shutil.copytree(cold[0], tmp_path / "run")
    state = load_checkpoint(folder / FROZEN)
    next(iter(state["model"].values())).view(-1)[0] += 1
    torch.save(state, folder / FROZEN)
    with pytest.raises(InputError, match=r"frozen\.ckpt: has the checksum .* was trained with"):
        load_member(folder)
    (folder / FROZEN).unlink()
    with pytest.raises(InputError, match=r"there is no .*frozen\.ckpt"):
        load_member(folder)


def test_augmented_images_are_computed_in_every_epoch_and_that_is_said(
    mmf, frozen, counted, tmp_path
):
    augment = f"{DATA}.processors.image_processor.params.augment=[{{type: RandomHorizontalFlip}}]"
    mmf(tmp_path / "run", *frozen, augment, "training.max_epochs=2")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "The features of the train images are computed anew in every epoch" in log
    assert counted["vision"] >= 2 * 66
    assert counted["language"] == 0


def test_a_new_training_in_the_folder_leaves_the_earlier_run_usable(mmf, frozen, cold, tmp_path):
    folder = shutil.copytree(cold[0], tmp_path / "run")
    mmf(folder, *frozen, f"{MODEL}.vision.freeze=none", f"{MODEL}.language.freeze=none")
    assert not (folder / FROZEN).exists()
    (earlier,) = (folder / "previous").iterdir()
    assert load_member(earlier).network is not None

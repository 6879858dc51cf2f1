"""`MemeClassifier` and `hm_concat predict`: the submission's probabilities from a run's folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import BIN
from PIL import Image

from mmf_hm_concat import MemeClassifier, cli
from mmf_hm_concat.data.table import read_memes
from mmf_hm_concat.encoders.fasttext_model import fit_text_model
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import read_rgb
from mmf_hm_concat.models.build import build_network
from mmf_hm_concat.training import checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """A copy of what prediction needs, and nothing else, in another place."""
    folder = tmp_path_factory.mktemp("moved") / "run"
    folder.mkdir()
    for name in (checkpoints.BEST, checkpoints.TEXT_MODEL):
        shutil.copy(trained[0] / name, folder)
    return folder


@pytest.fixture(scope="module")
def memes(sample):
    return read_memes([sample / "test.jsonl"], sample, split="test", labels=False)


@pytest.fixture(scope="module")
def written(trained):
    """The probabilities in the submission."""
    rows = (trained[0] / "submission.csv").read_text().splitlines()[1:]
    return [float(row.split(",")[1]) for row in rows]


def test_many_memes_get_the_numbers_of_the_submission(run, memes, written):
    found = MemeClassifier.load(run)(memes.path.tolist(), memes.text.tolist())
    assert found == written


@pytest.mark.parametrize("row", [0, 5, 11])
def test_one_meme_by_path_or_as_an_image(run, memes, written, row):
    classifier = MemeClassifier.load(str(run / checkpoints.BEST))
    path, text = memes.path[row], memes.text[row]
    assert classifier(path, text) == written[row]
    with Image.open(path) as image:
        assert classifier(image, text) == written[row]


def test_memes_in_whatever_they_come(run, memes, written):
    classifier = MemeClassifier.load(run, device="cpu")
    paths, texts = memes.path.tolist(), memes.text.tolist()
    arrays = [np.asarray(read_rgb(path)) for path in paths]
    frame = pd.DataFrame({"text": texts, "image": paths, "other": 1})
    frame.index += 100
    for images, of_them in (
        (frame["image"], frame["text"]),
        (frame, None),
        (memes.path.iloc[::-1].iloc[::-1], iter(texts)),
        ((path for path in paths), tuple(texts)),
        (map(Path, paths), np.array(texts, dtype=object)),
        (arrays, np.array(texts)),
        ((Image.fromarray(each) for each in arrays), texts),
    ):
        assert classifier(images, of_them) == written
    assert classifier(arrays[2], texts[2]) == written[2]
    alike = [each for each in arrays if each.shape == arrays[0].shape]
    assert classifier(np.stack(alike), [texts[0]] * len(alike))[0] == written[0]
    grey = arrays[0][..., 0]
    assert classifier(grey, "") == classifier(np.stack([grey] * 3, axis=2), "")


def test_another_batch_size_changes_digits_at_most(run, memes, written):
    classifier = MemeClassifier.load(run, batch_size=5)
    assert classifier(memes.path, memes.text) == pytest.approx(written, abs=0.02)
    for wrong in (0, "8", 2.5, True):
        with pytest.raises(InputError, match=r"batch_size = .*: give a whole number from 1"):
            MemeClassifier.load(run, batch_size=wrong)


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "mps", 3.5])
def test_a_device_that_is_not_here(run, device):
    with pytest.raises(InputError, match=f"device = {device!r}: there is cpu"):
        MemeClassifier.load(run, device=device)


def test_what_it_is_can_be_read(run):
    said = repr(MemeClassifier.load(run, run))
    assert said.startswith(f"MemeClassifier({run}/best.ckpt: fasttext, resnet18, concat; ")
    assert " on cpu | " in said


def test_nothing_is_nothing(run):
    assert MemeClassifier.load(run)([], []) == []


def test_several_runs_give_their_mean(run, memes, written, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    state = checkpoints.load_checkpoint(other / checkpoints.BEST)
    state["model"]["network.head.classifier.bias"] += torch.tensor([1.0, -1.0])
    checkpoints.save_checkpoint(state, other / checkpoints.BEST)
    path, text = memes.path[0], memes.text[0]
    alone = MemeClassifier.load(other)(path, text)
    assert alone < written[0]
    assert MemeClassifier.load(run, other)(path, text) == (written[0] + alone) / 2


def test_the_command_prints_the_number(run, memes, written, capsys):
    meme = [memes.path[0], memes.text[0]]
    assert cli.main(["predict", str(run), *meme]) == 0
    assert float(capsys.readouterr().out) == written[0]
    assert cli.main(["predict", str(run), str(run), *meme]) == 0
    assert float(capsys.readouterr().out) == written[0]
    assert cli.main(["predict", str(run), str(run / "none.png"), "text"]) == 1
    assert "none.png: no such file" in capsys.readouterr().err


def test_the_command_needs_no_mmf(run, memes):
    """Nor what else takes seconds to import; `-X importtime` names every module imported."""
    done = subprocess.run(
        [
            *(sys.executable, "-X", "importtime", BIN / "hm_concat"),
            *("predict", run, memes.path[0], memes.text[0]),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "torch" in imported
    assert not imported & {"mmf", "sklearn", "scipy", "transformers", "omegaconf", "pandas"}


@pytest.mark.parametrize(
    ("image", "text", "message"),
    [
        (["a.png"], ["one", "two"], "1 images but 2 texts"),
        ("a.png", ["one"], "one image and one text, or a list of each"),
        (["a.png"], "one", "one image and one text, or a list of each"),
        ("nowhere.png", "one", r"nowhere\.png: no such file"),
        ("a.png", None, "text is missing"),
        (3, "one", "image is '3', of type int: give a path, a Pillow image or a NumPy"),
        (["a.png", None], ["one", "two"], "image 1 is 'None', of type NoneType: give a path"),
        (b"bytes", ["one"], "image is .*, of type bytes: give a path"),
        (["a.png"], [float("nan")], "text 0 is 'nan', of type float: give a text"),
        (["a.png"], 3, "text is '3', of type int"),
        (np.ones((4, 4, 3)), "one", r"image is an array of float64 \(4, 4, 3\)"),
        ([np.ones((4, 4, 2), np.uint8)], ["one"], r"image 0 is an array of uint8 \(4, 4, 2\)"),
        (pd.DataFrame({"img": ["a"]}), None, "no column image and no text; it has img"),
        (pd.DataFrame({"image": ["a"], "text": [""]}), ["one"], "give nothing beside it"),
    ],
)
def test_memes_that_cannot_be_judged(run, image, text, message):
    with pytest.raises(InputError, match=message):
        MemeClassifier.load(run)(image, text)


def test_a_broken_image(run, memes, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(memes.path[0]).read_bytes()[:-100])
    with pytest.raises(InputError, match=r"broken\.png: damaged or cut short"):
        MemeClassifier.load(run)(broken, "text")


def changed(run, folder, **keys):
    """A copy of the run whose checkpoint has other values under some keys."""
    shutil.copytree(run, folder)
    state = checkpoints.load_checkpoint(folder / checkpoints.BEST)
    for key, change in keys.items():
        change(state[key])
    checkpoints.save_checkpoint(state, folder / checkpoints.BEST)
    return folder


def test_the_number_of_threads_changes_nothing(run, memes, tmp_path):
    """ResNet-50's sums in float32 do depend on it, and the caller may have set any."""
    other = tmp_path / "run"
    shutil.copytree(run, other)
    state = checkpoints.load_checkpoint(other / checkpoints.BEST)
    config = state["config"]
    settings = config["model_config"]["concat_vl"]
    settings["vision"].update(name="resnet50", weights="none")
    config["training"]["precision"] = "fp32"
    processors = config["dataset_config"]["hm_competition"]["processors"]
    processors["image_processor"]["params"]["size"] = 224
    torch.manual_seed(0)
    state["model"] = {f"network.{k}": v for k, v in build_network(settings).state_dict().items()}
    checkpoints.save_checkpoint(state, other / checkpoints.BEST)
    classifier, threads, found = MemeClassifier.load(other), torch.get_num_threads(), set()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.add(classifier(memes.path[0], memes.text[0]))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


def test_folders_that_are_no_runs(run, tmp_path):
    with pytest.raises(InputError, match=r"needs the folder of a run"):
        MemeClassifier.load()
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=f"{folder}.*: no such checkpoint"):
            MemeClassifier.load(folder)
    (tmp_path / checkpoints.BEST).write_bytes(b"torn")
    with pytest.raises(InputError, match="not a checkpoint that can be loaded safely"):
        MemeClassifier.load(tmp_path)


def test_runs_of_another_kind(run, tmp_path):
    other = changed(run, tmp_path / "model", config=lambda c: c.update(model="visual_bert"))
    with pytest.raises(InputError, match="loads concat_vl trained on hm_competition; this is vis"):
        MemeClassifier.load(other)
    other = changed(run, tmp_path / "data", config=lambda c: c.pop("dataset_config"))
    with pytest.raises(InputError, match="dataset_config: is missing"):
        MemeClassifier.load(other)
    other = changed(run, tmp_path / "weights", model=lambda m: m.popitem())
    with pytest.raises(InputError, match="weights of another model"):
        MemeClassifier.load(other)

    def another_processor(config):
        processors = config["dataset_config"]["hm_competition"]["processors"]
        processors["text_processor"]["type"] = "glove"

    other = changed(run, tmp_path / "processor", config=another_processor)
    with pytest.raises(InputError, match="text_processor glove"):
        MemeClassifier.load(other)


MODEL, DATA = "config.model_config.concat_vl", "config.dataset_config.hm_competition"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (f"{MODEL}.head_layers", 64, "weights of another model"),
        (f"{MODEL}.fusion_features", 8192, "weights of another model"),
        (f"{MODEL}.fusion", "cross", "weights of another model"),
        (f"{MODEL}.fusion_features", 10**9, "fusion_features = 1000000000: give a whole number"),
        (f"{MODEL}.vision.name", "resnet9", "no network 'resnet9'"),
        (f"{MODEL}.vision.freeze", {"until": "nowhere"}, "no stage 'nowhere'"),
        (f"{DATA}.processors.image_processor.params.size", -1, "size = -1: give"),
        (f"{DATA}.processors.image_processor.params.size", 1e6, "size = 1000000.0: give"),
        (f"{DATA}.processors", None, "processors = null: give a group of keys"),
        (DATA, "text", "hm_competition = 'text': is no group of keys"),
        ("config.training", None, "training = null: is missing"),
        ("config", [1], "its config is damaged, or of another program ([1])"),
        ("text_model", None, "text_model: the checkpoint does not say"),
        ("image_preprocessing", None, "does not say how images are normalised"),
        ("image_preprocessing.std", (0.0, 1.0, 1.0), "its image_preprocessing is damaged"),
        ("image_preprocessing.interpolation", "odd", "its image_preprocessing is damaged"),
        ("model", {"network.x": torch.ones(2)}, "weights of another model"),
    ],
)
def test_a_crafted_checkpoint_is_one_message(run, tmp_path, place, value, message):
    def craft(state):
        *above, last = place.split(".")
        for key in above:
            state = state[key]
        state[last] = value

    state = checkpoints.load_checkpoint(run / checkpoints.BEST)
    craft(state)
    checkpoints.save_checkpoint(state, tmp_path / checkpoints.BEST)
    shutil.copy(run / checkpoints.TEXT_MODEL, tmp_path)
    with pytest.raises(InputError) as error:
        MemeClassifier.load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / checkpoints.BEST}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "NaN or inf"), (3e38, "gives NaN")])
def test_weights_that_predict_nothing_are_told(run, memes, tmp_path, value, message):
    other = changed(
        run, tmp_path / "run", model=lambda m: m["network.head.hidden.0.weight"].fill_(value)
    )
    with pytest.raises(InputError, match=message):
        MemeClassifier.load(other)(memes.path[0], memes.text[0])


def test_a_text_model_that_is_missing_or_another_one(run, tmp_path, cache):
    other = tmp_path / "run"
    shutil.copytree(run, other)
    (other / checkpoints.TEXT_MODEL).unlink()
    with pytest.raises(InputError, match=rf"{checkpoints.TEXT_MODEL}: no such file"):
        MemeClassifier.load(other)
    fitted = fit_text_model(["some other texts"], epochs=1, cache_dir=cache)
    shutil.copy(fitted.path, other / checkpoints.TEXT_MODEL)
    with pytest.raises(InputError, match=checkpoints.TEXT_MODEL):
        MemeClassifier.load(other)

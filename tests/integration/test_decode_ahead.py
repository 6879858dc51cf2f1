"""A run that decodes while it computes, as for a GPU, leaves what any run leaves."""

import json
import shutil

import pytest
import torch

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images import cache as image_cache
from mmf_hm_concat.images import store as image_store
from mmf_hm_concat.mmf_plugin import decode_ahead
from mmf_hm_concat.training.checkpoints import BEST, load_checkpoint

pytestmark = pytest.mark.slow

DATA = "dataset_config.hm_competition"
FROZEN = ("model_config.concat_vl.vision.freeze=all",)


@pytest.fixture
def events(monkeypatch):
    """What happens to images, "decoded" or "read", in its order. The device counts as a GPU."""
    found = []
    decode, read = image_store.decode, image_cache.ImageCache.batch

    def decoded(data, name):
        found.append("decoded")
        return decode(data, name)

    def batch(self, indices):
        found.append("read")
        return read(self, indices)

    monkeypatch.setattr(image_store, "decode", decoded)
    monkeypatch.setattr(image_cache.ImageCache, "batch", batch)
    monkeypatch.setattr(image_cache, "AHEAD_BYTES", 1)
    monkeypatch.setattr(decode_ahead, "on_gpu", lambda: True)
    return found


@pytest.fixture(scope="module")
def usual(mmf, tmp_path_factory):
    """The folder of a run with these options, trained and predicted as on a CPU."""
    folders = {}

    def run(options):
        if options not in folders:
            folders[options] = tmp_path_factory.mktemp("run")
            mmf(folders[options], *options)
            mmf(folders[options], *options, predict=True)
        return folders[options]

    return run


def copy_of(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    (run / "submission.csv").unlink()
    return run, f"{DATA}.cache_dir={tmp_path / 'cache'}"


@pytest.mark.parametrize("options", [(), FROZEN], ids=["trained", "frozen"])
def test_prediction_is_the_same_bytes(mmf, usual, events, tmp_path, options):
    run, cache = copy_of(usual(options), tmp_path)
    del events[:]
    mmf(run, *options, cache, predict=True)
    expected = (usual(options) / "submission.csv").read_bytes()
    assert (run / "submission.csv").read_bytes() == expected
    assert events[0] == "read" and "decoded" in events
    del events[:]  # now all is cached
    mmf(run, *options, cache, predict=True)
    assert (run / "submission.csv").read_bytes() == expected
    assert "decoded" not in events


def test_training_on_frozen_features_is_the_same(mmf, usual, events, tmp_path):
    mmf(tmp_path / "run", *FROZEN, f"{DATA}.cache_dir={tmp_path / 'cache'}")
    assert events[0] == "read" and "decoded" in events
    one, other = (load_checkpoint(folder / BEST) for folder in (usual(FROZEN), tmp_path / "run"))
    assert all(torch.equal(one["model"][key], other["model"][key]) for key in one["model"])


def test_a_bad_image_is_one_message_and_no_csv(mmf, usual, events, sample, tmp_path):
    run, cache = copy_of(usual(()), tmp_path)
    data = tmp_path / "data"
    shutil.copytree(sample, data)
    last = json.loads((data / "test.jsonl").read_text().splitlines()[-1])
    bad = data / last["img"]
    bad.write_bytes(bad.read_bytes()[:100])
    del events[:]
    with pytest.raises(InputError, match=r"1 of .* images cannot be used") as caught:
        mmf(run, cache, f"{DATA}.data_dir={data}", predict=True)
    assert str(bad) in str(caught.value)
    assert events.count("read") > 1  # it came while the network was at work
    assert not (run / "submission.csv").exists()


@pytest.mark.parametrize(
    "options",
    [("training.num_workers=2",), (f"{DATA}.on_bad_image=blank",)],
    ids=["workers", "blank"],
)
def test_elsewhere_all_is_decoded_first(mmf, usual, events, tmp_path, options):
    run, cache = copy_of(usual(()), tmp_path)
    del events[:]
    mmf(run, cache, *options, predict=True)
    assert (run / "submission.csv").read_bytes() == (usual(()) / "submission.csv").read_bytes()
    # What workers read is not told here; this process has decoded, and before it read.
    assert events[0] == "decoded"
    assert "read" not in events or "decoded" not in events[events.index("read") :]

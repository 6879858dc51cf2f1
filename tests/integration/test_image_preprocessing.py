"""An image encoder with its own mean, deviation and interpolation gets them from everybody."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from mmf_hm_concat import MemeClassifier
from mmf_hm_concat.cli import main
from mmf_hm_concat.encoders.base import Encoder
from mmf_hm_concat.encoders.image_preprocessing import IMAGENET, ImagePreprocessing
from mmf_hm_concat.models.build import IMAGE_ENCODERS
from mmf_hm_concat.training import checkpoints

pytestmark = pytest.mark.slow

OWN = ImagePreprocessing((0.1, 0.2, 0.3), (0.5, 0.25, 0.125), "bicubic")
VISION = "model_config.concat_vl.vision"
SIZE = 32


class Colours(Encoder):
    """An encoder as anybody may add one. It notes what it is given."""

    seen: list = []  # noqa: RUF012

    def __init__(self, name, weights, out_features, freeze):
        head = nn.Linear(3, out_features)
        super().__init__("vision", nn.Sequential(head), [head], freeze)
        self.preprocessing = self.preprocessing_of(name, weights)

    @classmethod
    def preprocessing_of(cls, name, weights):
        return OWN if weights == "published" else IMAGENET

    def forward(self, image_B3HW):
        if not torch.compiler.is_compiling():
            self.seen.append(image_B3HW.clone())
        return self.network(image_B3HW.mean((2, 3)))


@pytest.fixture
def seen(monkeypatch):
    monkeypatch.setitem(IMAGE_ENCODERS, "colours", Colours)
    monkeypatch.setattr(Colours, "seen", [])
    return Colours.seen


def first_image(sample):
    """Path and text of the first meme of the test split, and its image by torchvision's rules."""
    meme = pd.read_json(sample / "test.jsonl", lines=True).iloc[0]
    with Image.open(sample / meme.img) as image:
        pixels = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    scaled = torch.from_numpy(pixels / 255).permute(2, 0, 1)
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (OWN.mean, OWN.std))
    return sample / meme.img, meme.text, ((scaled - mean) / std).float()


TRAIN = [f"{VISION}.encoder=colours", f"{VISION}.weights=published", "training.max_epochs=1"]
TRAIN += ["training.precision=fp32"]


def test_data_set_classifier_and_export_ask_the_encoder(mmf, sample, tmp_path, seen):
    import onnxruntime

    path, text, expected = first_image(sample)
    mmf(tmp_path, *TRAIN)
    for options in (
        TRAIN,
        # Weights that are not asked for change nothing: the checkpoint knows what its own want.
        [*TRAIN, f"{VISION}.weights=none"],
        [*TRAIN, "dataset_config.hm_competition.image_cache=off"],
    ):
        seen.clear()
        mmf(tmp_path, *options, predict=True)
        assert torch.allclose(seen[0][0], expected, atol=1e-5)
    written = pd.read_csv(tmp_path / "submission.csv").proba[0]
    seen.clear()
    assert MemeClassifier.load(tmp_path)(path, text) == written
    assert torch.allclose(seen[0][0], expected, atol=1e-5)

    assert main(["export", str(tmp_path), str(tmp_path / "model.onnx")]) == 0
    member = MemeClassifier.load(tmp_path).members[0]
    with Image.open(path) as image:
        pixels = OWN.resize(image.convert("RGB"), SIZE).transpose(2, 0, 1)[None]
    given = {"text": member.prepare_text([text]).numpy(), "image": pixels}
    (found,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, given)
    assert abs(found[0] - written) < 1e-4


def test_a_resumed_training_keeps_the_preprocessing_of_its_checkpoint(mmf, tmp_path, seen):
    mmf(tmp_path, *TRAIN)
    options = [*TRAIN, f"{VISION}.weights=none", "training.max_epochs=2", "checkpoint.resume=true"]
    mmf(tmp_path, *options)
    state = checkpoints.load_checkpoint(tmp_path / checkpoints.CURRENT)
    assert ImagePreprocessing(**state["image_preprocessing"]) == OWN


def test_a_checkpoint_of_0_1_0_keeps_imagenets_whatever_its_weights_want(
    mmf, sample, tmp_path, seen
):
    mmf(tmp_path, *TRAIN)
    path = tmp_path / checkpoints.BEST
    state = checkpoints.load_checkpoint(path)
    del state["format_version"], state["image_preprocessing"]
    state["early_stop"]["waited"] = state["early_stop"].pop("num_bad_epochs")
    state |= state.pop("position") | {"random": state["random"]["ranks"]}
    checkpoints.save_checkpoint(state, path)
    encoder = MemeClassifier.load(tmp_path).members[0].network.vision_module
    assert encoder.preprocessing == IMAGENET
    found = MemeClassifier.load(tmp_path)(*first_image(sample)[:2])
    mmf(tmp_path, *TRAIN, predict=True)
    assert pd.read_csv(tmp_path / "submission.csv").proba[0] == found


def test_the_image_processor_asks_the_encoder_in_mmfs_own_data_sets(mmf, sample, tmp_path, seen):
    from mmf.common.registry import registry
    from omegaconf import OmegaConf

    path, _, expected = first_image(sample)
    mmf(tmp_path, *TRAIN)
    make = registry.get_processor_class("resnet_image")
    with Image.open(path) as image:
        found = make(OmegaConf.create({"size": SIZE}))({"image": image.convert("RGB")})["image"]
    assert torch.allclose(found, expected, atol=1e-5)

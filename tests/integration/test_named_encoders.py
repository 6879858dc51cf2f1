"""Encoders of other libraries through the real commands' code: trained, predicted, moved."""

import pandas as pd
import pytest
from conftest import add_tiny_clip

from mmf_hm_concat import MemeClassifier
from mmf_hm_concat.errors import InputError

MODEL = "model_config.concat_vl"


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """Options for a random CLIP that computes in milliseconds."""
    name = add_tiny_clip(tmp_path_factory.mktemp("clip"))
    return [f"{MODEL}.vision.name=open_clip/{name}", f"{MODEL}.vision.weights=none"]


@pytest.mark.parametrize(
    ("project", "fusion", "layers"),
    [("align", "product", 3), ("concat", "concat_normalized", 3), ("cross", "cross", 1)],
)
def test_one_option_changes_both_towers(build, project, fusion, layers):
    config = f"projects/clip/{project}.yaml"
    model = build(config=config).model_config.concat_vl
    assert model.language.name == model.vision.name == "open_clip/ViT-L-14-quickgelu"
    assert model.language.weights == model.vision.weights == "openai"
    assert (model.fusion, model.head_layers) == (fusion, layers)
    assert model.language.freeze == model.vision.freeze == "all"
    smaller = "open_clip/ViT-B-32-quickgelu"
    model = build(f"{MODEL}.vision.name={smaller}", config=config).model_config.concat_vl
    assert model.language.name == model.vision.name == smaller


def test_weights_with_another_activation_are_refused_by_key(build):
    with pytest.raises(InputError, match=r"vision\.weights = 'openai'.*ViT-L-14-quickgelu"):
        build(f"{MODEL}.vision.name=open_clip/ViT-L-14", config="projects/clip/align.yaml")


def test_a_library_that_is_not_installed_is_named_with_its_command(build, monkeypatch):
    for module, name in (("timm", "timm/resnet18"), ("open_clip", "open_clip/ViT-B-32")):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, module, None)
            with pytest.raises(InputError, match=rf"needs {module}.*make EXTRAS=encoders install"):
                build(f"{MODEL}.vision.name={name}")


@pytest.mark.slow
def test_clip_trains_and_predicts_the_same_everywhere(mmf, sample, tiny_clip, tmp_path):
    options = [*tiny_clip, "training.precision=fp32"]
    mmf(tmp_path / "run", *options, project="clip/cross")
    (tmp_path / "run").rename(tmp_path / "moved")
    mmf(tmp_path / "moved", *options, project="clip/cross", predict=True)
    written = pd.read_csv(tmp_path / "moved" / "submission.csv").proba.tolist()
    assert len(set(written)) > 1
    memes = pd.read_json(sample / "test.jsonl", lines=True)
    paths = [sample / image for image in memes.img]
    assert MemeClassifier.load(tmp_path / "moved")(paths, memes.text.tolist()) == written

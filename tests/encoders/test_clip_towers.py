"""open_clip's towers as encoders, on a small random CLIP: features, weights, refusals."""

import json
import logging

import open_clip
import pytest
import torch
from conftest import TINY_CLIP, add_tiny_clip
from safetensors.torch import save_file

from mmf_hm_concat.encoders.clip_towers import ClipImageEncoder, ClipTextEncoder, ClipTokens
from mmf_hm_concat.errors import InputError

TEXTS = ["a dog on the grass", "", "word " * 100, "x\ud800y"]


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory):
    """The name of a CLIP that open_clip knows from now on, and its weights in a file."""
    folder = tmp_path_factory.mktemp("clip")
    name = add_tiny_clip(folder)
    torch.manual_seed(0)
    model = open_clip.create_model(name).eval()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return name, model, folder


@pytest.mark.parametrize("frozen", ["all", "none"])
def test_towers_give_the_features_before_the_projection(tiny, frozen):
    name, model, folder = tiny
    file, image = str(folder / "open_clip_model.safetensors"), torch.randn(2, 3, 32, 32)
    image_encoder = ClipImageEncoder(name, file, 5, frozen)
    text_encoder = ClipTextEncoder(name, file, 5, frozen)
    tokens = ClipTokens(name).prepare(TEXTS)
    assert torch.equal(tokens, open_clip.get_tokenizer(name)(["x?y" if "\ud800" in t else t
                                                              for t in TEXTS]))  # fmt: skip
    projected = image_encoder.features(image) @ model.visual.proj
    assert torch.allclose(projected, model.encode_image(image), atol=1e-5)
    projected = text_encoder.features(tokens) @ model.text_projection
    assert torch.allclose(projected, model.encode_text(tokens), atol=1e-5)
    assert image_encoder(image).shape == (2, 5) and text_encoder(tokens).shape == (4, 5)
    heads = [p for p in text_encoder.parameters() if p.requires_grad]
    assert (len(heads) == 2) == (frozen == "all")


def test_building_one_leaves_the_log_as_it_was(tiny):
    before = logging.getLogger().handlers[:]
    logging.getLogger().handlers.clear()
    try:
        ClipImageEncoder(tiny[0], "none", 5)
        assert logging.getLogger().handlers == []
    finally:
        logging.getLogger().handlers[:] = before


def test_each_branch_keeps_its_own_tower_alone(tiny):
    name, model, _ = tiny
    total = sum(p.numel() for p in model.parameters())
    kept = [ClipImageEncoder(name, "none", 5), ClipTextEncoder(name, "none", 5)]
    assert sum(p.numel() for each in kept for p in each.network.parameters()) < total


def test_a_network_can_be_frozen_up_to_a_stage(tiny):
    encoder = ClipTextEncoder(tiny[0], "none", 5, {"until": "transformer.resblocks.1"})
    trained = {key.split(".")[3] for key, p in encoder.named_parameters()
               if p.requires_grad and "resblocks" in key}  # fmt: skip
    assert trained == {"1"}


def test_a_local_folder_must_be_of_the_named_model(tiny):
    name, model, folder = tiny
    given = {"model_cfg": TINY_CLIP, "preprocess_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(given))
    encoder = ClipImageEncoder(name, f"local-dir:{folder}", 5)
    assert encoder.preprocessing.mean == (0.1, 0.1, 0.1) and encoder.preprocessing.size == 32
    assert torch.equal(encoder.network.conv1.weight, model.visual.conv1.weight)
    given["model_cfg"] = {**TINY_CLIP, "quick_gelu": True}
    (folder / "open_clip_config.json").write_text(json.dumps(given))
    with pytest.raises(InputError, match=r"another model than open_clip/.*quick_gelu differ"):
        ClipImageEncoder(name, f"local-dir:{folder}", 5)


def test_weights_of_another_model_are_refused_by_key(tiny, tmp_path):
    name, model, _ = tiny
    state = {k: v for k, v in model.state_dict().items() if k != "visual.proj"}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(
        InputError, match=r"weights\.pt: not the weights of this model.*visual\.proj"
    ):
        ClipImageEncoder(name, str(tmp_path / "weights.pt"), 5)
    torch.save({f"vision_model.{k}": v for k, v in state.items()}, tmp_path / "hf.pt")
    with pytest.raises(InputError, match=r"Hugging Face's form of CLIP"):
        ClipImageEncoder(name, str(tmp_path / "hf.pt"), 5)


@pytest.mark.parametrize("encoder", [ClipImageEncoder, ClipTextEncoder])
@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("ViT-L-14", "openai", r"trained with QuickGELU.*name=open_clip/ViT-L-14-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", r"with GELU.*name=open_clip/ViT-B-32\."),
        ("ViT-B-16-SigLIP", "webli", r"ViT-B-16-SigLIP: its text tower .*transformers"),
        ("coca_ViT-B-32", "none", "CoCa has no towers"),
        ("ViT-L-41", "none", r"there is no model 'ViT-L-41'\. Did you mean .*ViT-L-14"),
        ("ViT-B-32", "nosuch", r"'nosuch' is neither a file nor one of .*laion2b"),
    ],
)
def test_what_would_give_wrong_features_is_refused_before_it_is_built(
    encoder, name, weights, message
):
    with pytest.raises(InputError, match=message):
        encoder.check(name, weights)


def test_default_weights_have_the_activation_of_the_name():
    for name in ("ViT-L-14", "ViT-L-14-quickgelu", "ViT-B-32", "ViT-B-32-quickgelu"):
        ClipImageEncoder.check(name, "DEFAULT")
    with pytest.raises(InputError, match="name=open_clip/RN50-quickgelu"):
        ClipImageEncoder.check("RN50", "DEFAULT")


def test_words_instead_of_tokens_are_told(tiny):
    encoder = ClipTextEncoder(tiny[0], "none", 5)
    for text in (None, ["a"], torch.zeros(2, 150)):
        with pytest.raises(InputError, match="reads its own tokens"):
            encoder.read({"text": text})

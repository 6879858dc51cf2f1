"""timm's networks as encoders: weights, features, preprocessing, names."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from mmf_hm_concat.encoders.image_preprocessing import ImagePreprocessing
from mmf_hm_concat.encoders.timm_networks import TimmEncoder
from mmf_hm_concat.errors import InputError

HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", 64), ("tf_efficientnet_lite0", 64), ("mobilenetv3_small_050", 64),
     ("vit_tiny_patch16_224", 224)],
)  # fmt: skip
def test_weights_of_a_whole_network_fill_all_but_the_head(tmp_path, name, size):
    whole = timm.create_model(name, pretrained=False).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    encoder = TimmEncoder(name, str(tmp_path / "weights.pth"), 7, "all").train()
    image = torch.randn(2, 3, size, size)
    expected = whole.forward_head(whole.forward_features(image), pre_logits=True)
    assert torch.allclose(encoder.features(image), expected, atol=1e-5)
    assert torch.equal(encoder(image), encoder.project(encoder.features(image)))
    assert encoder(image).shape == (2, 7)
    trained = [key for key, p in encoder.named_parameters() if p.requires_grad]
    assert trained == ["projection.weight", "projection.bias"]


def test_a_local_folder_brings_its_own_preprocessing(tmp_path):
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    given = {"mean": HALF, "std": HALF, "interpolation": "bicubic", "input_size": [3, 288, 288]}
    config = {"architecture": "resnet18", "pretrained_cfg": given}
    (tmp_path / "config.json").write_text(json.dumps(config))
    folder = f"local-dir:{tmp_path}"
    wanted = ImagePreprocessing(HALF, HALF, "bicubic", size=288)
    assert TimmEncoder.preprocessing_of("resnet18", folder) == wanted
    encoder = TimmEncoder("resnet18", folder, 3)
    assert encoder.preprocessing == wanted
    assert torch.equal(encoder.network.conv1.weight, state["conv1.weight"])
    with pytest.raises(InputError, match=r"weights of resnet18, but .* is timm/resnet34"):
        TimmEncoder("resnet34", folder, 3)


def test_preprocessing_is_of_the_weights_tag():
    default = TimmEncoder.preprocessing_of("tf_efficientnet_lite0", "DEFAULT")
    assert default == ImagePreprocessing(HALF, HALF, "bicubic")
    large = TimmEncoder.preprocessing_of("vit_base_patch16_384.augreg_in21k_ft_in1k", "none")
    assert (large.size, large.smallest) == (384, None)


def test_identity_follows_the_frozen_weights_but_not_the_head():
    torch.manual_seed(0)
    one = TimmEncoder("resnet18", "none", 4, "all")
    before = one.identity()
    assert before.startswith(f"timm {timm.__version__} resnet18 ")
    one.projection.weight.data.add_(1)
    assert one.identity() == before
    one.network.conv1.weight.data[0, 0, 0, 0] += 1
    assert one.identity() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet81", "none", 3), r"timm/resnet81: there is no network .*Did you mean .*resnet18"),
        (("resnet18.a9", "none", 3), r"there is no tag of weights 'a9'\. .*a1_in1k"),
        (("resnet18", "nowhere.pth", 3), r"nowhere\.pth: neither a safetensors file nor"),
        (("resnet18", "none", 3, {"until": "layer9"}), "no stage 'layer9'. It has conv1"),
        (("resnet18", "local-dir:/nowhere", 3), r"/nowhere/config\.json cannot be read"),
    ],
)
def test_wrong_values_name_the_key_and_what_is_near(arguments, message):
    with pytest.raises(InputError, match=message):
        TimmEncoder(*arguments)


def test_a_missing_file_is_told_before_anything_is_built():
    with pytest.raises(InputError, match=r"'nowhere\.pth' is neither a file nor one of .*a1_in1k"):
        TimmEncoder.check("resnet18", "nowhere.pth")


def test_weights_that_cannot_be_had_name_the_folder_to_make(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"resnet18.* could not be had .*local-dir:FOLDER"):
        TimmEncoder("resnet18", "DEFAULT", 3)

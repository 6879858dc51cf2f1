"""Torchvision's networks as encoders: weights, what is frozen, what they want of an image."""

import pytest
import torch
from torchvision import models

from mmf_hm_concat.encoders.image_preprocessing import IMAGENET, ImagePreprocessing
from mmf_hm_concat.encoders.torchvision_networks import TorchvisionEncoder
from mmf_hm_concat.errors import InputError

FAMILIES = ["resnet18", "convnext_tiny", "efficientnet_b0", "vit_b_32", "swin_t"]


@pytest.mark.parametrize("name", FAMILIES)
def test_pretrained_weights_fill_all_but_the_head(name, tmp_path):
    published = models.get_model(name, weights=None)
    torch.save(published.state_dict(), tmp_path / "weights.pth")
    encoder = TorchvisionEncoder(name, str(tmp_path / "weights.pth"), out_features=11)
    own, theirs = encoder.network.state_dict(), published.state_dict()
    differing = [key for key in own if not torch.equal(own[key], theirs[key])]
    assert len(differing) == 2 and own[differing[0]].shape[0] == 11
    output = encoder(torch.randn(2, 3, 224, 224))
    assert output.shape == (2, 11)
    output.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_weights_of_another_network_are_refused_by_key(tmp_path):
    torch.save(models.resnet34(weights=None).state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(InputError, match=r"resnet34.pth: not the weights of this network.*layer"):
        TorchvisionEncoder("resnet18", str(tmp_path / "resnet34.pth"), 5)


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth"):
        TorchvisionEncoder("resnet18", str(tmp_path / "evil.pth"), 5)
    assert not (tmp_path / "ran").exists()


def test_unreachable_weights_name_the_file_to_put(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    with pytest.raises(InputError, match=r"put the file of https://.*resnet152.*\.pth"):
        TorchvisionEncoder("resnet152", "DEFAULT", 5)


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("none", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"}),
        ("all", {"fc"}),
        ({"until": "layer3"}, {"layer3", "layer4", "fc"}),
    ],
)
def test_freeze(freeze, trained):
    encoder = TorchvisionEncoder("resnet18", "none", 5, freeze)
    names = {n.split(".")[0] for n, p in encoder.network.named_parameters() if p.requires_grad}
    assert names == trained


def test_frozen_batch_norms_keep_their_statistics():
    encoder = TorchvisionEncoder("resnet18", "none", 5, "bn").train()
    before = encoder.network.bn1.running_mean.clone()
    encoder(torch.randn(3, 3, 64, 64))
    assert torch.equal(encoder.network.bn1.running_mean, before)
    assert encoder.network.conv1.weight.requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet19", "none", 5), "no network 'resnet19'"),
        (("resnet18", "nowhere.pth", 5), "'nowhere.pth' is neither a file nor one of"),
        (("resnet18", "none", 5, {"until": "layer9"}), "no stage 'layer9'. It has conv1"),
        (("resnet18", "none", 5, "some"), "'some' is not none, all, bn"),
    ],
)
def test_wrong_settings_name_the_key_and_the_choices(arguments, message):
    with pytest.raises(InputError, match=message):
        TorchvisionEncoder(*arguments)


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [
        ("resnet152", "DEFAULT", IMAGENET),
        ("resnet18", "none", IMAGENET),
        ("resnet18", None, IMAGENET),
        ("efficientnet_v2_l", "some/file.pth", IMAGENET),
        (
            "efficientnet_v2_l",
            "DEFAULT",
            ImagePreprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic"),
        ),
    ],
)
def test_published_weights_say_what_they_want_of_an_image(name, weights, expected):
    assert TorchvisionEncoder.preprocessing_of(name, weights) == expected


def test_all_published_weights_are_understood():
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name).__members__:
            wanted = TorchvisionEncoder.preprocessing_of(name, weights)
            assert wanted.interpolation in ("bilinear", "bicubic") and len(wanted.mean) == 3


def test_an_encoder_keeps_the_preprocessing_of_its_weights(monkeypatch):
    published = models.get_model_weights("efficientnet_b0").DEFAULT
    state = models.get_model("efficientnet_b0", weights=None).state_dict()
    monkeypatch.setattr(type(published), "get_state_dict", lambda *args, **kwargs: state)
    wanted = TorchvisionEncoder("efficientnet_b0", "DEFAULT", 5).preprocessing
    assert wanted == ImagePreprocessing(IMAGENET.mean, IMAGENET.std, "bicubic")

"""The fusion network and its encoders: shapes, what each branch contributes, what is frozen."""

import pytest
import torch
from torch import nn

from mmf_hm_concat.encoders.base import ProjectedEncoder
from mmf_hm_concat.encoders.torchvision_networks import VisionEncoder
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.models.build import build_network
from mmf_hm_concat.models.fusion import LanguageAndVisionConcat, Standardize

SETTINGS = {
    "language": {"in_features": 7, "out_features": 5},
    "vision": {"name": "resnet18", "weights": "none", "freeze": "none", "out_features": 6},
    "standardize_text": True,
    "fusion_features": 4,
    "dropout": 0.1,
}
TEXT, IMAGE = torch.randn(3, 7), torch.randn(3, 3, 64, 64)


@pytest.fixture(autouse=True)
def same_weights_every_time():
    """Four fusion units may all be silent, and then nothing tells one input from another."""
    torch.manual_seed(0)


def test_logits_depend_on_both_modalities():
    network = build_network(SETTINGS).eval()
    logits = network(TEXT, IMAGE)
    assert logits.shape == (3, 2)
    assert not torch.allclose(logits, network(TEXT + 1, IMAGE))
    assert not torch.allclose(logits, network(TEXT, IMAGE.flip(3) + 1))


@pytest.mark.parametrize("left_out", ["language", "vision"])
def test_one_branch_makes_a_single_modality_model(left_out):
    network = build_network({**SETTINGS, left_out: None}).eval()
    text = None if left_out == "language" else TEXT
    image = None if left_out == "vision" else IMAGE
    assert network(text, image).shape == (3, 2)
    assert network.fusion.in_features == (6 if left_out == "language" else 5)


def test_no_branch_is_refused():
    with pytest.raises(InputError, match="both null"):
        build_network({**SETTINGS, "language": None, "vision": None})


def test_language_comes_first_in_the_concatenation():
    network = LanguageAndVisionConcat(nn.Identity(), nn.Identity(), 2, 1, fusion_dim=1, dropout=0.0)
    with torch.no_grad():
        network.fusion.weight.copy_(torch.tensor([[1.0, 10.0, 100.0]]))
        network.fusion.bias.zero_()
        network.classifier.weight.copy_(torch.tensor([[1.0], [0.0]]))
        network.classifier.bias.zero_()
    logits = network(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]))
    assert logits[0, 0].item() == 1 + 20 + 300


def test_standardize_removes_mean_and_scale_and_travels_in_the_state_dict():
    vectors = torch.randn(500, 7) * torch.arange(1, 8) + 100
    layer = Standardize(7)
    assert torch.equal(layer(vectors), vectors)
    layer.set_statistics(vectors.mean(0), vectors.std(0, unbiased=False))
    assert layer(vectors).mean(0).abs().max() < 1e-4
    assert (layer(vectors).std(0, unbiased=False) - 1).abs().max() < 1e-4
    assert set(layer.state_dict()) == {"mean", "std"}


def test_a_text_without_words_is_the_mean_text():
    layer = Standardize(7)
    layer.set_statistics(torch.full((7,), 0.3), torch.full((7,), 0.01))
    vectors = torch.stack([torch.zeros(7), torch.full((7,), 0.31)])
    assert torch.equal(layer(vectors)[0], torch.zeros(7))
    assert torch.allclose(layer(vectors)[1], torch.ones(7))


def test_logits_are_float32_and_fine_grained_under_autocast():
    network = build_network(SETTINGS).eval()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        logits = network(TEXT, IMAGE)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


FAMILIES = ["resnet18", "convnext_tiny", "efficientnet_b0", "vit_b_32", "swin_t"]


@pytest.mark.parametrize("name", FAMILIES)
def test_pretrained_weights_fill_all_but_the_head(name, tmp_path):
    from torchvision import models

    published = models.get_model(name, weights=None)
    torch.save(published.state_dict(), tmp_path / "weights.pth")
    encoder = VisionEncoder(name, str(tmp_path / "weights.pth"), out_features=11)
    own, theirs = encoder.network.state_dict(), published.state_dict()
    differing = [key for key in own if not torch.equal(own[key], theirs[key])]
    assert len(differing) == 2 and own[differing[0]].shape[0] == 11
    output = encoder(torch.randn(2, 3, 224, 224))
    assert output.shape == (2, 11)
    output.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_weights_of_another_network_are_refused_by_key(tmp_path):
    from torchvision import models

    torch.save(models.resnet34(weights=None).state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(InputError, match=r"resnet34.pth: not the weights of this network.*layer"):
        VisionEncoder("resnet18", str(tmp_path / "resnet34.pth"), 5)


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth"):
        VisionEncoder("resnet18", str(tmp_path / "evil.pth"), 5)
    assert not (tmp_path / "ran").exists()


def test_unreachable_weights_name_the_file_to_put(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    with pytest.raises(InputError, match=r"put the file of https://.*resnet152.*\.pth"):
        VisionEncoder("resnet152", "DEFAULT", 5)


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("none", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"}),
        ("all", {"fc"}),
        ({"until": "layer3"}, {"layer3", "layer4", "fc"}),
    ],
)
def test_freeze(freeze, trained):
    encoder = VisionEncoder("resnet18", "none", 5, freeze)
    names = {n.split(".")[0] for n, p in encoder.network.named_parameters() if p.requires_grad}
    assert names == trained


def test_frozen_batch_norms_keep_their_statistics():
    encoder = VisionEncoder("resnet18", "none", 5, "bn").train()
    before = encoder.network.bn1.running_mean.clone()
    encoder(IMAGE)
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
        VisionEncoder(*arguments)


class Pooling(nn.Module):
    """As a transformer: (sequence, pooled) of token numbers and their mask."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.normed = nn.BatchNorm1d(4)

    def forward(self, tokens, mask):
        sequence = self.words(tokens)
        return sequence, self.normed((sequence * mask[..., None]).sum(1))


TOKENS = (torch.randint(9, (3, 5)), torch.ones(3, 5))


def foreign(freeze="none", in_features=4):
    language = {
        **SETTINGS["language"],
        "mmf_encoder": {"type": "some"},
        "in_features": in_features,
        "freeze": freeze,
    }
    return build_network({**SETTINGS, "language": language}, {"language": Pooling()})


def test_a_foreign_text_encoder_is_projected_and_trained():
    network = foreign()
    logits = network(TOKENS, IMAGE)
    assert logits.shape == (3, 2)
    logits.sum().backward()
    assert network.language_module.network.words.weight.grad.abs().sum() > 0


def test_a_frozen_foreign_encoder_trains_its_projection_only():
    encoder = foreign("all").train().language_module
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert trained == {"projection.weight", "projection.bias"}
    assert not encoder.network.normed.training
    assert len(encoder.pretrained_parameters()) == 3


def test_an_image_encoder_may_give_any_shape():
    encoder = ProjectedEncoder("vision", nn.Identity(), 3 * 64 * 64, 5)
    assert encoder(IMAGE).shape == (3, 5)


@pytest.mark.parametrize(
    ("in_features", "message"),
    [
        (None, r"language\.in_features: say how many numbers"),
        (6, r"gives 4 numbers a meme, but .*language\.in_features is 6"),
    ],
)
def test_the_size_of_a_foreign_encoder_is_never_guessed(in_features, message):
    with pytest.raises(InputError, match=message):
        foreign(in_features=in_features)(TOKENS, IMAGE)


def test_an_encoder_of_mmf_needs_mmf():
    vision = {**SETTINGS["vision"], "mmf_encoder": {"type": "resnet152"}, "in_features": 2048}
    with pytest.raises(InputError, match=r"vision\.mmf_encoder: .*use mmf_predict"):
        build_network({**SETTINGS, "vision": vision})

"""The network and how it is built: what each branch contributes, keys, encoders of MMF."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import mmf_hm_concat
from mmf_hm_concat.encoders.base import ProjectedEncoder
from mmf_hm_concat.encoders.sentence_vectors import SentenceVectorEncoder
from mmf_hm_concat.encoders.torchvision_networks import TorchvisionEncoder
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.models.build import build_network
from mmf_hm_concat.models.fusions import Concat
from mmf_hm_concat.models.network import FusionNetwork, LanguageAndVisionConcat, MLPHead

DEFAULTS = Path(mmf_hm_concat.__file__).parent / "configs/models/concat_vl.yaml"
CONFIG = yaml.safe_load(DEFAULTS.read_text())["model_config"]["concat_vl"]
CONFIG["language"].update(in_features=7, out_features=5)
CONFIG["vision"].update(name="resnet18", weights="none", out_features=6)
CONFIG["fusion_features"] = 4
TEXT, IMAGE = torch.randn(3, 7), torch.randn(3, 3, 64, 64)


@pytest.fixture(autouse=True)
def same_weights_every_time():
    """Four fusion units may all be silent, and then nothing tells one input from another."""
    torch.manual_seed(0)


def changed(**keys):
    """The config with other values: `changed(fusion="cross", vision__out_features=5)`."""
    config = copy.deepcopy(CONFIG)
    for key, value in keys.items():
        *groups, name = key.split("__")
        group = config[groups[0]] if groups else config
        group[name] = value
    return config


def test_logits_depend_on_both_modalities():
    network = build_network(CONFIG).eval()
    logits = network(TEXT, IMAGE)
    assert logits.shape == (3, 2)
    assert not torch.allclose(logits, network(TEXT + 1, IMAGE))
    assert not torch.allclose(logits, network(TEXT, IMAGE.flip(3) + 1))


@pytest.mark.parametrize("left_out", ["language", "vision"])
def test_one_branch_makes_a_single_modality_model(left_out):
    network = build_network(changed(**{left_out: None})).eval()
    text = None if left_out == "language" else TEXT
    image = None if left_out == "vision" else IMAGE
    assert network(text, image).shape == (3, 2)
    assert network.fusion.out_features == (6 if left_out == "language" else 5)


def test_no_branch_is_refused():
    with pytest.raises(InputError, match="both null"):
        build_network(changed(language=None, vision=None))


def test_language_comes_first_in_the_concatenation():
    network = LanguageAndVisionConcat(2, nn.Identity(), nn.Identity(), 2, 1, 1, 0.0)
    with torch.no_grad():
        network.head.hidden[0].weight.copy_(torch.tensor([[1.0, 10.0, 100.0]]))
        network.head.hidden[0].bias.zero_()
        network.head.classifier.weight.copy_(torch.tensor([[1.0], [0.0]]))
        network.head.classifier.bias.zero_()
    logits = network(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]))
    assert logits[0, 0].item() == 1 + 20 + 300


def test_the_default_config_is_the_benchmarks_model():
    torch.manual_seed(0)
    built = build_network(CONFIG)
    torch.manual_seed(0)
    benchmark = LanguageAndVisionConcat(
        num_classes=2,
        language_module=SentenceVectorEncoder(7, 5, True),
        vision_module=TorchvisionEncoder("resnet18", "none", 6),
        language_feature_dim=5,
        vision_feature_dim=6,
        fusion_output_size=4,
        dropout_p=0.1,
    )
    ours, theirs = built.state_dict(), benchmark.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    torch.manual_seed(1)
    logits = built(TEXT, IMAGE)
    torch.manual_seed(1)
    assert torch.equal(benchmark(TEXT, IMAGE), logits)


def test_any_modules_make_a_network():
    network = FusionNetwork(nn.Linear(7, 2), nn.Flatten(), Concat([2, 12288]), nn.Linear(12290, 3))
    assert network(TEXT, IMAGE).shape == (3, 3)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_head_has_as_many_layers_as_asked_for(layers):
    network = build_network(changed(head_layers=layers, num_classes=5))
    assert [layer.out_features for layer in network.head.hidden] == [4] * layers
    assert network(TEXT, IMAGE).shape == (3, 5)


def test_each_dropout_works_in_its_place_while_training_only():
    ones = torch.ones(1000, 8)
    head = MLPHead(8, 8, num_layers=0, input_dropout=0.5, num_classes=8)
    head.classifier = nn.Identity()
    network = FusionNetwork(nn.Identity(), None, Concat([8]), head, projection_dropout=0.5)
    assert (network(ones, None) == 0).float().mean().item() == pytest.approx(0.75, abs=0.05)
    assert torch.equal(network.eval()(ones, None), ones)


def test_hate_clippers_head_is_a_config():
    network = build_network(
        changed(
            language__out_features=16,
            vision__out_features=16,
            projection_dropout=0.2,
            fusion="product",
            fusion_dropout=0.4,
            head_layers=2,
            fusion_features=16,
            dropout=0.1,
        )
    )
    assert network.projection_dropout.p == 0.2
    assert network.head.input_dropout.p == 0.4
    assert network.head.dropout.p == 0.1
    assert [layer.in_features for layer in network.head.hidden] == [16, 16]
    assert network(TEXT, IMAGE).shape == (3, 2)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"fusion": "sum"},
            r"fusion: 'sum' is not one of concat, concat_normalized, product, cross",
        ),
        ({"language__encoder": "bert"}, r"language\.encoder: 'bert' is not one of sentence_vector"),
        ({"vision__encoder": "tim"}, r"vision\.encoder: 'tim' is not one of torchvision, timm"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_key(keys, message):
    with pytest.raises(InputError, match=message):
        build_network(changed(**keys))


def test_logits_are_float32_and_fine_grained_under_autocast():
    network = build_network(CONFIG).eval()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        logits = network(TEXT, IMAGE)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


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
        **CONFIG["language"],
        "mmf_encoder": {"type": "some"},
        "in_features": in_features,
        "freeze": freeze,
    }
    return build_network({**CONFIG, "language": language}, {"language": Pooling()})


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
    vision = {**CONFIG["vision"], "mmf_encoder": {"type": "resnet152"}, "in_features": 2048}
    with pytest.raises(InputError, match=r"vision\.mmf_encoder: .*use mmf_predict"):
        build_network({**CONFIG, "vision": vision})

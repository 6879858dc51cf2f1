"""Each fusion: its arithmetic, and the widths that it refuses."""

import pytest
import torch

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.models.fusions import FUSIONS, Concat, ConcatNormalized, Cross, Product

LANGUAGE, VISION = torch.tensor([[3.0, -4.0]]), torch.tensor([[0.0, 2.0]])


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_gives_what_it_promises_and_passes_gradients_to_both_branches(name):
    fusion = FUSIONS[name]([5, 5])
    given = [torch.randn(3, 5, requires_grad=True) for _ in range(2)]
    fused = fusion(*given)
    assert fused.shape == (3, fusion.out_features)
    fused.square().sum().backward()
    assert all(feature.grad.abs().sum() > 0 for feature in given)


def test_concat_is_relu_then_side_by_side():
    assert Concat([2, 2])(LANGUAGE, VISION).tolist() == [[3, 0, 0, 2]]
    assert Concat([2])(LANGUAGE).tolist() == [[3, 0]]


def test_concat_normalized_is_of_features_of_length_one():
    found = ConcatNormalized([2, 2])(LANGUAGE, VISION)
    assert torch.allclose(found, torch.tensor([[0.6, -0.8, 0.0, 1.0]]))


def test_product_is_of_features_of_length_one():
    assert torch.allclose(Product([2, 2])(LANGUAGE, VISION), torch.tensor([[0.0, -0.8]]))


def test_cross_is_the_outer_product_language_first():
    expected = torch.tensor([[0.0, 0.6, 0.0, -0.8]])
    assert torch.allclose(Cross([2, 2])(LANGUAGE, VISION), expected)
    assert Cross([3, 2]).out_features == 6


@pytest.mark.parametrize("name", ["product", "cross"])
def test_a_branch_of_zeros_gives_zeros_not_nan(name):
    assert (FUSIONS[name]([2, 2])(LANGUAGE, torch.zeros(1, 2)) == 0).all()


@pytest.mark.parametrize(
    ("name", "widths", "message"),
    [
        ("product", [300, 200], r"language\.out_features is 300, vision\.out_features 200"),
        ("product", [300], "product needs both branches"),
        ("cross", [300], "cross needs both branches"),
        (
            "cross",
            [1024, 1024],
            r"1024 x 1024 = 1,048,576 numbers .* at most 262,144 .*language\.out_features",
        ),
    ],
)
def test_widths_that_do_not_fit_are_refused_by_key(name, widths, message):
    with pytest.raises(InputError, match=message):
        FUSIONS[name](widths)

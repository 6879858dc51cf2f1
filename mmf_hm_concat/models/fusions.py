"""Fusions: the branches' features in, one vector a meme out. `FUSIONS` names them for the YAML.

A fusion is a module made from the widths of the features, language first, with the attribute
``out_features``. It takes float32 (B, width) of each branch, and gives float32 (B, out_features).

Shapes: B memes, D numbers in a feature.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmf_hm_concat.errors import InputError

# Of a flattened outer product: 67 million weights in a head layer of 256.
MAX_CROSS = 512 * 512


class Concat(nn.Module):
    """ReLU of each feature, then all of them side by side: the benchmark's mid-level fusion."""

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.out_features = sum(widths)

    def forward(self, *features_BD: Tensor) -> Tensor:
        return torch.cat([torch.relu(feature) for feature in features_BD], dim=1)


class ConcatNormalized(nn.Module):
    """Each feature scaled to length 1, then all of them side by side; "concat" in Hate-CLIPper."""

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.out_features = sum(widths)

    def forward(self, *features_BD: Tensor) -> Tensor:
        return torch.cat([nn.functional.normalize(feature) for feature in features_BD], dim=1)


class Product(nn.Module):
    """Element-wise product of two features of length 1; "align" in Hate-CLIPper.

    Raises:
        InputError: one branch only, or branches of different widths.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        _check_two("product", widths)
        if widths[0] != widths[1]:
            raise InputError(
                "model_config.concat_vl.fusion: product needs branches of the same width; "
                f"language.out_features is {widths[0]}, vision.out_features {widths[1]}. "
                "Make them the same."
            )
        self.out_features = widths[0]

    def forward(self, language_BD: Tensor, vision_BD: Tensor) -> Tensor:
        return nn.functional.normalize(language_BD) * nn.functional.normalize(vision_BD)


class Cross(nn.Module):
    """Every number of the one feature times every number of the other, each of length 1.

    Raises:
        InputError: one branch only, or a product of more than `MAX_CROSS` numbers.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        _check_two("cross", widths)
        self.out_features = widths[0] * widths[1]
        if self.out_features > MAX_CROSS:
            raise InputError(
                f"model_config.concat_vl.fusion: cross makes {widths[0]} x {widths[1]} = "
                f"{self.out_features:,} numbers of a meme; at most {MAX_CROSS:,} are allowed. "
                "Lower language.out_features and vision.out_features (32 is usual)."
            )

    def forward(self, language_BD: Tensor, vision_BD: Tensor) -> Tensor:
        language_BD = nn.functional.normalize(language_BD)
        vision_BD = nn.functional.normalize(vision_BD)
        return (language_BD[:, :, None] * vision_BD[:, None, :]).flatten(1)


def _check_two(fusion: str, widths: Sequence[int]) -> None:
    if len(widths) != 2:
        raise InputError(
            f"model_config.concat_vl.fusion: {fusion} needs both branches, but language or vision "
            "is null. Use concat."
        )


FUSIONS: dict[str, type[nn.Module]] = {
    "concat": Concat,
    "concat_normalized": ConcatNormalized,
    "product": Product,
    "cross": Cross,
}

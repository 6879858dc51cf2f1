"""The network: an encoder for each modality, a fusion, a head; and the benchmark's own.

Shapes: B memes, D numbers in a feature, C classes.
"""

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from mmf_hm_concat.encoders.base import Encoder
from mmf_hm_concat.models.fusions import Concat

NOTHING: Mapping[str, Tensor] = MappingProxyType({})


class FusionNetwork(nn.Module):
    """Encode each modality, fuse the features, classify.

    Args:
        language_module: whatever a text encoder takes, a tensor or a tuple of them -> float
            (B, D); or None for an image-only model.
        vision_module: (B, 3, H, W) float -> float (B, D); or None for a text-only model.
        fusion: the features, language first -> float (B, D'); see `models.fusions`.
        head: (B, D') -> logits (B, C).
        projection_dropout: probability of dropping a number of a feature before the fusion.
    """

    # Modules or None; encoders have more than nn.Module knows: `preprocessing`, `read`.
    language_module: Any
    vision_module: Any

    def __init__(
        self,
        language_module: nn.Module | None,
        vision_module: nn.Module | None,
        fusion: nn.Module,
        head: nn.Module,
        projection_dropout: float = 0.0,
    ):
        super().__init__()
        self.language_module = language_module
        self.vision_module = vision_module
        self.projection_dropout = nn.Dropout(projection_dropout)
        self.fusion = fusion
        self.head = head

    def forward(
        self,
        text: Tensor | tuple[Tensor, ...] | None,
        image_B3HW: Tensor | None,
        kept: Mapping[str, Tensor] = NOTHING,
    ) -> Tensor:
        """Logits, float (B, C), for the softmax inside cross-entropy; the absent may be None.

        Args:
            kept: by branch ("language", "vision"), in place of its input, the features that are
                known beforehand: what the branch's `project` takes.
        """
        return self.classify(self.encode(text, image_B3HW, kept))

    def encode(
        self,
        text: Tensor | tuple[Tensor, ...] | None,
        image_B3HW: Tensor | None,
        kept: Mapping[str, Tensor] = NOTHING,
    ) -> list[Tensor]:
        """The feature of each branch that the network has, language first, float (B, D)."""
        branches = (
            ("language", self.language_module, text),
            ("vision", self.vision_module, image_B3HW),
        )
        return [
            module.project(kept[branch]) if branch in kept else module(given)
            for branch, module, given in branches
            if module is not None
        ]

    def frozen_encoders(self) -> dict[str, Encoder]:
        """By branch, the encoders of which nothing but the head is trained."""
        branches = {"language": self.language_module, "vision": self.vision_module}
        return {
            branch: module
            for branch, module in branches.items()
            if isinstance(module, Encoder) and module.is_frozen
        }

    def frozen_weights(self) -> dict[str, Tensor]:
        """What training leaves as it is of wholly frozen encoders, by its name in `state_dict`."""
        return {
            f"{branch}_module.{key}": weight
            for branch, encoder in self.frozen_encoders().items()
            for key, weight in encoder.frozen_weights().items()
        }

    def classify(self, features: list[Tensor]) -> Tensor:
        """Logits, float32 (B, C), of what `encode` gives."""
        device = features[0].device.type
        if torch.is_autocast_enabled(device):
            # bfloat16 logits have 8 bits: memes would tie. These few products stay in float32.
            with torch.autocast(device, enabled=False):
                return self.head(self.fuse(features))
        return self.head(self.fuse(features))

    def fuse(self, features: list[Tensor]) -> Tensor:
        """The fused feature, float32 (B, D'), of what `encode` gives."""
        return self.fusion(*[self.projection_dropout(feature.float()) for feature in features])


class MLPHead(nn.Module):
    """Dropout, then ``num_layers`` times Linear -> ReLU -> Dropout, then the logits.

    Args:
        in_features: what the fusion gives.
        hidden_features: width of each layer.
        num_layers: from 0 on.
        dropout: after each layer, a probability in [0, 1).
        input_dropout: before the first layer, likewise.
        num_classes: C.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        num_layers: int = 1,
        dropout: float = 0.1,
        input_dropout: float = 0.0,
        num_classes: int = 2,
    ):
        super().__init__()
        widths = [in_features] + [hidden_features] * num_layers
        self.input_dropout = nn.Dropout(input_dropout)
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, fused_BD: Tensor) -> Tensor:
        hidden_BD = self.input_dropout(fused_BD)
        for layer in self.hidden:
            hidden_BD = self.dropout(torch.relu(layer(hidden_BD)))
        return self.classifier(hidden_BD)


class LanguageAndVisionConcat(FusionNetwork):
    """The Hateful Memes benchmark's model (2020), with the arguments of its tutorial.

    Each module is followed by a ReLU; both are concatenated, language first, and go through
    Linear -> ReLU -> Dropout -> Linear. The loss is not part of it.

    Args:
        num_classes: 2 in the benchmark, benign and hateful.
        language_module, vision_module: see `FusionNetwork`.
        language_feature_dim, vision_feature_dim: what the modules give, 300 each in the benchmark.
        fusion_output_size: width of the layer between concatenation and logits, 256.
        dropout_p: 0.1.
    """

    def __init__(
        self,
        num_classes: int,
        language_module: nn.Module | None,
        vision_module: nn.Module | None,
        language_feature_dim: int,
        vision_feature_dim: int,
        fusion_output_size: int,
        dropout_p: float,
    ):
        branches = (language_module, language_feature_dim), (vision_module, vision_feature_dim)
        fusion = Concat([width for module, width in branches if module is not None])
        head = MLPHead(
            fusion.out_features, fusion_output_size, dropout=dropout_p, num_classes=num_classes
        )
        super().__init__(language_module, vision_module, fusion, head)

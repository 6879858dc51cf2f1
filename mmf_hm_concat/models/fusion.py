"""The model: mid-level concat fusion of a sentence vector and an image feature.

Shapes: B memes, L numbers in a sentence vector, C classes.
"""

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Shift and scale each dimension of the sentence vectors to mean 0 and deviation 1.

    A text without words, whose vector is all zeros, becomes the mean text: scaled like the others,
    it would lie far outside of anything seen in training, and drown the image.

    Sentence vectors of a fastText model fitted on a few thousand short texts are nearly the
    same vector with a small remainder, and it is the remainder that tells texts apart: beside
    image features of unit scale, a fusion layer ignores it unless it is scaled up.

    Args:
        dim: L. The statistics are buffers, so they travel with the checkpoint; until
            `set_statistics` (or a checkpoint) fills them, the module changes nothing.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take the training split's mean and standard deviation, float (L,), std > 0."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, text_BL: Tensor) -> Tensor:
        has_words = (text_BL != 0).any(dim=1, keepdim=True)
        return (text_BL - self.mean) / self.std * has_words


class LanguageAndVisionConcat(nn.Module):
    """Encode each modality, concatenate, fuse, classify (Hateful Memes benchmark, 2020).

    Each branch is its module followed by a ReLU; their outputs are concatenated, language
    first, and go through Linear -> ReLU -> Dropout -> Linear. A branch left out gives the
    single-modality model.

    Args:
        language_module: (B, L) float, or whatever tensors a text encoder takes, as a tuple ->
            (B, language_dim); or None for an image-only model.
        vision_module: (B, 3, H, W) float -> (B, vision_dim), or None for a text-only model.
        language_dim, vision_dim: what the modules give, 300 each in the benchmark.
        fusion_dim: width of the fusion layer, 256 in the benchmark.
        dropout: probability in [0, 1), 0.1 in the benchmark.
        classes: C, 2 for benign and hateful.
    """

    def __init__(
        self,
        language_module: nn.Module | None,
        vision_module: nn.Module | None,
        language_dim: int = 300,
        vision_dim: int = 300,
        fusion_dim: int = 256,
        dropout: float = 0.1,
        classes: int = 2,
    ):
        super().__init__()
        self.language_module = language_module
        self.vision_module = vision_module
        width = (language_dim if language_module else 0) + (vision_dim if vision_module else 0)
        self.fusion = nn.Linear(width, fusion_dim)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(fusion_dim, classes)

    def forward(
        self, text_BL: Tensor | tuple[Tensor, ...] | None, image_B3HW: Tensor | None
    ) -> Tensor:
        """Logits, float (B, C), for the softmax inside cross-entropy; the absent may be None."""
        features = []
        if self.language_module is not None:
            features.append(self.language_module(text_BL))
        if self.vision_module is not None:
            features.append(self.vision_module(image_B3HW))
        device = features[0].device.type
        if torch.is_autocast_enabled(device):
            # bfloat16 logits have 8 bits: memes would tie. These few products stay in float32.
            with torch.autocast(device, enabled=False):
                return self._fuse(features)
        return self._fuse(features)

    def _fuse(self, features: list[Tensor]) -> Tensor:
        joined = torch.cat([torch.relu(each.float()) for each in features], dim=1)
        fused = torch.relu(self.fusion(joined))
        return self.classifier(self.dropout(fused))

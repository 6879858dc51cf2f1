"""The text encoder of sentence vectors, which fastText makes: standardise, then project.

Shapes: B memes, L numbers in a sentence vector.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmf_hm_concat.config.check import unknown
from mmf_hm_concat.encoders.base import TextPreparation
from mmf_hm_concat.errors import InputError

# The `language.name` of vectors that the text processor makes.
PROCESSOR_MADE = "fasttext"


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

    mean: Tensor
    std: Tensor

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


class SentenceVectorEncoder(nn.Sequential):
    """Sentence vectors (B, L) float -> (B, out_features) float.

    Mixed precision leaves it in float32: few products, fine differences.

    Args:
        in_features: L.
        out_features: what the fusion gets.
        standardize: whether to put `Standardize` before the linear layer.
    """

    def __init__(self, in_features: int, out_features: int, standardize: bool):
        project = nn.Linear(in_features, out_features)
        super().__init__(Standardize(in_features) if standardize else nn.Identity(), project)
        self.in_features = in_features

    @classmethod
    def from_config(
        cls, name: str, language: Mapping[str, Any], standardize: bool
    ) -> "SentenceVectorEncoder":
        """As the keys of ``model_config.concat_vl.language`` say.

        Raises:
            InputError: there is no text encoder of that name.
        """
        cls.check(name, None)
        return cls(language["in_features"], language["out_features"], standardize)

    @classmethod
    def check(cls, name: str, weights: str | None) -> None:
        """Raise InputError if there is no text encoder of that name."""
        if name != PROCESSOR_MADE:
            known = (PROCESSOR_MADE, "wordllama", "open_clip/NAME")
            raise InputError(
                f"model_config.concat_vl.language.name: {unknown('text encoder', name, known)}"
            )

    @classmethod
    def preparation_of(cls, name: str) -> TextPreparation | None:
        """None: the data set's text processor makes the vectors."""
        return None

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Give `Standardize` the training texts' mean and deviation, float (L,) each.

        Raises:
            InputError: they are not of length L.
        """
        self._check_length(len(mean))
        if isinstance(self[0], Standardize):
            self[0].set_statistics(mean, std)

    def read(self, batch: Mapping[str, Any]) -> Tensor:
        """What `forward` takes, from a batch of the data set: its ``text``, float (B, L).

        Raises:
            InputError: the text processor gives something else, or vectors of another length.
        """
        text = batch.get("text")
        if not isinstance(text, Tensor):
            raise InputError(
                "The model reads sentence vectors, but the data set gives "
                f"{'no text' if text is None else 'words'}. Use the text processor "
                "fasttext_sentence_vector, a model_config.concat_vl.language.mmf_encoder that "
                "reads what yours gives, or model_config.concat_vl.language=null."
            )
        self._check_length(text.shape[-1])
        return text

    def _check_length(self, given: int) -> None:
        if given != self.in_features:
            raise InputError(
                f"The text processor gives sentence vectors of {given} numbers, the model "
                f"expects {self.in_features}. Make processors.text_processor.params.dim (or the "
                "model_file) and model_config.concat_vl.language.in_features the same."
            )

    def forward(self, text_BL: Tensor) -> Tensor:
        device = text_BL.device.type
        if not torch.is_autocast_enabled(device):
            return super().forward(text_BL)
        with torch.autocast(device, enabled=False):
            return super().forward(text_BL)

"""A branch without an encoder: `features_file` gives one vector for each meme."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmf_hm_concat.encoders.sentence_vectors import SentenceVectorEncoder
from mmf_hm_concat.errors import InputError


def width_in(state: Mapping[str, Any], branch: str) -> int | None:
    """L of the branch in a state dict of `concat_vl`; None where it has no `GivenFeatures`."""
    weight = state.get(f"network.{branch}_module.1.weight")
    return weight.shape[1] if isinstance(weight, Tensor) and weight.ndim == 2 else None


class GivenFeatures(SentenceVectorEncoder):
    """Vectors (B, L) float32 of any scale -> (B, out_features) float: standardised, projected.

    Args:
        branch: "language" or "vision".
        config: of the branch; its ``in_features`` is L.
        standardize: whether to scale each number by its mean and deviation over the training split.
    """

    def __init__(self, branch: str, config: Mapping[str, Any], standardize: bool):
        super().__init__(config["in_features"], config["out_features"], standardize)
        self.branch = branch

    def project(self, features_BL: Tensor) -> Tensor:
        """What the fusion gets of vectors that are known beforehand, as `Encoder.project`."""
        return self(features_BL)

    def read(self, batch: Mapping[str, Any]) -> Tensor:
        """Called for a batch without vectors; raises InputError."""
        raise InputError(
            f"model_config.concat_vl.{self.branch}.features_file: a data set of this run gives no "
            "vectors by id. Train and predict on hm_competition alone."
        )

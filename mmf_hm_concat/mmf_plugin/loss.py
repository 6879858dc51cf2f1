"""`weighted_cross_entropy`: cross-entropy that knows the data set's class weights."""

from typing import Any

import torch
from mmf.common.registry import registry
from torch import Tensor, nn


@registry.register_loss("weighted_cross_entropy")
class WeightedCrossEntropy(nn.Module):
    """Cross-entropy of the logits ``scores`` (B, C) against ``targets`` (B,), int64.

    Each class weighs what the builder registered for `balance: weights`; else all weigh the same.
    """

    def forward(self, sample_list: Any, model_output: dict[str, Tensor]) -> Tensor:
        scores = model_output["scores"].float()
        weights = registry.get(f"{sample_list.dataset_name}_class_weights", no_warning=True)
        if weights is not None:
            weights = torch.tensor(weights, device=scores.device)
        if weights is None:
            return nn.functional.cross_entropy(scores, sample_list.targets)
        # Not torch's weighted mean, which divides by the sum of a batch's weights: the parts of a
        # batch that several ranks have must add up to the whole. The weights' mean is 1.
        losses = nn.functional.cross_entropy(
            scores, sample_list.targets, weight=weights, reduction="none"
        )
        return losses.mean()

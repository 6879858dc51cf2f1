"""`weighted_cross_entropy`: cross-entropy that knows the data set's class weights."""

from typing import Any

import torch
from mmf.common.registry import registry
from torch import Tensor, nn

from mmf_hm_concat.mmf_plugin.shared import shared


@registry.register_loss("weighted_cross_entropy")
class WeightedCrossEntropy(nn.Module):
    """Cross-entropy of the logits ``scores`` (B, C) against ``targets`` (B,), int64.

    Each class weighs what the data set found for `balance: weights`; else all weigh the same.
    """

    def forward(self, sample_list: Any, model_output: dict[str, Tensor]) -> Tensor:
        scores = model_output["scores"].float()
        of_classes = shared().class_weights.get(sample_list.dataset_name)
        if of_classes is None:
            return nn.functional.cross_entropy(scores, sample_list.targets)
        weights = torch.tensor(of_classes, device=scores.device)
        # Not torch's weighted mean, which divides by the sum of a batch's weights: the parts of a
        # batch that several ranks have must add up to the whole. The weights' mean is 1.
        losses = nn.functional.cross_entropy(
            scores, sample_list.targets, weight=weights, reduction="none"
        )
        return losses.mean()

"""`freeze: all` in a run: the features of such a branch, before the first batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmf.utils.distributed import get_rank, get_world_size
from torch import nn

from mmf_hm_concat.encoders.feature_store import FeatureStore
from mmf_hm_concat.mmf_plugin.dataset import HMCompetitionDataset
from mmf_hm_concat.mmf_plugin.distributed import on_every_rank, on_first_rank
from mmf_hm_concat.models.network import FusionNetwork
from mmf_hm_concat.training.frozen_features import TEXTS_OR_IMAGES, frozen_features, identity_of

T = TypeVar("T")


class RanksOfRun:
    """See `training.frozen_features.Ranks`."""

    def on_first(self, work: Callable[[], T]) -> T:
        return on_first_rank(work)

    def share(self, work: Callable[[int, int], T]) -> list[T]:
        count = get_world_size()
        own = on_every_rank(lambda: work(get_rank(), count))
        if count == 1:
            return [own]
        parts: list[Any] = [None] * count
        torch.distributed.all_gather_object(parts, own)
        return parts


def use_frozen_features(
    model: nn.Module,
    datasets: list[Any],
    precision: str,
    device: torch.device,
    log: Callable[..., None],
) -> None:
    """Give the data sets the features of the model's frozen branches in place of their input.

    Args:
        model: `concat_vl` with its weights on ``device``; others have no such branches.
        datasets: of all splits; MMF's own stay as they are.
    """
    network = getattr(model, "network", None)
    encoders = network.frozen_encoders() if isinstance(network, FusionNetwork) else {}
    for branch, encoder in encoders.items():
        for dataset in datasets:
            if not isinstance(dataset, HMCompetitionDataset):
                continue
            name = f"{dataset.dataset_type} {TEXTS_OR_IMAGES[branch]}"
            inputs = dataset.inputs(branch)
            if inputs is None:
                why = "are augmented" if dataset.augment else "come from a processor of MMF"
                log(
                    f"The features of the {name} are computed anew in every epoch, although "
                    f"model_config.concat_vl.{branch}.freeze is all: they {why}.",
                    "warning",
                )
                continue
            store = None
            if dataset.config.image_cache != "off":
                identity = identity_of(encoder, inputs, precision, device)
                store = FeatureStore(Path(dataset.config.cache_dir).absolute(), identity)
            features, rows = frozen_features(
                encoder,
                inputs,
                store,
                precision,
                device,
                RanksOfRun(),
                f"computing features of {name}",
            )
            dataset.keep_features(branch, features, rows)

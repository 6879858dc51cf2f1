"""The loaders of a run: MMF's `MultiDatasetLoader`, with batches we can repeat and resume."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from mmf.common.batch_collator import BatchCollator
from mmf.datasets.multi_dataset_loader import MultiDatasetLoader
from mmf.utils.distributed import get_rank, get_world_size
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from mmf_hm_concat.training.batch_samplers import (
    EvalBatchSampler,
    TrainBatchSampler,
    dataset_order,
    evaluation_batch,
)
from mmf_hm_concat.utils.parallel import num_cores


class RepeatableLoader(MultiDatasetLoader):
    """MMF's loader of one split over all data sets of the run, repeatable and resumable.

    MMF's own draws the next data set from the global random state while it goes, never empties
    its iterators, so that from the second epoch on they are exhausted, and may end an epoch of
    more than two data sets too early.
    """

    def start_epoch(self, epoch: int, skip: int) -> list[int]:
        """Make the next iteration that of ``epoch`` (from 1), without its first ``skip`` batches.

        Returns how many memes each batch that is left has, over all ranks.
        """
        for sampler in self.samplers:
            sampler.epoch, sampler.skip = epoch, 0
        seed, proportional = self.config.training.seed or 0, self._proportional_sampling
        order = dataset_order([len(s) for s in self.samplers], seed, epoch, proportional)
        for index, sampler in enumerate(self.samplers):
            sampler.skip = order[:skip].count(index)
        self.order = order[skip:]
        sizes = [iter(sampler.sizes()) for sampler in self.samplers]
        return [next(sizes[index]) for index in self.order]

    def __iter__(self) -> Iterator[Any]:
        if self.num_datasets == 1:
            yield from self.loaders[0]
            return
        iterators = [iter(loader) for loader in self.loaders]
        for index in self.order:
            self.current_index, self.current_dataset = index, self.datasets[index]
            yield next(iterators[index])

    def close(self) -> None:
        """End the workers. Left to the garbage collector, each of them takes five seconds."""
        self.loaders.clear()
        self.current_loader = None

    def change_dataloader(self) -> None:
        """Called by MMF after every batch; here, the order is set."""


def build_loader(config: DictConfig, split: str, device: torch.device) -> RepeatableLoader:
    """The loader of one split over all data sets of the run.

    MMF's own DataLoaders shuffle the validation split, repeat memes to make the ranks' shares
    even, and forget their position; the ones put in their place do not.
    """
    loader = RepeatableLoader(split)
    loader.build_datasets(config)
    for dataset in loader.datasets:
        loader.loaders.append(_data_loader(dataset, config, split, device))
        loader.samplers.append(loader.loaders[-1].batch_sampler)
    loader.current_loader = loader.loaders[0]
    return loader


def _data_loader(dataset: Any, config: DictConfig, split: str, device: torch.device) -> DataLoader:
    training, rank, ranks = config.training, get_rank(), get_world_size()
    if split == "train":
        batches: Any = TrainBatchSampler(
            len(dataset), training.batch_size, training.seed or 0, rank, ranks
        )
    else:
        size = evaluation_batch(device.type, getattr(dataset, "image_size", 0))
        batches = EvalBatchSampler(len(dataset), size, rank, ranks)
    workers = choose_workers(training.num_workers, dataset, device)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=BatchCollator(dataset.dataset_name, split),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        # Own generator: the model's random numbers must not depend on the number of workers.
        generator=torch.Generator().manual_seed(training.seed or 0),
    )


def choose_workers(wanted: int | str, dataset: Any, device: torch.device) -> int:
    """``training.num_workers``; auto depends on where a batch comes from and where it goes.

    It is meant for one rank; those of one machine share its cores.
    """
    if isinstance(wanted, int):
        return wanted
    if getattr(dataset, "is_decoding", False):
        return 0  # a worker would decode again what this process decodes
    if getattr(dataset, "is_cached", False):
        # Copying a cached batch costs less than a worker's message about it; on a GPU, two keep
        # the copy off the thread that launches kernels.
        return 0 if device.type == "cpu" else min(2, _cores_of_rank() - 1)
    return min(8, _cores_of_rank())


def _cores_of_rank() -> int:
    # torchrun says how many ranks are on this machine; those that MMF starts all are.
    return max(1, num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", get_world_size())))

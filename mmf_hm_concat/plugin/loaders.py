"""The loaders of a run: MMF's `MultiDatasetLoader`, with batches we can repeat and resume."""

import torch
from mmf.common.batch_collator import BatchCollator
from mmf.datasets.multi_dataset_loader import MultiDatasetLoader
from mmf.utils.distributed import get_rank, get_world_size
from omegaconf import DictConfig
from torch.utils.data import DataLoader, Dataset

from mmf_hm_concat.batches import EVALUATION_BATCH, EvaluationBatches, TrainingBatches
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.image_store import cores
from mmf_hm_concat.plugin.settings import whole_number


def build_loader(config: DictConfig, split: str, device: torch.device) -> MultiDatasetLoader:
    """MMF's loader of one split over all data sets of the run.

    MMF's own DataLoaders shuffle the validation split, repeat memes to make the ranks' shares
    even, and forget their position; the ones put in their place do not.
    """
    loader = MultiDatasetLoader(split)
    loader.build_datasets(config)
    for dataset in loader.datasets:
        loader.loaders.append(_data_loader(dataset, config, split, device))
        loader.samplers.append(loader.loaders[-1].batch_sampler)
    loader.current_loader = loader.loaders[0]
    return loader


def start_epoch(loader: MultiDatasetLoader, epoch: int, skip: int) -> None:
    """Make the next iteration that of ``epoch`` (from 1), without its first ``skip`` batches."""
    for sampler in loader.samplers:
        sampler.epoch, sampler.skip = epoch, skip
    # MMF never empties these: from the second epoch on it would read exhausted iterators.
    loader.iterators.clear()
    loader._finished_iterators.clear()
    loader._used_once.clear()


def _data_loader(
    dataset: Dataset, config: DictConfig, split: str, device: torch.device
) -> DataLoader:
    training, rank, ranks = config.training, get_rank(), get_world_size()
    if whole_number("training.batch_size", training.batch_size, 1) < ranks:
        raise InputError(
            f"training.batch_size is {training.batch_size}, less than the {ranks} processes that "
            "share a batch. Make it at least as large."
        )
    if split == "train":
        batches = TrainingBatches(
            len(dataset), training.batch_size, training.seed or 0, rank, ranks
        )
    else:
        batches = EvaluationBatches(len(dataset), EVALUATION_BATCH[device.type], rank, ranks)
    workers = _workers(training.num_workers, dataset, device)
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


def _workers(wanted: int | str, dataset: Dataset, device: torch.device) -> int:
    """``training.num_workers``; auto depends on where a batch comes from and where it goes."""
    if wanted != "auto":
        return whole_number("training.num_workers (or auto)", wanted, 0)
    if getattr(dataset, "is_cached", False):
        # Copying a cached batch costs less than a worker's message about it; on a GPU, two keep
        # the copy off the thread that launches kernels.
        return 0 if device.type == "cpu" else min(2, cores() - 1)
    return min(8, cores())

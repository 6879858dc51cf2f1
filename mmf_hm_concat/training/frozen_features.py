"""What a frozen encoder makes of each distinct image or text, computed once, before training.

The numbers are the same, bit for bit on a CPU, whether they come from the disk, from this process
or from several: always in batches of `EVALUATION_BATCH`, on all cores, in the run's precision.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmf_hm_concat.encoders.base import Encoder
from mmf_hm_concat.encoders.feature_store import FeatureStore
from mmf_hm_concat.encoders.image_preprocessing import ImagePreprocessing
from mmf_hm_concat.images.cache import ImageCache
from mmf_hm_concat.training.batch_samplers import EVALUATION_BATCH
from mmf_hm_concat.training.precision import autocast, threads
from mmf_hm_concat.utils.parallel import num_cores

logger = logging.getLogger("mmf_hm_concat")
T = TypeVar("T")
# What a branch reads, in messages.
TEXTS_OR_IMAGES = {"language": "texts", "vision": "images"}


@dataclass(frozen=True)
class Inputs:
    """What an encoder reads of N memes.

    Attributes:
        keys: one for each meme; the same for the same image or text.
        identity: what made the tensors of it, beside the image or text: size, tokens, ...
        read: row numbers -> a tensor of as many.
        prepare: what the encoder reads of such a tensor, on its device.
    """

    keys: Sequence[str]
    identity: str
    read: Callable[[Sequence[int]], Tensor]
    prepare: Callable[[Tensor], Tensor]


def text_inputs(texts: Sequence[str], prepared: Tensor, made_by: str) -> Inputs:
    """Texts, and what their preparation, which ``made_by`` identifies, made of them, (N, ...)."""
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    return Inputs(keys, made_by, lambda rows: prepared[list(rows)], lambda tokens: tokens)


def image_inputs(images: ImageCache, preprocessing: ImagePreprocessing) -> Inputs:
    made_by = f"{images.identity}, mean {preprocessing.mean}, std {preprocessing.std}"
    return Inputs(images.contents, made_by, images.batch, preprocessing.normalize)


class Ranks(Protocol):
    """The processes of a run. All call the same methods in the same order."""

    def on_first(self, work: Callable[[], T]) -> T:
        """Call ``work`` on the first rank; its result, or its InputError, on all."""

    def share(self, work: Callable[[int, int], T]) -> list[T]:
        """``work(rank, how many ranks)`` of every rank, by rank; an InputError of one ends all."""


class OneRank:
    """A run of one process."""

    def on_first(self, work: Callable[[], T]) -> T:
        return work()

    def share(self, work: Callable[[int, int], T]) -> list[T]:
        return [work(0, 1)]


def identity_of(
    encoder: Encoder, inputs: Inputs, precision: str, device: torch.device
) -> dict[str, str]:
    """What the features depend on, besides the image or text."""
    return {
        "encoder": encoder.identity(),
        "input": inputs.identity,
        "precision": precision,
        "device": device.type,
        "torch": torch.__version__,
    }


def frozen_features(
    encoder: Encoder,
    inputs: Inputs,
    store: FeatureStore | None,
    precision: str,
    device: torch.device,
    ranks: Ranks | None = None,
    label: str = "computing features",
) -> tuple[Tensor, list[int]]:
    """The features of the distinct images or texts, and which one each meme has.

    Args:
        encoder: its `Encoder.is_frozen` holds; on ``device``.
        store: keeps them for later runs; None: they are computed for this one.
        ranks: those who share the work; each gets all features.

    Returns:
        float32 (M, ...) on the CPU, and a row of it for each meme, (N,).

    Raises:
        InputError: what ``inputs``, ``store`` or another rank says.
    """
    ranks = ranks or OneRank()
    first: dict[str, int] = {}
    for row, key in enumerate(inputs.keys):
        first.setdefault(key, row)
    size = EVALUATION_BATCH[device.type]
    found = store.read(first) if store else {}
    # Ranks on other machines may have another cache.
    lacking = ranks.share(lambda rank, count: [key for key in first if key not in found])
    todo = list(dict.fromkeys(key for each in lacking for key in each))
    steps = [todo[i : i + size * len(lacking)] for i in range(0, len(todo), size * len(lacking))]
    bar = tqdm(total=len(todo), desc=label, unit=" samples", leave=False, disable=None)
    with bar, torch.inference_mode(), autocast(precision, device):
        for number, keys in enumerate(steps):

            def compute(keys: list[str]) -> dict[str, np.ndarray]:
                rows = [first[key] for key in keys]
                features = _batch(encoder, inputs, rows, size, device)
                return dict(zip(keys, features, strict=True))

            made = _step(keys, compute, store, ranks, size)
            if number == 0 and store is not None:
                _announce(store, len(todo), next(iter(made.values())), ranks)
            found |= made
            bar.update(len(keys))
    distinct = {key: number for number, key in enumerate(first)}
    features = torch.from_numpy(np.stack([found[key] for key in distinct]))
    return features, [distinct[key] for key in inputs.keys]


def _step(
    keys: list[str],
    compute: Callable[[list[str]], dict[str, np.ndarray]],
    store: FeatureStore | None,
    ranks: Ranks,
    size: int,
) -> dict[str, np.ndarray]:
    """The features of a batch for each rank: from the store, where they are meanwhile there."""

    def share(lacking: list[str]) -> dict[str, np.ndarray]:
        parts = ranks.share(
            lambda rank, count: compute(mine) if (mine := lacking[rank * size :][:size]) else {}
        )
        return {key: value for part in parts for key, value in part.items()}

    if store is None:
        return share(keys)
    with ExitStack() as held:  # of the first rank: the others' is empty
        there = ranks.on_first(lambda: held.enter_context(store.claim(keys)))
        made = share([key for key in keys if key not in there])
        ranks.on_first(lambda: store.add(made) if made else None)
    return there | made


def _batch(
    encoder: Encoder, inputs: Inputs, rows: list[int], size: int, device: torch.device
) -> np.ndarray:
    """The features of up to ``size`` rows, float32; a batch is filled up with its last row."""
    given = inputs.read(rows)
    given = given[[*range(len(rows)), *[len(rows) - 1] * (size - len(rows))]]
    if given.ndim == 4:
        given = given.contiguous(memory_format=torch.channels_last)
    with threads(num_cores()):
        features = encoder.features(inputs.prepare(given.to(device)))
    return features[: len(rows)].float().cpu().numpy()


def _announce(store: FeatureStore, count: int, example: np.ndarray, ranks: Ranks) -> None:
    sizes = ranks.on_first(lambda: store.check_space(count, example.shape))
    logger.info("keeping %s frozen features in %s: %s", f"{count:,}", store.folder, sizes)

"""What each branch makes of each meme, computed once, and what the head makes of any combination.

Replacing, emptying or shuffling a modality, or comparing memes, then costs no second pass through
the encoders. On a CPU, `probabilities` of a meme's own features are bit for bit those that
mmf_predict writes.

Shapes: N memes, B of them in a batch, D numbers in a feature.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmf_hm_concat.inference.member import Member
from mmf_hm_concat.training.batch_samplers import EvalBatchSampler, evaluation_batch
from mmf_hm_concat.training.precision import autocast, threads
from mmf_hm_concat.utils.parallel import num_cores


@dataclass(frozen=True)
class Features:
    """The features of N memes, float32 (N, D) on the CPU; None of a branch that is not there."""

    text_ND: Tensor | None
    image_ND: Tensor | None

    def rows(self, index: Sequence[int] | np.ndarray) -> "Features":
        """Those of some memes, in that order."""
        rows = torch.as_tensor(np.asarray(index, dtype=np.int64))
        return Features(
            None if self.text_ND is None else self.text_ND[rows],
            None if self.image_ND is None else self.image_ND[rows],
        )

    def present(self) -> list[Tensor]:
        """Language first, as `FusionNetwork.classify` takes them."""
        return [each for each in (self.text_ND, self.image_ND) if each is not None]

    def __len__(self) -> int:
        return len(self.present()[0])


def text_features(member: Member, texts: Sequence[str]) -> Tensor | None:
    """What the text branch makes of texts; None without one, or where a file gives vectors."""
    prepared = member.prepared(texts) if texts else None
    if prepared is None:
        return None
    module = member.network.language_module

    def encode(rows: list[int], used: int) -> Tensor:
        return module(prepared[rows].to(member.device))

    return torch.cat(list(_batches(member, len(texts), encode)))


def image_features(
    member: Member, count: int, pixels_of: Callable[[Sequence[int]], Tensor]
) -> Tensor | None:
    """What the image branch makes of images; None without one, or where a file gives vectors.

    Args:
        pixels_of: row numbers -> their images, uint8 (B, 3, image_size, image_size); each row is
            asked for once.
    """
    module = member.network.vision_module
    if not member.reads_images or not count:
        return None

    def encode(rows: list[int], used: int) -> Tensor:
        pixels = pixels_of(rows[:used])
        # The last batch is filled up with its last row: see EvalBatchSampler.
        padded = pixels[[*range(used), *[used - 1] * (len(rows) - used)]]
        padded = padded.contiguous(memory_format=torch.channels_last)
        return module(member.preprocessing.normalize(padded.to(member.device)))

    return torch.cat(list(_batches(member, count, encode, "looking at memes")))


def given_features(member: Member, branch: str, vectors_NL: Tensor) -> Tensor:
    """What the head of a branch makes of features that are known: `known_features`."""
    module = getattr(member.network, f"{branch}_module")

    def encode(rows: list[int], used: int) -> Tensor:
        return module.project(vectors_NL[rows].to(member.device))

    return torch.cat(list(_batches(member, len(vectors_NL), encode)))


def mean_feature(member: Member, branch: str) -> Tensor:
    """What such a branch makes of the training split's mean vector, for which zeros stand: (1, D).

    Where the vectors are not standardised, it is that of a vector of zeros.
    """
    module = getattr(member.network, f"{branch}_module")
    return given_features(member, branch, torch.zeros(1, module.in_features))


def probabilities(member: Member, features: Features) -> np.ndarray:
    """P(hateful) of memes with these features, float64 (N,).

    Raises:
        InputError: the network gives NaN.
    """

    def classify(rows: list[int], used: int) -> Tensor:
        return member.network.classify([each[rows].to(member.device) for each in given])

    given = features.present()
    logits_NC = torch.cat(list(_batches(member, len(features), classify)))
    found = torch.softmax(logits_NC.double(), dim=1)[:, 1].numpy()
    member.check(found)
    return found


def fused(member: Member, features: Features) -> Iterator[Tensor]:
    """What the head takes, float32 (B, D'), a batch of memes at a time: it may be wide."""

    def fuse(rows: list[int], used: int) -> Tensor:
        with torch.autocast(member.device.type, enabled=False):
            return member.network.fuse([each[rows].to(member.device) for each in given])

    given = features.present()
    return _batches(member, len(features), fuse)


def _batches(
    member: Member, count: int, work: Callable[[list[int], int], Tensor], label: str | None = None
) -> Iterator[Tensor]:
    """``work(rows, how many of them are no padding)`` of each batch, float32 on the CPU."""
    # Always the same shape, as mmf_predict: another one may round otherwise.
    batches = EvalBatchSampler(count, evaluation_batch(member.device.type, member.image_size))
    hidden = True if label is None else None  # None: where there is no terminal
    for rows in tqdm(batches, desc=label, unit="batch", leave=False, disable=hidden):
        used = len(set(rows))
        with (
            threads(num_cores()),
            torch.inference_mode(),
            autocast(member.precision, member.device),
        ):
            found = work(rows, used)[:used].float().cpu()
        yield found

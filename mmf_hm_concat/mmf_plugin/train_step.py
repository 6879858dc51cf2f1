"""One update of the weights: the gradients of several batches added up, clipped, and applied."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from mmf.common.report import Report
from mmf.utils.distributed import get_rank, get_world_size
from torch import Tensor, nn

from mmf_hm_concat.encoders.base import BATCH_NORM
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.batch_samplers import share
from mmf_hm_concat.training.precision import autocast


@contextlib.contextmanager
def refuse_single_memes(network: nn.Module, sizes: list[int]) -> Iterator[None]:
    """Raise InputError at the first batch if a batch norm is to see one of a single meme later.

    A batch norm cannot learn from one value per channel. That is what it gets where a rank has one
    meme (or the row that stands for none) and the image has shrunk to one pixel.

    Args:
        sizes: how many memes each batch of the epoch has, over all ranks.
    """
    ranks = get_world_size()

    def check(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if module.training and given[0].numel() == given[0].shape[0] * given[0].shape[1]:
            raise InputError(
                f"training.batch_size: of the batches of {min(sizes)} to {max(sizes)} memes, one "
                "has a single meme for a rank, from which batch norms cannot learn. Take another "
                "training.batch_size, or model_config.concat_vl.vision.freeze=bn."
            )

    is_single = min(sizes, default=2 * ranks) < 2 * ranks
    norms = [each for each in network.modules() if isinstance(each, BATCH_NORM) and is_single]
    hooks = [each.register_forward_pre_hook(check) for each in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class TrainStep:
    """Updates the weights of ``network`` by groups of MMF's batches.

    Args:
        network: the MMF model, maybe compiled or in `DistributedDataParallel`.
        scaler: of the loss, for fp16; else a disabled one.
        precision: number format of the forward pass, as `choose_precision` gives it.
        max_norm: length to which the gradient is clipped, or None.

    Attributes:
        mean_loss: of the last update, over this rank's memes, a float scalar on the device.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        precision: str,
        device: torch.device,
        max_norm: float | None,
    ):
        self.network, self.optimizer, self.scaler = network, optimizer, scaler
        self.precision, self.device, self.max_norm = precision, device, max_norm
        self.mean_loss = torch.zeros((), device=device)
        self._unchecked: tuple[Tensor, list[Any], int] | None = None

    def update(self, group: list[Any], sizes: list[int], number: int) -> Tensor:
        """Change the weights once.

        Args:
            group: this rank's parts of the batches, SampleLists on the device.
            sizes: how many memes each of the batches has, over all ranks.
            number: of this update, for the message about a loss that is not finite.

        Returns:
            The sum of the loss over this rank's memes, a float scalar on the device.

        Raises:
            InputError: the loss is not finite. On a GPU one update late, so as not to wait for it.
        """
        rank, ranks = get_rank(), get_world_size()
        total, memes = torch.zeros((), device=self.device), 0
        for batch, size in zip(group, sizes, strict=True):
            own = len(range(size)[share(size, rank, ranks)])  # 0: the row it has does not count
            last = batch is group[-1]
            accumulate = getattr(self.network, "no_sync", contextlib.nullcontext)
            with contextlib.nullcontext() if last else accumulate():
                with autocast(self.precision, self.device):
                    report = Report(batch, self.network(batch))
                loss = sum(each.mean() for each in report.losses.values())
                # Every meme of the effective batch weighs the same, in a short last batch and in
                # a small share, too. DistributedDataParallel divides the gradients by the ranks.
                self.scaler.scale(loss * (own * ranks / sum(sizes))).backward()
            total += loss.detach() * own
            memes += own
        if self.max_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type != "cpu":
            self.check()
        self.mean_loss = total / max(memes, 1)
        self._unchecked = total, group, number
        if self.device.type == "cpu":
            self.check()
        return total

    def check(self) -> None:
        """Raise what `update` raises for the last update, if it has not yet been looked at."""
        if self._unchecked is None:
            return
        (loss, group, number), self._unchecked = self._unchecked, None
        if math.isfinite(loss.item()):
            return
        ids = [i for batch in group if "id" in batch for i in batch["id"].tolist()]
        raise InputError(
            f"The loss is {loss.item()} at update {number}. The batch held the memes {ids}. Try a "
            "lower optimizer.params.lr, training.precision=fp32, or training.detect_anomaly=true "
            "to find the operation."
        )

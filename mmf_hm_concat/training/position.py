"""How far a training has come: where a resumed one goes on."""

from typing import Any

import torch
from torch import Tensor


class Position:
    """Counts epochs, updates and the loss of the running epoch.

    Attributes:
        epoch: the running or last one, from 1; 0 before the first.
        num_updates: of the weights, since the training began.
        done_batches: of the running epoch; 0 between epochs.
        epoch_memes: trained on in this epoch over all ranks, repeated ones included.
        epoch_loss: the loss summed over this rank's part of them, a float scalar on the device.
    """

    def __init__(self, device: torch.device):
        self.epoch = self.num_updates = self.done_batches = self.epoch_memes = 0
        self.epoch_loss = torch.zeros((), device=device)

    def start_epoch(self) -> None:
        """Begin the next epoch, unless a resumed training is in the middle of one."""
        if self.done_batches == 0:
            self.epoch += 1
            self.epoch_loss, self.epoch_memes = torch.zeros_like(self.epoch_loss), 0

    def count_update(self, loss: Tensor, batches: int, memes: int) -> None:
        """Add one update: this rank's summed loss, and how many batches and memes it took."""
        self.num_updates += 1
        self.done_batches += batches
        self.epoch_memes += memes
        self.epoch_loss += loss

    def loss_of_all_ranks(self) -> Tensor:
        """The sum of the loss over the epoch's memes so far, a float scalar. All ranks call it."""
        total = self.epoch_loss.clone()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
        return total

    def state_dict(self) -> dict[str, Any]:
        """All ranks call it: the loss is that of all of them."""
        return {
            "epoch": self.epoch,
            "num_updates": self.num_updates,
            "done_batches": self.done_batches,
            "epoch_memes": self.epoch_memes,
            "epoch_loss": self.loss_of_all_ranks(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key in ("epoch", "num_updates", "done_batches", "epoch_memes"):
            setattr(self, key, int(state[key]))
        # It is the sum over the ranks of then: one of now takes it.
        first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        self.epoch_loss = state["epoch_loss"].to(self.epoch_loss.device) * first

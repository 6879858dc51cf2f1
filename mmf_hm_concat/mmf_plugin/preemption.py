"""Save before leaving: SIGTERM and Ctrl-C end a training between two updates."""

import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from mmf.utils.distributed import get_world_size

# Asking the other ranks costs a synchronisation, which a GPU should not wait for every update.
ASK_EVERY = {"cpu": 1, "cuda": 20}


class SaveOnSignal:
    """Remembers the first SIGTERM or SIGINT; a second Ctrl-C interrupts at once, as usual.

    What comes within two seconds is the same request: a cluster signals every process, and those
    that started others pass it on.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.received = 0
        self.since = 0.0
        self.asked = 0

    def __enter__(self) -> "SaveOnSignal":
        self.previous = {
            s: signal.signal(s, self._remember) for s in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            if number == signal.SIGINT and time.monotonic() - self.since > 2:
                raise KeyboardInterrupt
            return
        self.received, self.since = number, time.monotonic()
        print("\nSaving before leaving; Ctrl-C again to leave at once.", file=sys.stderr)

    def leave_if_received(self, save: Callable[[], None]) -> None:
        """Call ``save`` and exit with 128 + the signal's number, all ranks together."""
        received = self.received
        if get_world_size() > 1:
            self.asked += 1
            if self.asked % ASK_EVERY[self.device.type]:
                return
            answer = torch.tensor(received, device=self.device)
            torch.distributed.all_reduce(answer, torch.distributed.ReduceOp.MAX)
            received = int(answer)
        if received:
            save()
            print("Saved. Go on with checkpoint.resume=true.", file=sys.stderr)
            sys.exit(128 + received)

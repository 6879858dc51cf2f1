"""The states of all random number generators, as plain values that a checkpoint can hold."""

import random
from typing import Any

import numpy as np
import torch


class RandomState:
    """Python's, NumPy's and torch's generators (every CUDA device's, too), of all ranks."""

    def state_dict(self) -> dict[str, Any]:
        """The states by rank. All ranks call it."""
        own = _capture()
        states: list[Any] = [own]
        if torch.distributed.is_initialized():
            states = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, own)
        return {"ranks": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to this rank's state, if there were as many ranks."""
        ranks = torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if ranks else 0
        if len(state["ranks"]) == (torch.distributed.get_world_size() if ranks else 1):
            _restore(state["ranks"][rank])


def _capture() -> dict[str, Any]:
    numpy_state: Any = np.random.get_state()
    name, keys, position, has_gauss, cached = numpy_state
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore(state: dict[str, Any]) -> None:
    """CUDA states only where as many devices are present."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])

"""The weights of frozen encoders: once in a run's folder, not in each of its checkpoints.

A checkpoint names them by their checksum ("frozen"); `frozen.ckpt` has them, in the form of a
checkpoint, and moves with the run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmf_hm_concat.encoders.base import checksum
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.checkpoints import (
    FORMAT_VERSION,
    FROZEN,
    folder_of_run,
    load_checkpoint,
    save_checkpoint,
)


def write_frozen(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write them into a run's folder; raises InputError."""
    kept = {name: weight.cpu() for name, weight in weights.items()}
    save_checkpoint({"format_version": FORMAT_VERSION, "model": kept}, folder / FROZEN)


def all_weights(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The whole state dict of a checkpoint's model.

    Args:
        state: what `load_checkpoint` gave of ``path``.

    Raises:
        InputError: the frozen weights are missing, damaged, or not those of the training.
    """
    wanted = state.get("frozen")
    if wanted is None:
        return state["model"]
    file = folder_of_run(path) / FROZEN
    if not file.is_file():
        raise InputError(
            f"{path}: the weights of its frozen encoders lie in {FROZEN} of the run's folder, but "
            f"there is no {file}. Put the run's file there."
        )
    frozen = load_checkpoint(file)["model"]
    if (found := checksum(frozen)) != wanted:
        raise InputError(
            f"{file}: has the checksum {found[:12]}, but {path} was trained with frozen weights of "
            f"{wanted[:12]}. Put the file of that run there."
        )
    return {**state["model"], **frozen}

"""Which checkpoint a run starts from, the same one on every rank."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.distributed import on_every_rank, on_first_rank
from mmf_hm_concat.training import checkpoints, run_folder


def find_checkpoint(config: DictConfig, save_dir: Path) -> Path | None:
    """The checkpoint a run starts from, or None for a fresh training.

    Prediction takes `checkpoint.resume_file`, else the best of the run. Training takes
    `checkpoint.resume_file`; with `checkpoint.resume` the newest of the run (`resume_best`: the
    best).

    Raises:
        InputError: the file named is missing; or there is nothing to predict with.
    """
    wanted = config.checkpoint
    best, current = save_dir / checkpoints.BEST, save_dir / checkpoints.CURRENT
    if wanted.resume and not config.evaluation.predict:
        first, second = (best, current) if wanted.resume_best else (current, best)
        if first.is_file() or second.is_file():
            return first if first.is_file() else second
    if wanted.resume_file:
        if not Path(wanted.resume_file).is_file():
            raise InputError(f"checkpoint.resume_file: {wanted.resume_file} does not exist.")
        return Path(wanted.resume_file)
    if config.evaluation.predict or "train" not in config.run_type:
        if best.is_file():
            return best
        raise InputError(
            f"No checkpoint to predict with: {best} does not exist. Train first with "
            f"mmf_run config={config.config} run_type=train_val, or name a checkpoint with "
            "checkpoint.resume_file=, or the run's folder with env.save_dir=."
        )
    return None


def load_on_all_ranks(
    path: Path, log: Callable[[str, str], None], fall_back: bool = False
) -> tuple[dict[str, Any], Path]:
    """The same checkpoint on every rank, the one that the first rank finds whole, and its path.

    Args:
        path: see `load_whole`.
        fall_back: likewise; a torn current checkpoint is set aside, and a whole one put there.
    """
    state = None

    def find() -> Path:
        nonlocal state
        state, found = load_whole(path, log, fall_back)
        if found != path and path.name == checkpoints.CURRENT:
            moved = run_folder.set_aside(path.parent, (checkpoints.CURRENT,))
            log(f"The torn {checkpoints.CURRENT} has moved to {moved}.", "warning")
            checkpoints.copy_checkpoint(found, path)
        return found

    found = on_first_rank(find)
    return on_every_rank(lambda: state or checkpoints.load_checkpoint(found)), found


def load_whole(
    path: Path, log: Callable[[str, str], None], fall_back: bool
) -> tuple[dict[str, Any], Path]:
    """A checkpoint and its path.

    Args:
        fall_back: where it is torn, take the best in place of the current one, or the current in
            place of the best. (Not one that cannot be read just now: that one may be whole.)

    Raises:
        InputError: it cannot be loaded; the message names the other where that might do.
    """
    other = path.with_name(
        checkpoints.BEST if path.name == checkpoints.CURRENT else checkpoints.CURRENT
    )
    try:
        return checkpoints.load_checkpoint(path), path
    except checkpoints.TornCheckpoint as error:
        if path.name not in (checkpoints.BEST, checkpoints.CURRENT) or not other.is_file():
            raise
        if not fall_back:
            option = f"checkpoint.resume_file={shlex.quote(str(other))}"
            raise InputError(
                f"{error} {other} is another checkpoint of the run, of another epoch as a rule. To "
                f"use that: {option}"
            ) from None
        log(f"{error} Going back to {other}.", "warning")
        return checkpoints.load_checkpoint(other), other


def may_fall_back(config: DictConfig) -> bool:
    """Whether the run resumes, so that any checkpoint of it is better than none."""
    return bool(config.checkpoint.resume) and not config.evaluation.predict

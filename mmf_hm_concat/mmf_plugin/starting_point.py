"""Which checkpoint a run starts from, the same one on every rank."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.distributed import on_every_rank, on_first_rank
from mmf_hm_concat.training import checkpoints


def find_checkpoint(config: DictConfig, save_dir: Path) -> Path | None:
    """The checkpoint a run starts from, or None for a fresh training.

    Prediction takes `checkpoint.resume_file`, else the best of the run. Training takes
    `checkpoint.resume_file`; with `checkpoint.resume` the newest of the run (`resume_best`: the
    best).

    Raises:
        InputError: the file named is missing; or there is nothing to predict with.
    """
    settings = config.checkpoint
    best, current = save_dir / checkpoints.BEST, save_dir / checkpoints.CURRENT
    if settings.resume and not config.evaluation.predict:
        first, second = (best, current) if settings.resume_best else (current, best)
        if first.is_file() or second.is_file():
            return first if first.is_file() else second
    if settings.resume_file:
        if not Path(settings.resume_file).is_file():
            raise InputError(f"checkpoint.resume_file: {settings.resume_file} does not exist.")
        return Path(settings.resume_file)
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
    path: Path, log: Callable[[str, str], None], mend: bool = False
) -> tuple[dict[str, Any], Path]:
    """The same checkpoint on every rank, the one that the first rank finds whole, and its path.

    Args:
        path: see `load_or_fall_back`.
        mend: put it in the place of a torn current one.
    """
    state = None

    def find() -> Path:
        nonlocal state
        state, found = load_or_fall_back(path, log)
        if mend and found != path and path.name == checkpoints.CURRENT:
            checkpoints.copy_checkpoint(found, path)
        return found

    found = on_first_rank(find)
    return on_every_rank(lambda: state or checkpoints.load_checkpoint(found)), found


def load_or_fall_back(path: Path, log: Callable[[str, str], None]) -> tuple[dict[str, Any], Path]:
    """A checkpoint and its path. A torn current one gives way to the best, or the best to it."""
    other = path.with_name(
        checkpoints.BEST if path.name == checkpoints.CURRENT else checkpoints.CURRENT
    )
    try:
        return checkpoints.load_checkpoint(path), path
    except InputError as error:
        if path.name not in (checkpoints.BEST, checkpoints.CURRENT) or not other.is_file():
            raise
        log(f"{error} Going back to {other}.", "warning")
        return checkpoints.load_checkpoint(other), other

"""The folder of a run (`env.save_dir`): one training at a time, and earlier runs kept whole.

A new training leaves the run that it finds untouched until it has something of its own to save.
Then it takes the folder over: all that belongs to the earlier run moves, together, into a folder of
its own, `previous/<time of its last checkpoint>/`, which works as any run's folder does.

    stage       files of the new run that are ready before its first checkpoint wait in .starting/
    take_over   the earlier run moves out, what was staged moves in
    commit      the first checkpoint is saved
    recover     at the next start: a take-over that was cut short is undone

What was moved is noted in `.moving` until `commit`.
"""

import itertools
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.checkpoints import (
    BEST,
    CONFIG,
    CURRENT,
    EPOCHS,
    FROZEN,
    PREVIOUS,
    TEXT_MODEL,
)
from mmf_hm_concat.training.metrics_log import METRICS, RESULTS
from mmf_hm_concat.utils.files import LEFT_OVER_AFTER, atomic_write, remove_leftovers

SUBMISSION, REPORT, LOG = "submission.csv", "report", "train.log"
# Made from a run's checkpoints, so stale once it trains on.
DERIVED = (RESULTS, SUBMISSION, REPORT)
# All that belongs to a run and moves with it. The log is copied: MMF goes on writing it.
FILES = (BEST, CURRENT, EPOCHS, TEXT_MODEL, FROZEN, CONFIG, METRICS, *DERIVED)
STARTING, MOVING, LOCK = ".starting", ".moving", ".lock"


def lock(folder: Path) -> FileLock:
    """Hold the folder for one training, until `release` or the end of the process.

    Raises:
        InputError: another process trains there, or the folder cannot be written.
    """
    found = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"env.save_dir: another training is running in {folder}. Wait for it, stop it "
            f"(`fuser {folder / LOCK}` names it), or give this one another env.save_dir."
        ) from None
    except (OSError, NotImplementedError) as error:
        raise InputError(f"env.save_dir: {folder} cannot be written ({error}).") from None
    return found


def recover(folder: Path) -> None:
    """Undo a take-over that was cut short, and remove what a kill has left. Under `lock` only."""
    shutil.rmtree(folder / STARTING, ignore_errors=True)
    remove_leftovers(folder, "*.ckpt")  # which nobody else writes under the lock
    remove_leftovers(folder, "*", LEFT_OVER_AFTER)
    try:
        moving = json.loads((folder / MOVING).read_text(encoding="utf-8"))
        target, is_moved = folder / PREVIOUS / moving["to"], bool(moving["is_moved"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / MOVING}: cannot be read ({error}). It notes where an earlier run of this "
            f"folder was being moved: see {folder / PREVIOUS}, then delete it."
        ) from None
    if not (is_moved and _has_checkpoint(folder)):
        for name in FILES:
            if is_moved or (target / name).exists():
                _remove(folder / name)  # of a run that has no checkpoint
            if (target / name).exists():
                (target / name).rename(folder / name)
        shutil.rmtree(target, ignore_errors=True)  # the copy of the log is all that may be there
    commit(folder)


def recover_if_free(folder: Path) -> None:
    """`recover` where a take-over was cut short, unless a training is running there."""
    if not (folder / MOVING).exists():
        return
    try:
        held = lock(folder)
    except InputError:
        return
    try:
        recover(folder)
    finally:
        held.release()


def stage(folder: Path, source: Path, name: str) -> None:
    """Copy a file of the new run, to move in with `take_over`; raises InputError."""
    copy_file(source, folder / STARTING / name)


def staged(folder: Path, name: str) -> Path:
    """Where a file of this run is now: staged, or in its folder."""
    waiting = folder / STARTING / name
    return waiting if waiting.exists() else folder / name


def take_over(folder: Path, goes_on: bool) -> Path | None:
    """Make the folder this run's; see the head of this file.

    Args:
        goes_on: the run in the folder is resumed: only what was derived from it moves, and what
            was staged is dropped.

    Returns:
        The folder to which something has moved, if so.

    Raises:
        InputError: a file could not be moved.
    """
    names = _those_there(folder, DERIVED if goes_on else FILES)
    target = None
    try:
        if names:
            target = _new_folder(folder)
            _note(folder, target, is_moved=False)
            target.mkdir(parents=True)
            if not goes_on and (folder / LOG).is_file():
                shutil.copyfile(folder / LOG, target / LOG)
            _move(folder, names, target)
            _note(folder, target, is_moved=True)
        if (folder / STARTING).is_dir() and not goes_on:
            for path in (folder / STARTING).iterdir():
                path.replace(folder / path.name)
        shutil.rmtree(folder / STARTING, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"env.save_dir: the earlier run in {folder} could not be moved to "
            f"{folder / PREVIOUS} ({error})."
        ) from None
    return target


def copy_file(source: Path, target: Path) -> None:
    """Copy a file as a whole. No link: what damages one must leave the other."""
    try:
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error}). Free some space, or use another env.save_dir."
        ) from None


def commit(folder: Path) -> None:
    """The run has a checkpoint of its own: there is nothing left to undo."""
    (folder / MOVING).unlink(missing_ok=True)


def set_aside(folder: Path, names: Sequence[str]) -> Path:
    """Move files that are of no use to the run into a folder of their own, which is returned."""
    target = _new_folder(folder)
    target.mkdir(parents=True)
    _move(folder, _those_there(folder, names), target)
    return target


def _those_there(folder: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if (folder / name).exists()]


def _move(folder: Path, names: Sequence[str], target: Path) -> None:
    for name in names:
        (folder / name).rename(target / name)


def _note(folder: Path, target: Path, is_moved: bool) -> None:
    with atomic_write(folder / MOVING) as temporary:
        temporary.write_text(json.dumps({"to": target.name, "is_moved": is_moved}))


def _has_checkpoint(folder: Path) -> bool:
    return (folder / BEST).exists() or (folder / CURRENT).exists()


def _new_folder(folder: Path) -> Path:
    """previous/<time>, not there yet; of the last checkpoint, or of now where there is none."""
    found = [(folder / name) for name in (CURRENT, BEST) if (folder / name).exists()]
    when = time.localtime(found[0].stat().st_mtime if found else None)
    name = time.strftime("%Y-%m-%d_%H-%M-%S", when)
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(target for each in names if not (target := folder / PREVIOUS / each).exists())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Cache folders that nobody else can write into: what lies there decides what a run reads."""

import os
import stat
from pathlib import Path

from mmf_hm_concat.errors import InputError

# What to do about a cache folder that is of no use; the variable is for commands without options.
ELSEWHERE = (
    "Name another cache folder: env.cache_dir=FOLDER, or in the environment MMF_CACHE_DIR=FOLDER."
)


def make_private(folder: Path) -> None:
    """Make a folder, where there is none, that only this user can enter.

    Raises OSError. Those above it are made as usual.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def check_private(folder: Path, *names: str) -> None:
    """Refuse a cache folder, or files and folders in it, with which another user can meddle.

    The folder may be a link, as to a larger disk; ``names`` in it may not: a file would be written
    wherever the link leads. What is not there is nobody's. Files in a folder that others can write
    are looked at one by one.

    Raises:
        InputError: a link, or something that belongs neither to this user nor to root.
        OSError: it cannot be looked at.
    """
    if folder.exists():
        _check_owner(folder, folder.lstat())
        _check_owner(folder, folder.stat())
    for name in names:
        _check(folder / name)


def _check(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode):
        raise InputError(
            f"{path}: is a link, which may lead anywhere: in a cache folder, links are refused. "
            f"Remove it. {ELSEWHERE}"
        )
    _check_owner(path, status)
    if stat.S_ISDIR(status.st_mode) and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        for entry in path.iterdir():
            _check(entry)


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (os.geteuid(), 0):
        raise InputError(
            f"{path}: belongs to another user ({_name(status.st_uid)}), who can put there what "
            f"your run then reads. {ELSEWHERE}"
        )


def _name(uid: int) -> str:
    import pwd  # not on every system

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"number {uid}"

"""Writing files so that no reader ever sees half of one, and telling files apart by content."""

import errno
import glob
import hashlib
import os
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Seconds after which a temporary file that has not grown is of a process that was killed.
LEFT_OVER_AFTER = 600

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading bytes.

    Raises OSError for what is no regular file, at once: a pipe or a device may never end.
    """
    path = Path(path)
    if kind := kind_if_not_regular(path):
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
    return path.open("rb")


def kind_if_not_regular(path: Path) -> str | None:
    """What a path leads to when that is no regular file; None for a file, or for nothing."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a link in a circle"
        if error.errno == errno.ENOENT and path.is_symlink():
            return "a link to nothing"
        return None
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes ``path``'s place.

    The new content is flushed to the disk before the rename, so after a crash or a kill
    ``path`` holds either the old or the new content, whole. When the block raises, the
    temporary file is removed and ``path`` is left as it was. What a kill left is removed by the
    next write of ``path``, once it is old.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        remove_leftovers(path.parent, glob.escape(path.name), LEFT_OVER_AFTER)
    finally:
        # Left when the block raised; and a rename between two links of one file does nothing.
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, pattern: str, older_than: float = 0) -> None:
    """Remove what `atomic_write` left of files named like ``pattern`` when it was killed.

    Args:
        older_than: seconds; younger ones may still be written by another process.
    """
    for leftover in folder.glob(f".{pattern}.????????.tmp"):
        try:
            if not older_than or time.time() - leftover.stat().st_mtime > older_than:
                leftover.unlink()
        except OSError:  # meanwhile it has been renamed or removed; or it is not ours
            continue


def why_unwritable(folder: str | Path) -> str | None:
    """Why nothing can be written into a folder, or, where it is yet to be made, above it."""
    try:
        folder = Path(folder).absolute()
        while True:
            try:
                folder.stat()
                break
            except FileNotFoundError:
                folder = folder.parent
        with tempfile.TemporaryFile(dir=folder) as file:  # on a full disk, it can still be made
            file.write(bytes(1 << 16))
            return None
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


def identity(path: str | Path) -> list[int]:
    """Bytes, mtime and ctime (ns), the last of which nobody can set back; [] for no file."""
    try:
        status = os.stat(path)  # noqa: PTH116  (twice as fast, and there is one for each image)
    except (OSError, ValueError):
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open_regular(path) as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

"""What `hm_concat cache` shows: what lies in the cache folder, how large, and what is of no use.

| name | made by | old when |
|---|---|---|
| `images-*` | images/store.py | this version decodes otherwise |
| `features-*` | encoders/feature_store.py | its images are old, or torch is another one |
| `text-*` | encoders/fasttext_model.py | only its lock is left |
| `words-*` | encoders/word_vectors.py | only its lock is left |
| `unpacked/*` | data/layout.py | the archive is gone, or has changed |

Whatever else has the name of something unfinished is what a killed process left, and old, too.
"""

import contextlib
import json
import os
import re
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import PIL
from filelock import FileLock, Timeout

from mmf_hm_concat.data.layout import UNPACKED, unpacked_name
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.store import DECODE_VERSION
from mmf_hm_concat.utils.files import LEFT_OVER_AFTER
from mmf_hm_concat.utils.private import check_private

OF_IMAGES = re.compile(r"images-(\d+)px-v(\d+)-pillow([^-,]+)")
OF_FILES = re.compile(r"((?:text|words)-[0-9a-f]+)\.(bin|sha256|lock)")
UNFINISHED = re.compile(r"\..+\.tmp|.+\.part|\.removed-.+")


@dataclass(frozen=True)
class Entry:
    """One thing in the cache.

    Attributes:
        name: its path in the cache folder; of several files, what their names begin with.
        what: what it is, for a person.
        old: why nothing will read it again; None where something may.
        paths: its files or folders.
        lock: the file that whoever writes it holds.
        bytes: on the disk.
        used: when it was last read or written, in seconds since 1970; how exactly a read counts is
            the file system's choice, mostly a day.
    """

    name: str
    what: str
    old: str | None
    paths: tuple[Path, ...]
    lock: Path | None
    bytes: int
    used: float


def list_cache(folder: Path) -> list[Entry]:
    """What lies in a cache folder, the largest first; files of others are left out.

    Raises:
        InputError: it belongs to another user, or cannot be read.
    """
    try:
        check_private(folder)
        places = [*_listed(folder), *_listed(folder / UNPACKED)]
        return sorted(_entries(folder, places), key=lambda each: (-each.bytes, each.name))
    except OSError as error:
        raise InputError(f"{folder}: the cache cannot be read ({error}).") from None


def clear_cache(folder: Path, names: Sequence[str]) -> tuple[list[Entry], list[Entry]]:
    """Remove what is named; returns what was removed, and what a running process is writing.

    Args:
        names: of entries; or "old", all that are; or "all".

    Raises:
        InputError: there is no such entry; or one cannot be removed.
    """
    entries = list_cache(folder)
    known = {each.name for each in entries}
    if unknown := [name for name in names if name not in known | {"old", "all"}]:
        raise InputError(
            f"{folder} has no {', '.join(unknown)}. Name one that `hm_concat cache` lists, old or "
            "all."
        )
    chosen = [
        each
        for each in entries
        if each.name in names or "all" in names or (each.old and "old" in names)
    ]
    removed: list[Entry] = []
    busy: list[Entry] = []
    for each in chosen:
        try:
            (removed if _remove(each) else busy).append(each)
        except OSError as error:
            raise InputError(f"{folder / each.name}: cannot be removed ({error}).") from None
    return removed, busy


def table(folder: Path, entries: Sequence[Entry]) -> str:
    """The list for a person."""
    if not entries:
        return f"{folder}: nothing is cached there."
    width = max(len(each.name) for each in entries)
    lines = [f"{folder}: {_megabytes(entries)}"]
    for each in entries:
        used = time.strftime("%Y-%m-%d", time.localtime(each.used))
        old = f"; old: {each.old}" if each.old else ""
        size = _megabytes([each])
        lines.append(f"  {each.name:{width}}  {size:>12}  last used {used}  {each.what}{old}")
    if unread := [each for each in entries if each.old]:
        lines.append(f"Nothing reads {_megabytes(unread)} of it: hm_concat cache --clear old")
    return "\n".join(lines)


def cleared(removed: Sequence[Entry], busy: Sequence[Entry]) -> str:
    """What `clear_cache` did, for a person."""
    lines = [f"Removed {', '.join(each.name for each in removed) or 'nothing'}."]
    lines.append(f"{_megabytes(removed)} are free.")
    lines += [f"{each.name}: kept, a process is writing it." for each in busy]
    return "\n".join(lines)


def _megabytes(entries: Sequence[Entry]) -> str:
    return f"{sum(each.bytes for each in entries) / 1e6:,.1f} MB"


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _entries(folder: Path, places: Sequence[Path]) -> Iterator[Entry]:
    several: dict[str, list[Path]] = defaultdict(list)
    for path in places:
        name = path.relative_to(folder).as_posix()
        lock: Path | None = path / "lock"
        if path.is_symlink():
            continue  # we make none
        if UNFINISHED.fullmatch(path.name):
            killed = time.time() - path.stat().st_mtime > LEFT_OVER_AFTER
            old = "a process was killed" if killed else None
            # What unpacks an archive holds the lock of the whole.
            lock = path.with_suffix(".lock") if path.suffix == ".part" else None
            yield _entry(name, "unfinished", old, [path], lock)
        elif OF_IMAGES.match(path.name):
            yield _entry(name, "decoded images", _old_images(path.name), [path], lock)
        elif path.name.startswith("features-"):
            yield _entry(name, *_features(path), [path], lock)
        elif match := OF_FILES.fullmatch(path.name):
            several[match[1]].append(path)
        elif path.parent.name == UNPACKED and path.parent != folder:
            several[name if path.is_dir() else name.rpartition(".")[0]].append(path)
    for name, paths in several.items():
        lock = folder / f"{name}.lock"
        if name.startswith(UNPACKED):
            yield _entry(name, *_unpacked(folder / name), paths, lock)
        else:
            what = "fitted text model" if name.startswith("text") else "word vectors"
            whole = folder / f"{name}.bin" in paths
            yield _entry(name, what, None if whole else "a lock without a file", paths, lock)


def _entry(
    name: str, what: str, old: str | None, paths: Sequence[Path], lock: Path | None
) -> Entry:
    size, used = 0, 0.0
    for path in paths:
        inside = (Path(top) / file for top, _, files in os.walk(path) for file in files)
        for file in [path, *inside]:
            with contextlib.suppress(FileNotFoundError):  # meanwhile removed
                status = file.lstat()
                size += status.st_blocks * 512
                used = max(used, status.st_atime if file.is_file() else 0, status.st_mtime)
    return Entry(name, what, old, tuple(paths), lock, size, used)


def _old_images(name: str) -> str | None:
    match = OF_IMAGES.search(name)
    if match is None or (match[2] == str(DECODE_VERSION) and match[3] == PIL.__version__):
        return None
    return f"of another decoder, Pillow {match[3]}"


def _features(path: Path) -> tuple[str, str | None]:
    """What they are, and why they are old."""
    try:
        identity = json.loads((path / "identity.json").read_text("utf-8"))
        encoder, version = str(identity["encoder"]), str(identity["torch"])
        old = _old_images(str(identity["input"]))
    except (OSError, ValueError, KeyError, TypeError):
        return "features", "their identity.json is missing or damaged"
    if version.partition("+")[0] != metadata.version("torch").partition("+")[0]:
        old = f"of torch {version}"
    words = [word for word in encoder.split() if not re.fullmatch("[0-9a-f]{64}", word)]
    return f"features of {' '.join(words)}", old


def _unpacked(path: Path) -> tuple[str, str | None]:
    """What it is, and why it is old."""
    try:
        archive = Path(path.with_name(f"{path.name}.source").read_text("utf-8", "surrogateescape"))
        if unpacked_name(archive) != path.name:
            what = "has changed" if archive.is_file() else "is gone"
            return f"unpacked {archive}", f"the archive {what}"
    except (OSError, ValueError):
        return "unpacked archive", None if path.is_dir() else "a lock without a folder"
    return f"unpacked {archive}", None


def _remove(entry: Entry) -> bool:
    """Remove an entry; False where a process is writing it."""
    if entry.lock is None or not entry.lock.is_file():
        _delete(entry.paths)
        return True
    lock = FileLock(entry.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    try:
        _delete(entry.paths)
    finally:
        lock.release()
    return True


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        # A new name first: whoever comes meanwhile finds nothing rather than a part.
        gone = path.rename(path.with_name(f".removed-{uuid.uuid4().hex[:8]}"))
        if gone.is_dir():
            shutil.rmtree(gone)
        else:
            gone.unlink()

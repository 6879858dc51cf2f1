"""Features of a frozen encoder on disk: computed once for each distinct image or text.

A folder per `identity` (encoder, weights, preprocessing, precision, libraries), which lies in it as
`identity.json`. `features.bin` has the numbers, float32, one feature after the other; `index.txt` a
line for each: its key, place, shape and CRC-32. Both are only appended to: a kill costs the batch
being written, and what is damaged is computed again. The folder may be deleted at any time.
"""

import hashlib
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils import checked_lines
from mmf_hm_concat.utils.files import atomic_write
from mmf_hm_concat.utils.locks import MAX_WAIT_MINUTES
from mmf_hm_concat.utils.private import ELSEWHERE, check_private, make_private

# How often a process looks whether another has computed what it waits for, in seconds.
LOOK_AGAIN = 0.1


class Line(NamedTuple):
    """One line of the index. ``offset`` in bytes, ``crc`` of the feature's bytes."""

    key: str
    offset: int
    shape: list[int]
    crc: int


class FeatureStore:
    """The features of one encoder in ``cache_dir``; nothing is written before `add`.

    Args:
        identity: what the features depend on, besides the image or text.
    """

    def __init__(self, cache_dir: Path, identity: Mapping[str, str]):
        text = json.dumps(identity, indent=1, sort_keys=True)
        self._identity = text
        self.folder = cache_dir / f"features-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.values, self.index = self.folder / "features.bin", self.folder / "index.txt"
        self._lines: dict[str, Line] = {}
        self._read_to = 0  # the index is read on from here

    def read(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """The features that are there and whole, float32 of any one shape, by key.

        Raises:
            InputError: the folder cannot be read.
        """
        try:
            self._check_private()
            self._read_index()
            known = [self._lines[key] for key in keys if key in self._lines]
            if not known or not self.values.exists():
                return {}
            known.sort(key=lambda line: line.offset)  # as they lie on the disk
            with self.values.open("rb", buffering=0) as file:
                features = {line.key: _feature(file.fileno(), line) for line in known}
            return {key: value for key, value in features.items() if value is not None}
        except OSError as error:
            raise self._unusable(error) from None

    def add(self, features: Mapping[str, np.ndarray]) -> None:
        """Append features, float32, by key. Under `claim` only.

        Raises:
            InputError: a full disk, or a folder that cannot be written.
        """
        try:
            self._make_folder()
            if not (self.folder / "identity.json").exists():
                with atomic_write(self.folder / "identity.json") as temporary:
                    temporary.write_text(self._identity + "\n", encoding="utf-8")
            with (
                self.values.open("ab", buffering=0) as values,
                self.index.open("ab", buffering=0) as index,
            ):
                for key, value in features.items():
                    data = np.ascontiguousarray(value, np.float32).tobytes()
                    offset = values.seek(0, os.SEEK_END)
                    if values.write(data) != len(data):
                        raise OSError("the disk is full")
                    checked_lines.append(
                        index, Line(key, offset, list(value.shape), zlib.crc32(data))
                    )
        except OSError as error:
            raise self._unusable(error) from None

    @contextmanager
    def claim(self, keys: list[str]) -> Iterator[dict[str, np.ndarray]]:
        """Wait until all of ``keys`` are there or nobody else adds any; gives what is there.

        Within the block, no other process computes: where something is lacking, it is this one's
        to compute and `add`.

        Raises:
            InputError: another process holds the folder and has added nothing for
                `MAX_WAIT_MINUTES`; or the folder cannot be used.
        """
        found = self.read(keys)
        if len(found) == len(keys):
            yield found
            return
        lock = self._locked(keys)
        try:
            yield self.read(keys)
        finally:
            if lock is not None:
                lock.release()

    def _locked(self, keys: list[str]) -> FileLock | None:
        """The held lock; None where another process has meanwhile added all of ``keys``."""
        size, since = -1, time.monotonic()
        try:
            self._make_folder()
            lock = FileLock(self.folder / "lock")
            while True:
                try:
                    lock.acquire(timeout=LOOK_AGAIN)
                    return lock
                except Timeout:
                    if len(self.read(keys)) == len(keys):
                        return None
                if self._read_to != size:  # it gets on
                    size, since = self._read_to, time.monotonic()
                elif time.monotonic() - since > 60 * MAX_WAIT_MINUTES:
                    raise InputError(
                        f"{self.folder}: another process computes features there, but has added "
                        f"none for {MAX_WAIT_MINUTES:g} minutes. Stop it if it hangs "
                        f"(`fuser {self.folder / 'lock'}` names it). {ELSEWHERE}"
                    ) from None
        except (OSError, NotImplementedError) as error:
            raise self._unusable(error) from None

    def check_space(self, count: int, shape: tuple[int, ...]) -> str:
        """The size of ``count`` features to come, in words; InputError when they do not fit."""
        needed = 4 * count * math.prod(shape)
        there = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        sizes = f"{needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free"
        if needed > free:
            raise InputError(
                f"{self.folder}: no room for {count:,} features: {sizes}. Free some space. "
                f"{ELSEWHERE}"
            )
        return sizes

    def _make_folder(self) -> None:
        for folder in (self.folder.parent, self.folder):
            make_private(folder)
        self._check_private()

    def _check_private(self) -> None:
        check_private(self.folder.parent, self.folder.name)
        files = (self.values, self.index, self.folder / "identity.json", self.folder / "lock")
        check_private(self.folder, *(file.name for file in files))

    def _read_index(self) -> None:
        """Read what was appended since the last time; from the start where it is another file."""
        size = self.index.stat().st_size if self.index.exists() else 0
        if size < self._read_to:
            self._read_to, self._lines = 0, {}
        if size > self._read_to:
            with self.index.open("rb") as file:
                file.seek(self._read_to)
                content = file.read()
            # The last line may still be on its way to the disk: the next time reads it, too.
            self._lines |= {line[0]: Line(*line) for line in checked_lines.parse(content)}
            self._read_to += max(content.rfind(b"\n"), 0)

    def _unusable(self, error: Exception) -> InputError:
        return InputError(
            f"{self.folder}: features cannot be kept there ({error}). Free some space. {ELSEWHERE}"
        )


def _feature(file: int, line: Line) -> np.ndarray | None:
    """What a line says is there; None where the numbers are others, or cut off."""
    data = os.pread(file, 4 * math.prod(line.shape), line.offset)
    if len(data) < 4 * math.prod(line.shape) or zlib.crc32(data) != line.crc:
        return None
    return np.frombuffer(data, np.float32).reshape(line.shape)

"""Decoded images on disk, for `ImageCache`: shared, resumable, and checked.

A cache folder holds one store per size, decoder and interpolation, a folder of two files:
`pixels.bin`, rows of size * size * 3 bytes, and `index.txt`, one line per image file seen: its path
and stat, the SHA-256 of its content, and the row with the row's CRC-32. Rows go by content, so
splits, samples, runs and moved folders share them. Both files are only appended to: a kill costs
the image being written. Each line and each row has a checksum: what is damaged is made again.
Nothing is removed; the folder may be deleted at any time: a run goes on with the file that it
opened.
"""

import hashlib
import logging
import os
import shutil
import zlib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
import PIL

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import decode, read_file, resize
from mmf_hm_concat.utils import checked_lines
from mmf_hm_concat.utils.files import identity
from mmf_hm_concat.utils.locks import locked
from mmf_hm_concat.utils.parallel import num_cores, parallel_map
from mmf_hm_concat.utils.private import ELSEWHERE, check_private, make_private

logger = logging.getLogger("mmf_hm_concat")

# To be raised whenever `read_rgb` or `resize` gives other pixels than before.
DECODE_VERSION = 1


class Line(NamedTuple):
    """One line of the index. ``stat``: see `utils.files.identity`; ``crc``: of the row's bytes."""

    path: str
    stat: list[int]
    sha256: str
    row: int
    crc: int


# Paths with their line, or with what is wrong.
Coming: TypeAlias = Generator[tuple[str, Line | str], None, None]


def name_of(size: int, interpolation: str) -> str:
    """What the pixels depend on, besides the image's content; and the folder's name."""
    name = f"images-{size}px-v{DECODE_VERSION}-pillow{PIL.__version__}"
    return name if interpolation == "bilinear" else f"{name}-{interpolation}"


class ImageStore:
    """The store of (size, size) images in ``cache_dir``; nothing is written before `add`."""

    def __init__(self, cache_dir: Path, size: int, interpolation: str = "bilinear"):
        self.folder, self.interpolation = cache_dir / name_of(size, interpolation), interpolation
        self.pixels, self.index = self.folder / "pixels.bin", self.folder / "index.txt"
        self.size, self.row_bytes = size, size * size * 3
        # The pixels, opened once: rows mean nothing in a file that another run has put there.
        self._file: IO[bytes] | None = None
        self._identity: tuple[int, int] | None = None  # of that file: device and inode

    def read(self, row: int, pixels: np.ndarray) -> None:
        """Fill ``pixels``, uint8 of ``row_bytes``, with the row of a line.

        Raises:
            InputError: the file was cut; or, in a process that opens it anew, removed or replaced.
        """
        try:
            # Held here: another thread may open it too and take its place, which would close it.
            file = self._file or self._open("rb")
            if self._read(file, row, pixels):
                return
        except OSError:
            pass
        raise InputError(
            f"{self.pixels}: was cut, removed or replaced meanwhile. Start the run again."
        )

    def _read(self, file: IO[bytes], row: int, pixels: np.ndarray) -> bool:
        return os.preadv(file.fileno(), [pixels.data], row * self.row_bytes) == self.row_bytes

    def _open(self, mode: str) -> IO[bytes]:
        """Open the pixels. OSError when that is another file than was opened first."""
        file = self.pixels.open(mode, buffering=0)
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino)
        if self._identity not in (None, identity):
            file.close()
            raise OSError("another process removed it meanwhile; start the run again")
        self._file, self._identity = file, identity
        return file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def known(self, paths: Sequence[str]) -> dict[str, Line]:
        """The lines of the images that are there and whole, by path; others are left out.

        Args:
            paths: distinct absolute paths.

        Raises:
            InputError: a folder that cannot be used.
        """
        with self._errors():
            self._check_private()
            return self._look_up({path: identity(path) for path in paths})

    def add(self, paths: Sequence[str], ahead: int | None = None) -> Coming:
        """Decode images, one after the other, and keep them.

        It begins when the first is asked for, and goes on while the caller uses one; a lock keeps
        others from it until the last was given, or this is closed.

        Args:
            paths: distinct absolute paths.
            ahead: how many are decoded before they are asked for, without a bar that shows how
                far it is; by default, few, with one.

        Yields:
            Each path with its line; or with what is wrong, if it cannot be decoded.

        Raises:
            InputError: not enough room, or a folder that cannot be used.
        """
        with self._errors():
            stats = {path: identity(path) for path in paths}
            self._check_private()
            for folder in (self.folder.parent, self.folder):
                make_private(folder)
            self._check_private()
            with locked(self.folder / "lock", "decodes images"):
                found = self._look_up(stats)  # the process before us may have made them
                yield from found.items()
                missing = {path: stat for path, stat in stats.items() if path not in found}
                if missing:
                    yield from self._make(missing, ahead)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.folder}: decoded images cannot be kept there ({error}). {_ELSEWHERE}"
            ) from None

    def _check_private(self) -> None:
        check_private(self.folder.parent, self.folder.name)
        check_private(self.folder, self.pixels.name, self.index.name, "lock")

    def _lines(self) -> list[Line]:
        """The lines that are whole: neither torn by a kill nor with a byte flipped."""
        content = self.index.read_bytes() if self.index.exists() else b""
        return [Line(*fields) for fields in checked_lines.parse(content)]

    def _look_up(self, stats: dict[str, list[int]]) -> dict[str, Line]:
        """The lines whose image is unchanged, by its stat, and whose pixels are, by the CRC."""
        known = {line.path: line for line in self._lines()}  # the last line about a path counts
        found = [known[path] for path, stat in stats.items() if path in known]
        found = [line for line in found if line.stat == stats[line.path]]
        if not found or not (self._file or self.pixels.exists()):
            return {}
        found.sort(key=lambda line: line.row)  # as they lie on the disk
        file = self._file or self._open("rb")

        def check(lines: list[Line]) -> list[bool]:
            return [self._is_whole(file, line) for line in lines]

        with ThreadPoolExecutor(num_cores()) as pool:
            shares = [found[start : start + 64] for start in range(0, len(found), 64)]
            whole = [good for share in pool.map(check, shares) for good in share]
        if not all(whole):
            damaged = f"{whole.count(False):,}"
            logger.warning("%s: %s damaged images are decoded again", self.pixels, damaged)
        return {line.path: line for line, good in zip(found, whole, strict=True) if good}

    def _is_whole(self, file: IO[bytes], line: Line) -> bool:
        pixels = np.empty(self.row_bytes, np.uint8)
        return self._read(file, line.row, pixels) and zlib.crc32(pixels.data) == line.crc

    def _make(self, missing: dict[str, list[int]], ahead: int | None) -> Coming:
        """Decode into rows, in order; yields what `add` does."""
        by_content = {line.sha256: line for line in self._lines()}
        self._check_space(missing, by_content)
        self.pixels.touch()
        file = self._open("r+b")
        # Never a row by which a line or a running process means another image.
        past_end = -(-file.seek(0, os.SEEK_END) // self.row_bytes)
        free_row = max([past_end, *(line.row + 1 for line in by_content.values())])

        def make(path: str) -> tuple[str, np.ndarray | None] | InputError:
            try:
                data = read_file(path)
                content = hashlib.sha256(data).hexdigest()
                line = by_content.get(content)
                if line and self._is_whole(file, line):
                    return content, None  # the image was moved or touched, or is a copy
                return content, resize(decode(data, path), self.size, self.interpolation)
            except InputError as error:
                return error

        made = parallel_map(make, list(missing), None if ahead else "decoding images", ahead)
        with self.index.open("ab", buffering=0) as index, closing(made):
            for (path, stat), result in zip(missing.items(), made, strict=True):
                if isinstance(result, InputError):
                    yield path, str(result)
                    continue
                content, pixels = result
                line = by_content.get(content)
                if pixels is not None:
                    row = line.row if line else free_row
                    free_row = max(free_row, row + 1)
                    line = Line(path, stat, content, row, zlib.crc32(pixels))
                    if os.pwrite(file.fileno(), pixels, row * self.row_bytes) < self.row_bytes:
                        raise OSError("the disk is full")
                assert line is not None  # `make` gave pixels for what no line has
                line = line._replace(path=path, stat=stat)
                checked_lines.append(index, line)
                by_content[content] = line
                yield path, line

    def _check_space(self, paths: dict[str, list[int]], by_content: dict[str, Line]) -> None:
        """Announce the size of what is to come; raise InputError when it does not fit."""
        free = shutil.disk_usage(self.folder).free
        needed = len(paths) * self.row_bytes
        if needed > free and by_content:  # images that were only moved need no room
            contents = set(parallel_map(content_of, list(paths), "looking for moved images"))
            needed = len(contents - by_content.keys() - {None}) * self.row_bytes
        sizes = f"{needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free"
        if needed > free:
            raise InputError(
                f"{self.folder}: no room for {len(paths):,} decoded images: {sizes}. {_ELSEWHERE}"
            )
        logger.info("decoding %s images into %s: %s", f"{len(paths):,}", self.folder, sizes)


_ELSEWHERE = f"Free some space, or set image_cache: off. {ELSEWHERE}"


def content_of(path: str) -> str | None:
    """The SHA-256 of a file, by which a line knows an image; None when it cannot be read."""
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except InputError:
        return None

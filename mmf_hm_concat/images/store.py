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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

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


def name_of(size: int, interpolation: str) -> str:
    """What the pixels depend on, besides the image's content; and the folder's name."""
    name = f"images-{size}px-v{DECODE_VERSION}-pillow{PIL.__version__}"
    return name if interpolation == "bilinear" else f"{name}-{interpolation}"


class ImageStore:
    """The store of (size, size) images in ``cache_dir``; nothing is written before `lines_of`."""

    def __init__(self, cache_dir: Path, size: int, interpolation: str = "bilinear"):
        self.folder, self.interpolation = cache_dir / name_of(size, interpolation), interpolation
        self.pixels, self.index = self.folder / "pixels.bin", self.folder / "index.txt"
        self.size, self.row_bytes = size, size * size * 3
        # The pixels, opened once: rows mean nothing in a file that another run has put there.
        self._file: IO[bytes] | None = None
        self._identity: tuple[int, int] | None = None  # of that file: device and inode

    def read(self, row: int, pixels: np.ndarray) -> None:
        """Fill ``pixels``, uint8 of ``row_bytes``, with a row that `lines_of` gave.

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

    def lines_of(self, paths: list[str]) -> tuple[dict[str, Line], dict[str, str]]:
        """Make sure that all images are there and whole.

        Args:
            paths: distinct absolute paths.

        Returns:
            path -> its line, and path -> what is wrong for the images that cannot be decoded.

        Raises:
            InputError: not enough room, or a folder that cannot be used.
        """
        try:
            return self._lines_of({path: identity(path) for path in paths})
        except OSError as error:
            raise InputError(
                f"{self.folder}: decoded images cannot be kept there ({error}). {_ELSEWHERE}"
            ) from None

    def _lines_of(self, stats: dict[str, list[int]]) -> tuple[dict[str, Line], dict[str, str]]:
        self._check_private()
        found = self._look_up(stats)
        if len(found) == len(stats):  # what is complete is only read, and needs no lock
            return found, {}
        for folder in (self.folder.parent, self.folder):
            make_private(folder)
        self._check_private()
        with locked(self.folder / "lock", "decodes images"):
            found = self._look_up(stats)  # the process before us may have made them
            missing = {path: stat for path, stat in stats.items() if path not in found}
            if not missing:
                return found, {}
            made, problems = self._make(missing)
            return found | made, problems

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

    def _make(self, missing: dict[str, list[int]]) -> tuple[dict[str, Line], dict[str, str]]:
        """Decode into rows, in order; returns what `lines_of` does."""
        by_content = {line.sha256: line for line in self._lines()}
        self._check_space(missing, by_content)
        self.pixels.touch()
        file = self._open("r+b")
        lines: dict[str, Line] = {}
        problems: dict[str, str] = {}
        with self.index.open("ab", buffering=0) as index:
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

            made = parallel_map(make, list(missing), "decoding images")
            for (path, stat), result in zip(missing.items(), made, strict=True):
                if isinstance(result, InputError):
                    problems[path] = str(result)
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
                by_content[content] = lines[path] = line
        return lines, problems

    def _check_space(self, paths: dict[str, list[int]], by_content: dict[str, Line]) -> None:
        """Announce the size of what is to come; raise InputError when it does not fit."""
        free = shutil.disk_usage(self.folder).free
        needed = len(paths) * self.row_bytes
        if needed > free and by_content:  # images that were only moved need no room
            contents = set(parallel_map(_content, list(paths), "looking for moved images"))
            needed = len(contents - by_content.keys() - {None}) * self.row_bytes
        sizes = f"{needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free"
        if needed > free:
            raise InputError(
                f"{self.folder}: no room for {len(paths):,} decoded images: {sizes}. {_ELSEWHERE}"
            )
        logger.info("decoding %s images into %s: %s", f"{len(paths):,}", self.folder, sizes)


_ELSEWHERE = f"Free some space, or set image_cache: off. {ELSEWHERE}"


def _content(path: str) -> str | None:
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except InputError:
        return None

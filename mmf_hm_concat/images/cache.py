"""All images of a run as uint8 squares: decoded once, read back by one copy each."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import read_rgb, resize
from mmf_hm_concat.images.pending import PendingImages
from mmf_hm_concat.images.store import ImageStore, name_of
from mmf_hm_concat.utils.parallel import parallel_map
from mmf_hm_concat.utils.text import first_and_more

if TYPE_CHECKING:  # a cache can be built without waiting for torch
    from torch import Tensor

logger = logging.getLogger("mmf_hm_concat")

# The grey of an image that cannot be read, with on_bad_image "blank".
BLANK = 128
# As many lines of one message as a person reads.
SHOWN = 20
# What is decoded ahead takes no more memory: three batches of a GPU at 224 pixels.
AHEAD_BYTES = 64_000_000


class ImageCache:
    """The images of ``paths``, in that order, resized to (size, size).

    Args:
        paths: image files (`decode.read_rgb` says which); one may come several times.
        size: side of the square in pixels.
        cache_dir: where the decoded images are kept (`store.py` says how), shared by all
            splits and runs; None decodes at every access, to the same tensors. Either way, and
            unless ``ahead``, every image is known to be readable, and its cached copy to be whole,
            before this returns.
        on_bad_image: "error", or "blank": a grey image stands in, and `bad` says for which.
        interpolation: of the resize, see `images.decode.resize`.
        ahead: return before all is decoded, for a reader that takes each image once, in order, and
            leaves the processor idle meanwhile. Bad images are told when the first of them is
            read. Not with "blank", and not without ``cache_dir``. `close` it, unless all was read.

    Attributes:
        bad: path -> what is wrong with it, for the images replaced by a grey one.
        identity: what the pixels depend on, besides: size, decoder, interpolation.

    Reads go through `pread`, not a memory map: cached pages count as the system's memory, not
    as this process's, however many images there are. Safe with threads, fork and pickling.

    Raises:
        InputError: bad images (all counted, the first 20 named), a full disk, a cache folder
            that cannot be used.
    """

    def __init__(
        self,
        paths: Sequence[str],
        size: int,
        cache_dir: Path | None,
        on_bad_image: str = "error",
        interpolation: str = "bilinear",
        ahead: bool = False,
    ):
        if on_bad_image not in ("error", "blank"):
            raise InputError(f"on_bad_image: {on_bad_image!r} is neither error nor blank.")
        self.size, self.interpolation, self.on_bad_image = size, interpolation, on_bad_image
        self.identity = name_of(size, interpolation)
        # As most are absolute, and making a Path of each takes a second for 100,000.
        self._paths = [p if p.startswith("/") else str(Path(p).absolute()) for p in map(str, paths)]
        distinct = list(dict.fromkeys(self._paths))
        self.bad: dict[str, str] = {}
        self._store: ImageStore | None = None
        self._pending: PendingImages | None = None
        self._rows = np.empty(0, np.int64)
        if cache_dir is None:
            # A full decode: no cheaper look finds everything that may be wrong.
            why = parallel_map(why_unreadable, distinct, "checking images")
            bad = {p: w for p, w in zip(distinct, why, strict=True) if w is not None}
            self._replace(bad)
            self._contents = ["blank" if path in bad else path for path in self._paths]
            return
        self._store = ImageStore(Path(cache_dir).absolute(), size, interpolation)
        ahead = ahead and on_bad_image == "error"
        images_ahead = max(1, AHEAD_BYTES // self._store.row_bytes)
        self._pending = PendingImages(self._store, distinct, images_ahead if ahead else None)
        if not ahead:
            self._pending.take()
        if self._pending.is_over:
            self._finish(self._pending)

    @property
    def contents(self) -> list[str]:
        """Of each path, what its pixels are known by: the SHA-256 of the file.

        Without ``cache_dir``, the path itself; "blank" for a grey image.
        """
        if self._pending is None:
            return self._contents
        contents = self._pending.contents()
        return [contents.get(path, path) for path in self._paths]

    @property
    def is_decoding(self) -> bool:
        """Whether images are still to come; for this process alone, a fork decodes for itself."""
        return self._pending is not None

    def close(self) -> None:
        """Decode no more, and let other processes do it. Nothing is read afterwards."""
        if self._pending is not None:
            self._pending.close()

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, i: int) -> "Tensor":
        """One image, uint8 (3, size, size)."""
        return self.batch([i])[0]

    def batch(self, indices: Sequence[int]) -> "Tensor":
        """Images, uint8 (B, 3, size, size), channels last in memory."""
        import torch

        pixels_BHWC = np.empty((len(indices), self.size, self.size, 3), np.uint8)
        for pixels, i in zip(pixels_BHWC, indices, strict=True):
            self._read(int(i), pixels)
        return torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2)

    def _read(self, i: int, pixels: np.ndarray) -> None:
        path = self._paths[i]
        if path in self.bad:
            pixels[:] = BLANK
            return
        pending = self._pending
        if self._store is None or (pending is not None and pending.process != os.getpid()):
            pixels[:] = resize(read_rgb(path), self.size, self.interpolation)
            return
        if pending is not None:
            pending.take(path)
            if not pending.is_over:
                self._store.read(pending.lines[path].row, pixels)
                return
            self._finish(pending)
        self._store.read(int(self._rows[i]), pixels)

    def _finish(self, pending: PendingImages) -> None:
        """Keep what is needed of images that have all been decoded."""
        lines = pending.lines
        self._replace(pending.bad)
        self._contents = [lines[p].sha256 if p in lines else "blank" for p in self._paths]
        rows = [lines[path].row if path in lines else -1 for path in self._paths]
        self._rows = np.array(rows, np.int64)
        self._pending = None

    def __getstate__(self) -> dict[str, Any]:
        if self._pending is not None:
            self._pending.take()
            self._finish(self._pending)
        return self.__dict__

    def _replace(self, bad: dict[str, str]) -> None:
        """Let grey images stand in for bad ones; or raise, each time that one is read."""
        if not bad:
            return
        shown = "\n  ".join(first_and_more(list(bad.values()), SHOWN))
        what = f"{len(bad):,} of {len(set(self._paths)):,} images cannot be used"
        if self.on_bad_image == "error":
            raise InputError(
                f"{what}:\n  {shown}\nMend or remove them, or set on_bad_image: blank, which puts "
                "a grey image in their place."
            )
        logger.warning("%s; grey ones stand in for them:\n  %s", what, shown)
        self.bad = bad


def why_unreadable(path: str) -> str | None:
    """What is wrong with an image file; None when it decodes."""
    try:
        read_rgb(path)
    except InputError as error:
        return str(error)
    return None

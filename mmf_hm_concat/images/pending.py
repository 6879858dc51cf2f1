"""Images that a store is still decoding: what it has given so far, and what is to come."""

import os
import threading
from collections.abc import Sequence

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.store import Coming, ImageStore, Line, content_of
from mmf_hm_concat.utils.parallel import parallel_map


class PendingImages:
    """Of distinct paths, in that order. Safe with threads; of use to the process that made it.

    Args:
        ahead: see `ImageStore.add`.

    Attributes:
        lines: those there are, by path.
        bad: path -> what is wrong, for the images that cannot be decoded.
        is_over: whether nothing is to come.
        process: the one that made it; in a fork of it, there are no threads that decode.
    """

    def __init__(self, store: ImageStore, paths: Sequence[str], ahead: int | None):
        self.process = os.getpid()
        self.lines: dict[str, Line] = store.known(paths)
        self.bad: dict[str, str] = {}
        self._count = len(paths)
        self._waiting = [path for path in paths if path not in self.lines]
        self._coming: Coming = store.add(self._waiting, ahead)
        self._contents: dict[str, str] = {}
        self._lock = threading.Lock()
        self.is_over = not self._waiting

    def take(self, wanted: str | None = None) -> None:
        """Wait until the line of ``wanted`` is there; without a path, for all.

        All are waited for when one of them is bad, too: the others are to be told with it.

        Raises:
            InputError: what `ImageStore.add` says; or an image was changed meanwhile.
        """
        with self._lock:
            while not self.is_over and (wanted is None or wanted not in self.lines):
                path, line = next(self._coming, (None, ""))
                if path is None:
                    assert len(self.lines) + len(self.bad) == self._count, "read after close"
                    self.is_over = True
                elif isinstance(line, str):
                    self.bad[path], wanted = line, None
                elif self._contents.get(path, line.sha256) != line.sha256:
                    raise InputError(f"{path}: was changed meanwhile. Start the run again.")
                else:
                    self.lines[path] = line
            if len(self.lines) == self._count:
                self._coming.close()
                self.is_over = True

    def contents(self) -> dict[str, str]:
        """The SHA-256 of the images, by path, without waiting for pixels; unreadable ones lack."""
        with self._lock:
            known = self.lines.keys() | self._contents.keys()
            unknown = [path for path in self._waiting if path not in known]
            hashed = zip(unknown, parallel_map(content_of, unknown, "reading images"), strict=True)
            self._contents |= {path: content for path, content in hashed if content is not None}
            return {path: line.sha256 for path, line in self.lines.items()} | self._contents

    def close(self) -> None:
        """Decode no more, and let other processes do it. Nothing is read afterwards."""
        with self._lock:
            self._coming.close()

"""One process makes something, the others wait for it: for a stated time, then with a message."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mmf_hm_concat.errors import InputError

logger = logging.getLogger("mmf_hm_concat")

# Seconds. The competition's 12,140 images take two minutes to decode on two cores.
LONGEST_WAIT = 1800


@contextmanager
def waiting_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path``; while another process holds it, say so and wait.

    Args:
        what: what the other process does, as "decodes images into it".

    Raises:
        InputError: it is still held after ``LONGEST_WAIT`` seconds.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: waiting for another process that %s", path.parent, what)
        try:
            lock.acquire(timeout=LONGEST_WAIT)
        except Timeout:
            raise InputError(
                f"{path}: another process that {what} has held this lock for {LONGEST_WAIT} "
                "seconds. Wait until it has ended, or end it, and start again."
            ) from None
    try:
        yield
    finally:
        lock.release()

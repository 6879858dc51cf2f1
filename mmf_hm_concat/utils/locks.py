"""One process at a time: a lock file that is waited for, but not for ever."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mmf_hm_concat.errors import InputError, printable
from mmf_hm_concat.utils.private import ELSEWHERE

logger = logging.getLogger("mmf_hm_concat")

# Longer than unpacking or decoding the whole data set takes on a slow disk.
MAX_WAIT_MINUTES = 30.0


@contextmanager
def locked(lock_file: Path, work: str) -> Iterator[None]:
    """Hold a lock for the block, after other processes and threads have let it go.

    Args:
        lock_file: made when missing, in a folder that exists. The system frees the lock of a
            process that died.
        work: what its holder does, after "another process", as "unpacks img.tar.gz".

    Raises:
        InputError: not free after `MAX_WAIT_MINUTES`.
        OSError: the file cannot be made or locked.
    """
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("waiting for another process that %s (%s)", printable(work), lock_file)
        try:
            lock.acquire(timeout=60 * MAX_WAIT_MINUTES)
        except Timeout:
            raise InputError(
                f"{lock_file}: waited {MAX_WAIT_MINUTES:g} minutes for another process that "
                f"{work}. Stop that process if it hangs (`fuser {lock_file}` names it). "
                f"{ELSEWHERE}"
            ) from None
    try:
        yield
    finally:
        lock.release()

"""Work on all cores that this process may use."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tqdm import tqdm


def num_cores() -> int:
    """The cores that this process may use, which in a container are fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_map(work: Callable[[Any], Any], items: Sequence[Any], label: str) -> Iterator[Any]:
    """``map(work, items)`` on all cores, with a bar, holding only a few results at a time.

    Threads, not processes: Pillow decodes without Python's lock, and threads start at once.
    """
    # disable=None: no bar where nobody watches (logs, tests)
    bar = tqdm(total=len(items), desc=label, unit="", disable=None)
    with bar, ThreadPoolExecutor(num_cores()) as pool:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 4 * num_cores():
                yield waiting.popleft().result()
                bar.update()
        while waiting:
            yield waiting.popleft().result()
            bar.update()

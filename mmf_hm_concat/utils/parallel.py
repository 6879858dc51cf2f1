"""Work on all cores that this process may use."""

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

_OWN_CGROUPS = Path("/proc/self/cgroup")  # cgroups(7): lines of hierarchy:controllers:path
_CGROUPS = Path("/sys/fs/cgroup")


def num_cores() -> int:
    """The cores that this process may use: by its affinity and its cgroups' CPU quota.

    A part of a core counts as a whole one, so that there is always one.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _cpu_quota())))


def _cpu_quota() -> float:
    """Cores' worth of time that the cgroups of this process grant; infinity without a limit."""
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:  # no Linux
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            roots, read = [_CGROUPS], _quota_v2
        elif "cpu" in controllers.split(","):
            roots, read = [_CGROUPS / controllers, _CGROUPS / "cpu"], _quota_v1
        else:
            continue
        own = Path(path.lstrip("/"))
        # Every group above limits, too. In a container the path may be the host's, and only the
        # root exists: what is not there limits nothing.
        quotas += [read(root / group) for root in roots for group in (own, *own.parents)]
    return min(quotas)


def _quota_v2(group: Path) -> float:
    """`cpu.max`: "max 100000" or "50000 100000" (Linux, admin-guide/cgroup-v2)."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _quota_v1(group: Path) -> float:
    """`cpu.cfs_quota_us`, -1 for no limit (Linux, scheduler/sched-bwc)."""
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        return math.inf if quota < 0 else quota / int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def parallel_map(
    work: Callable[[Any], Any],
    items: Sequence[Any],
    label: str | None = None,
    ahead: int | None = None,
) -> Generator[Any, None, None]:
    """``map(work, items)`` on all cores, holding only a few results at a time.

    With a label, a bar shows how far it is. The next items are worked on while the caller uses one:
    so many as ``ahead`` says, by default four a core.

    Threads, not processes: Pillow decodes without Python's lock, and threads start at once.
    """
    ahead = ahead or 4 * num_cores()
    # disable=None: no bar where nobody watches (logs, tests)
    bar = tqdm(total=len(items), desc=label, unit="", disable=None if label else True)
    with bar, ThreadPoolExecutor(num_cores()) as pool:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
                bar.update()
        while waiting:
            yield waiting.popleft().result()
            bar.update()

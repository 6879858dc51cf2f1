"""How many images a second are decoded and resized on one thread, on all, and likely on more.

Run: python benchmarks/threads.py [memes]

More cores than this machine has are estimated by Amdahl's law (AFIPS 1967): the share of the work
that only one thread at a time does (Python's own) follows from how far all cores stay behind so
many times one. Memory bandwidth, which the cores of a large machine share, is not in it.
"""

import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _memes import machine, make_memes

from mmf_hm_concat.images.decode import read_rgb, resize
from mmf_hm_concat.utils.parallel import num_cores

ROUNDS = 5
MORE = (4, 8, 16, 64)


def images_per_second(paths: list[str], threads: int) -> float:
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda path: resize(read_rgb(path), 224), paths):
            pass
    return len(paths) / (time.perf_counter() - start)


def main() -> None:
    memes = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    cores = num_cores()
    with tempfile.TemporaryDirectory() as folder:
        paths, _ = make_memes(Path(folder), memes)
        counts = sorted({1, 2, cores})
        rounds = [[images_per_second(paths, each) for each in counts] for _ in range(ROUNDS)]
    found = {
        each: statistics.median(column)
        for each, column in zip(counts, zip(*rounds, strict=True), strict=True)
    }
    print(f"decoding {memes} memes to 224 pixels, images/s, median of {ROUNDS}")
    for threads, rate in found.items():
        print(f"{threads:3} threads {rate:8.0f}  {rate / found[1]:5.2f} times one")
    if cores > 1:
        speedup = found[cores] / found[1]
        alone = max(0.0, (cores / speedup - 1) / (cores - 1))
        for threads in (each for each in MORE if each > cores):
            rate = found[1] / (alone + (1 - alone) / threads)
            print(
                f"{threads:3} cores   {rate:8.0f}  estimated, {alone:.1%} of the work on one thread"
            )
    print(machine())


if __name__ == "__main__":
    main()

"""What a prediction of memes never seen before gains from decoding while a GPU computes.

Run: python benchmarks/decode_ahead.py [memes [samples a second ...]]

The GPU is a pause, as long as one that computes so many samples/s takes for a batch; all else is
what mmf_predict does: with a GPU it reads ahead, on a CPU it decodes all images before.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _memes import machine, make_memes

from mmf_hm_concat.images.cache import ImageCache
from mmf_hm_concat.training.batch_samplers import EVALUATION_BATCH, EvalBatchSampler

REPEATS = 3


def predict(paths: Sequence[str], cache_dir: Path, rate: float, ahead: bool) -> float:
    """Seconds for all memes."""
    start = time.perf_counter()
    images = ImageCache(paths, 224, cache_dir, ahead=ahead)
    done = start
    for rows in EvalBatchSampler(len(paths), EVALUATION_BATCH["cuda"]):
        images.batch(rows)
        # As of a GPU, which is given the next batch while it computes the last.
        time.sleep(max(0, done - time.perf_counter()))
        done = time.perf_counter() + len(rows) / rate
    time.sleep(max(0, done - time.perf_counter()))
    return time.perf_counter() - start


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rates = [float(rate) for rate in sys.argv[2:]] or [100.0, 200.0, 400.0, 1600.0]
    print(f"prediction of {count} memes, median of {REPEATS}, as samples/s")
    print("the GPU alone   all before   ahead   cached   ahead, of cached")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, _ = make_memes(folder / "img", count)
        for rate in rates:
            took: dict[str, list[float]] = {"before": [], "ahead": [], "cached": []}
            for k in range(REPEATS):
                for who, kept in (("before", "b"), ("ahead", "a"), ("cached", "a")):
                    kept_in = folder / f"{kept}{rate:.0f}-{k}"
                    took[who].append(predict(paths, kept_in, rate, ahead=who == "ahead"))
            before, ahead, cached = (count / statistics.median(each) for each in took.values())
            print(f"{rate:13.0f} {before:12.0f} {ahead:7.0f} {cached:8.0f} {ahead / cached:17.0%}")
    print(machine())


if __name__ == "__main__":
    main()

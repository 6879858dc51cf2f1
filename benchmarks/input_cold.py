"""How long the first epoch's input takes: decode and cache everything, against the tutorial's way.

Run: python benchmarks/input_cold.py [memes]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _memes import machine, make_memes
from reference import BATCH, Memes, epoch

from mmf_hm_concat.image_cache import ImageCache
from mmf_hm_concat.images import normalize
from mmf_hm_concat.text import fit_text_model

REPEATS = 5


def first_epoch(paths: list[str], texts: list[str], text_model, cache_dir: Path) -> int:
    """All checks, all vectors, the whole cache, and every batch normalised from it."""
    vectors = torch.from_numpy(text_model.vectors(texts))
    images = ImageCache(paths, 224, cache_dir, show_progress=False)
    seen = 0
    for rows in torch.randperm(len(paths)).split(BATCH):
        seen += len(normalize(images.batch(rows.tolist()))) + 0 * len(vectors[rows])
    return seen


def seconds(work: Callable[[], int], memes: int) -> float:
    start = time.perf_counter()
    assert work() == memes
    return time.perf_counter() - start


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, texts = make_memes(folder / "img", count)
        size = sum(Path(path).stat().st_size for path in paths) / count
        text_model = fit_text_model(texts, epochs=1, cache_dir=folder)
        memes = Memes(paths, texts, str(text_model.path))
        theirs, ours = [], []
        for k in range(REPEATS):  # in turns: both see the same neighbours on a shared machine
            theirs.append(seconds(lambda: epoch(memes), count))
            cache = folder / f"cache{k}"
            ours.append(seconds(lambda c=cache: first_epoch(paths, texts, text_model, c), count))
    print(f"first epoch of {count} memes of {size / 1e3:.0f} KB, median of {REPEATS} (range)")
    for who, times in (("as the tutorial", theirs), ("first epoch here", ours)):
        middle = statistics.median(times)
        print(
            f"{who:18} {middle:6.2f} s ({min(times):.2f} to {max(times):.2f})"
            f" {count / middle:7.0f} memes/s"
        )
    ratio = statistics.median(t / o for t, o in zip(theirs, ours, strict=True))
    print(f"{ratio:.2f} times as fast (goal: 1.2)\n{machine()}")


if __name__ == "__main__":
    main()

"""How long a later epoch's input takes, without MMF: reading the cache, against the tutorial's way.

Run: python benchmarks/input_warm.py [memes]
"""

import operator
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _memes import machine, make_memes
from reference import BATCH, Memes, epoch

from mmf_hm_concat.encoders.fasttext_model import fit_text_model
from mmf_hm_concat.encoders.image_preprocessing import IMAGENET
from mmf_hm_concat.images.cache import ImageCache

REPEATS = 3


def later_epoch(images: ImageCache, vectors: torch.Tensor, finish: Callable) -> int:
    """All memes once, in a random order, in this process: no worker is needed."""
    seen = 0
    for rows in torch.randperm(len(images)).split(BATCH):
        seen += len(finish(images.batch(rows.tolist()))) * len(vectors[rows]) // len(rows)
    return seen


def seconds_each(work: Callable[[], int], memes: int) -> float:
    start = time.perf_counter()
    assert work() == memes
    return (time.perf_counter() - start) / memes


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, texts = make_memes(folder / "img", count)
        text_model = fit_text_model(texts, epochs=1, cache_dir=folder)
        vectors = torch.from_numpy(text_model.vectors(texts))
        images = ImageCache(paths, 224, folder / "cache")
        memes = Memes(paths, texts, str(text_model.path))
        work = {
            "as the tutorial": lambda: epoch(memes),
            "uint8 batches": lambda: later_epoch(images, vectors, lambda batch: batch),
            "and normalised here": lambda: later_epoch(images, vectors, IMAGENET.normalize),
            "opening the cache": lambda: len(ImageCache(paths, 224, folder / "cache")),
        }
        times: dict[str, list[float]] = {who: [] for who in work}
        for _ in range(REPEATS):  # in turns: all see the same neighbours on a shared machine
            for who, do in work.items():
                times[who].append(seconds_each(do, count))
    print(f"later epoch of {count} memes, median of {REPEATS}; batches of {BATCH}")
    for who, each in times.items():
        middle = statistics.median(each)
        ratio = statistics.median(map(operator.truediv, times["as the tutorial"], each))
        print(f"{who:20} {middle * 1e3:7.3f} ms/meme {1 / middle:8.0f}/s {ratio:6.1f}x")
    print("uint8 batches are what crosses to the device, which normalises them (goal: 100x);")
    print(f"opening the cache, once a run, checks every row.\n{machine()}")


if __name__ == "__main__":
    main()

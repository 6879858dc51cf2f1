"""How long the first epoch's input takes: decode and cache everything, against the tutorial's way.

Run: python benchmarks/input_cold.py [memes]
"""

import operator
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from _memes import machine, make_memes
from reference import BATCH, Memes, epoch

from mmf_hm_concat.encoders.fasttext_model import fit_text_model
from mmf_hm_concat.encoders.image_preprocessing import IMAGENET
from mmf_hm_concat.images import png
from mmf_hm_concat.images.cache import ImageCache

REPEATS = 5


def first_epoch(paths: list[str], texts: list[str], text_model, cache_dir: Path) -> int:
    """All checks, all vectors, the whole cache, and every batch normalised from it."""
    vectors = torch.from_numpy(text_model.vectors(texts))
    images = ImageCache(paths, 224, cache_dir)
    seen = 0
    for rows in torch.randperm(len(paths)).split(BATCH):
        seen += len(IMAGENET.normalize(images.batch(rows.tolist()))) + 0 * len(vectors[rows])
    return seen


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    pywuffs = png.pywuffs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, texts = make_memes(folder / "img", count)
        size = sum(Path(path).stat().st_size for path in paths) / count
        text_model = fit_text_model(texts, epochs=1, cache_dir=folder)
        memes = Memes(paths, texts, str(text_model.path))
        work = {
            "as the tutorial": lambda k: epoch(memes),
            "with its 16 workers, batch 4": lambda k: epoch(memes, workers=16, batch=4),
            "first epoch here": lambda k: first_epoch(paths, texts, text_model, folder / f"c{k}"),
        }
        if pywuffs:
            work["here with Pillow alone"] = lambda k: first_epoch(
                paths, texts, text_model, folder / f"p{k}"
            )
        times: dict[str, list[float]] = {who: [] for who in work}
        for k in range(REPEATS):  # in turns: all see the same neighbours on a shared machine
            for who, do in work.items():
                png.pywuffs = None if "Pillow" in who else pywuffs
                start = time.perf_counter()
                assert do(k) == count
                times[who].append(time.perf_counter() - start)
    print(f"first epoch of {count} memes of {size / 1e3:.0f} KB, median of {REPEATS} (range)")
    for who, seconds in times.items():
        middle = statistics.median(seconds)
        ratio = statistics.median(map(operator.truediv, seconds, times["first epoch here"]))
        print(
            f"{who:29} {middle:6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
            f" {count / middle:5.0f} samples/s, takes {ratio:.2f} times as long as here"
        )
    print(machine())


if __name__ == "__main__":
    main()

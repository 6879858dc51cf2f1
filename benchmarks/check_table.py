"""How long reading and checking the dataset files of 12,000 memes takes (nothing is decoded).

Run: python benchmarks/check_table.py
"""

import json
import random
import statistics
import tempfile
import time
from pathlib import Path

from _memes import machine

from mmf_hm_concat.data.layout import DEFAULT_SPLITS, find_layout
from mmf_hm_concat.data.table import read_splits

COUNTS = {"train": 8500, "dev_seen": 500, "dev_unseen": 540, "test_unseen": 2460}
REPEATS = 5


def write_dataset(folder: Path) -> None:
    """As many memes as phase 2 has, every fourth text shared with others; images are tiny."""
    draw = random.Random(0)
    words = [f"word{number}" for number in range(3000)]
    shared = [" ".join(draw.choices(words, k=12)) for _ in range(1000)]
    (folder / "img").mkdir()
    number = 0
    for name, count in COUNTS.items():
        lines = []
        for _ in range(count):
            number += 1
            image = f"img/{number:05}.png"
            (folder / image).write_bytes(draw.randbytes(draw.randint(64, 96)))
            common = draw.random() < 0.25
            text = draw.choice(shared) if common else " ".join(draw.choices(words, k=12))
            meme = {"id": f"{number:05}", "img": image, "label": number % 2, "text": text}
            lines.append(json.dumps(meme))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder)
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            layout = find_layout(folder, DEFAULT_SPLITS, cache_dir=folder / "cache")
            tables = read_splits(layout)
            seconds.append(time.perf_counter() - start)
        memes = sum(map(len, tables.values()))
    print(
        f"{memes} memes read and checked in {statistics.median(seconds):.3f} s "
        f"(median of {REPEATS}; slowest {max(seconds):.3f} s; goal: 3 s)\n{machine()}"
    )


if __name__ == "__main__":
    main()

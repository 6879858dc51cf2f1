"""Whether memory grows with the number of memes: N and 4 N, read through the cache for two epochs.

Run: python benchmarks/input_memory.py [memes]

Each line is measured in a process of its own. "Private" memory is what the process alone needs;
"resident" also counts pages that the system lends to it and can take back.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from _memes import machine, make_memes
from reference import BATCH, Memes, epoch

from mmf_hm_concat.encoders.fasttext_model import fit_text_model
from mmf_hm_concat.images.cache import ImageCache


def memory() -> tuple[float, float]:
    """Resident and private MB of this process."""
    text = Path("/proc/self/smaps_rollup").read_text()
    kilobytes = {k: int(v) for k, v in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return kilobytes["Rss"] / 1e3, private / 1e3


def measure(who: str, folder: Path, count: int) -> None:
    """Print what two epochs over the first ``count`` memes add to a process."""
    paths = sorted(map(str, (folder / "img").glob("*.png")))[:count]
    texts = (folder / "texts").read_text().splitlines()[:count]
    torch.zeros(1) + 1  # start torch's threads before the first measurement
    text_model = fit_text_model(texts, epochs=1, cache_dir=folder)
    before = memory()
    if who == "cache":
        vectors = torch.from_numpy(text_model.vectors(texts))
        images = ImageCache(paths, 224, folder / "cache")
        for _ in range(2):
            for rows in torch.randperm(count).split(BATCH):
                images.batch(rows.tolist()), vectors[rows]
    else:
        epoch(Memes(paths, texts, str(text_model.path)), workers=0)
    resident, private = (after - b for after, b in zip(memory(), before, strict=True))
    pixels = count * 224 * 224 * 3 / 1e6
    print(f"{who:10} {count:6} memes {pixels:9.0f} {resident:14.1f} {private:13.1f}", flush=True)


def main() -> None:
    if len(sys.argv) == 4:
        measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    with tempfile.TemporaryDirectory() as name:
        _, texts = make_memes(Path(name) / "img", 4 * count)
        (Path(name) / "texts").write_text("\n".join(texts))
        print("MB that two epochs add to the process")
        print(f"{'':23} pixels (MB) resident (MB)  private (MB)", flush=True)
        for who, memes in [("cache", count), ("cache", 4 * count), ("tutorial", count)]:
            command = [sys.executable, __file__, who, name, str(memes)]
            subprocess.run(command, check=True)
    print(machine())


if __name__ == "__main__":
    main()

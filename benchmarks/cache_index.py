"""How long a run waits for a cache of many images that is complete, and what it holds in memory.

Run: python benchmarks/cache_index.py [memes]

The images are tiny: reading their pixels back, of which a run compares the checksums, is a matter
of the disk, and not what is asked here.
"""

import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from io import BytesIO
from pathlib import Path

from _memes import machine
from PIL import Image

from mmf_hm_concat.images.cache import ImageCache

SIZE = 8
# Opens the cache in a process of its own, whose memory is then the cache's.
OPEN = "import sys; import cache_index; cache_index.open_cache(*sys.argv[1:])"


def write_images(folder: Path, count: int) -> list[str]:
    """Tiny PNGs that differ in a comment."""
    content = BytesIO()
    Image.new("RGB", (4, 4)).save(content, "PNG")
    png = content.getvalue()
    for number in range(count):
        chunk = b"tEXtnumber\0%d" % number
        comment = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        (folder / f"{number:06}.png").write_bytes(png[:-12] + comment + png[-12:])
    return [str(folder / f"{number:06}.png") for number in range(count)]


def open_cache(folder: str, count: str) -> None:
    paths = [f"{folder}/{number:06}.png" for number in range(int(count))]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    ImageCache(paths, SIZE, Path(folder) / "cache")
    took = time.perf_counter() - start
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    print(f"{int(count):7,} memes opened in {took:.2f} s, {megabytes:.0f} MB more")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        ImageCache(write_images(Path(name), count), SIZE, Path(name) / "cache")
        for some in (count // 10, count):
            command = [sys.executable, "-c", OPEN, name, str(some)]
            subprocess.run(command, cwd=Path(__file__).parent, check=True)
    print(machine())


if __name__ == "__main__":
    main()

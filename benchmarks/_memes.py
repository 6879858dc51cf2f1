"""Generated memes for the benchmarks, of the competition's size, and a line about the machine."""

import json
import platform
import struct
import zlib
from importlib import metadata
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image

from mmf_hm_concat.images import png
from mmf_hm_concat.utils.parallel import num_cores

DRAWINGS = 24


def make_memes(folder: Path, count: int) -> tuple[list[str], list[str]]:
    """Write ``count`` PNGs of 400-900 pixels a side and about 390 KB; give paths and texts.

    Only the first 24 are drawn. The others repeat them with a number in a comment: as files
    they are all different, and as costly to decode, but quick to make.
    """
    draw = np.random.default_rng(0)
    words = [f"word{number}" for number in range(3000)]
    drawings = [_draw(draw) for _ in range(min(count, DRAWINGS))]
    paths, texts = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{number:05}.png"
        png, comment = drawings[number % DRAWINGS], b"tEXtnumber\0%d" % number
        end = len(png) - 12  # before the last chunk
        chunk = struct.pack(">I", len(comment) - 4) + comment
        chunk += struct.pack(">I", zlib.crc32(comment))
        path.write_bytes(png[:end] + chunk + png[end:])
        paths.append(str(path))
        texts.append(" ".join(draw.choice(words, 12)))
    return paths, texts


def write_dataset(folder: Path, count: int, validation: int) -> tuple[list[str], list[str]]:
    """Write train.jsonl and dev.jsonl, every second meme hateful; give train's paths and texts."""
    paths, texts = make_memes(folder / "img", count + validation)
    memes = [
        json.dumps({"id": k, "img": f"img/{Path(path).name}", "label": k % 2, "text": text})
        for k, (path, text) in enumerate(zip(paths, texts, strict=True))
    ]
    (folder / "train.jsonl").write_text("\n".join(memes[:count]))
    (folder / "dev.jsonl").write_text("\n".join(memes[count:]))
    return paths[:count], texts[:count]


def _draw(draw: np.random.Generator) -> bytes:
    width, height = draw.integers(400, 901, 2)
    coarse = Image.fromarray(draw.integers(0, 256, (12, 12, 3), np.uint8))
    pixels = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
    # A bit of noise makes the file as large as a photograph's.
    noisy = pixels[: height * 3 // 4]
    noisy ^= draw.integers(0, 2, (*noisy.shape[:2], 1), np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def _fast_png() -> str:
    return f", pywuffs {metadata.version('pywuffs')}" if png.pywuffs else ""


def machine() -> str:
    """Processor, cores and versions, for the last line of a table."""
    lines = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(": ", 1)[1] for line in lines.splitlines() if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.processor()}, {num_cores()} cores; Python "
        f"{platform.python_version()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, Pillow {PIL.__version__}{_fast_png()}"
    )

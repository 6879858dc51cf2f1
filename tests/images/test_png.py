"""The fast way to decode a PNG gives Pillow's pixels, and refuses whatever Pillow refuses."""

import random
import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images import decode, png

pytest.importorskip("pywuffs")

KINDS = [b"IHDR", b"IDAT", b"IEND", b"tEXt", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"fdAT", b"eXIf"]
KINDS += [b"gAMA", b"pHYs", b"iCCP", b"zTXt", b"iTXt", b"DDAT", b"tIME", b"ABCD", b"abcd"]
TEXTS = [b"Comment\0hello", b"exif\0Exif\0\0MM\0*", b"transparency\0a", b"Raw profile type exif\0"]
XMP = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'


@pytest.fixture
def fast_ones(monkeypatch):
    """How many images the fast way has decoded: `fast_ones[0]`."""
    count = [0]
    real = png.decode_fast

    def counted(*given):
        image = real(*given)
        count[0] += image is not None
        return image

    monkeypatch.setattr(png, "decode_fast", counted)
    return count


def outcome(data):
    try:
        image = decode.decode(data, "meme")
    except InputError as error:
        assert "meme" in str(error)
        return None
    return image.mode, image.size, image.tobytes()


def outcome_of_pillow(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png, "pywuffs", None)
        return outcome(data)


def joined(chunks):
    """A PNG of (kind, content, checksum or None for the right one)."""
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content, checksum in chunks:
        checksum = zlib.crc32(kind + content) if checksum is None else checksum
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    return data


def random_png(rng):
    """(kind, content) of the chunks of a PNG, mostly right, with any filters and compression."""
    width, height = rng.randint(1, 24), rng.randint(1, 24)
    header = [width, height, 8, 2, 0, 0, 0]
    if rng.random() < 0.1:
        header[rng.randrange(7)] = rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255])
    filters = range(5 if rng.random() < 0.9 else 7)
    colours = [
        rng.randbytes(3) for _ in range(rng.choice([1, 4, 1000]))
    ]  # few repeat, and pack well
    lines = b"".join(
        bytes([rng.choice(filters)]) + b"".join(rng.choice(colours) for _ in range(width))
        for _ in range(height)
    )
    if rng.random() < 0.1:  # too short or too long
        lines = (lines + rng.randbytes(40))[: len(lines) + rng.randint(-30, 30)]
    packer = zlib.compressobj(rng.randint(0, 9), 8, rng.randint(9, 15), 9, rng.randint(0, 4))
    pixels = packer.compress(lines) + packer.flush()
    if rng.random() < 0.2:
        pixels = changed(rng, pixels)
    cuts = sorted(rng.randint(0, len(pixels)) for _ in range(rng.randint(0, 3)))
    parts = [pixels[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *header)), *((b"IDAT", part) for part in parts)]
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        content = rng.choice([*TEXTS, XMP, rng.randbytes(rng.randint(0, 20))])
        kind = rng.choice([b"tEXt", b"iTXt", *KINDS])
        chunks.insert(rng.randint(1, len(chunks)), (kind, content))
    return [*chunks, (b"IEND", b"")]


def changed(rng, data):
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def mutant(rng):
    chunks = [(*chunk, None) for chunk in random_png(rng)]
    if rng.random() < 0.2:
        at = rng.randrange(len(chunks))
        what = rng.choice(["drop", "double", "move", "rename", "checksum"])
        chunk = chunks[at] if what == "double" else chunks.pop(at)
        if what in ("double", "move"):
            chunks.insert(rng.randint(0, len(chunks)), chunk)
        if what == "rename":
            chunks.insert(at, (rng.choice(KINDS), *chunk[1:]))
        if what == "checksum":
            chunks.insert(at, (*chunk[:2], rng.randrange(2**32)))
    data = joined(chunks)
    if rng.random() < 0.1:
        data = changed(rng, data)
    return data[: rng.randrange(len(data))] if rng.random() < 0.05 else data


@pytest.mark.filterwarnings("ignore:Invalid APNG")
@pytest.mark.parametrize("count", [3000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutants_are_what_pillow_says(fast_ones, count):
    refused = 0
    for seed in range(count):
        data = mutant(random.Random(seed))
        expected = outcome_of_pillow(data)
        refused += expected is None
        assert outcome(data) == expected, seed
    assert fast_ones[0] > count / 4 and refused > count / 10


def rgb_png(*others):
    """Three by two pixels, with more chunks before (b) and after (a) them."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0), None)]
    chunks += [(kind, content, None) for kind, content, where in others if where == "b"]
    chunks += [(b"IDAT", zlib.compress(bytes([0, *range(9), 4, *range(9)])), None)]
    chunks += [(kind, content, None) for kind, content, where in others if where == "a"]
    return joined([*chunks, (b"IEND", b"", None)])


def test_the_usual_kind_is_decoded_fast(fast_ones):
    data = rgb_png((b"pHYs", bytes(9), "b"), (b"tEXt", TEXTS[0], "a"))
    assert outcome(data) == outcome_of_pillow(data)
    assert outcome(data)[1] == (3, 2) and fast_ones[0] == 2


@pytest.mark.parametrize("where", ["b", "a"])
def test_orientation_is_heeded_wherever_it_stands(where):
    turned = Image.Exif()
    turned[0x0112] = 6
    for chunk in [(b"eXIf", turned.tobytes()[6:], where), (b"iTXt", XMP, where)]:
        data = rgb_png(chunk)
        mode_size_pixels = outcome(data)
        assert mode_size_pixels == outcome_of_pillow(data)
        assert mode_size_pixels[1] == (2, 3)


def test_other_kinds_are_left_to_pillow(fast_ones):
    large = Image.new("RGB", (2049, 2048))
    for image in [Image.new(mode, (4, 4)) for mode in ("L", "P", "RGBA", "1", "I;16")] + [large]:
        image.save(file := BytesIO(), "PNG")
        assert outcome(file.getvalue()) == outcome_of_pillow(file.getvalue())
    assert fast_ones[0] == 0

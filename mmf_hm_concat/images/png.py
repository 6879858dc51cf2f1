"""PNGs: whole or refused, and those of the usual kind decoded faster where pywuffs is installed.

What a PNG's pixels are is for Pillow to say. Wuffs decodes 8-bit RGB to the same bits, so that
images are ready 1.7 times as fast (benchmarks/input_cold.py); and no byte of a file can make it
read or write outside its buffers, which its language proves when it is compiled
(github.com/google/wuffs). pywuffs, its Python binding, is the extra `fast_png`: there are no wheels
of it, only the source.
"""

import struct
import zlib
from typing import NamedTuple

from PIL import Image

try:
    import pywuffs
    from pywuffs.aux import ImageDecoder, ImageDecoderConfig
except ImportError:  # the extra is not installed
    pywuffs = None

# IHDR after width and height: 8 bits, RGB, the one compression, the one filter, not interlaced
# (PNG specification, 11.2.1).
_USUAL = bytes([8, 2, 0, 0, 0])
# Several copies of the pixels lie in memory for a moment: ten bytes a pixel, where Pillow has four.
_MAX_PIXELS = 2048 * 2048
_MAX_TEXT = 10_000


class Chunk(NamedTuple):
    """A part of a PNG file."""

    kind: bytes
    content: memoryview


def chunks_of(data: bytes) -> list[Chunk]:
    """The chunks of a PNG, up to its last. ValueError unless every critical one is whole.

    Pillow does not compare the checksums of the pixels, and needs no end.
    """
    view, at = memoryview(data), 8
    chunks: list[Chunk] = []
    while not chunks or chunks[-1].kind != b"IEND":
        if at + 12 > len(data):
            raise ValueError("the file ends before the image does")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        checksum = zlib.crc32(view[at + 4 : end - 4]).to_bytes(4, "big")
        if kind[:1].isupper() and view[end - 4 : end] != checksum:
            cut = end > len(data)
            raise ValueError("the file ends before the image does" if cut else "wrong checksum")
        chunks.append(Chunk(kind, view[at + 8 : end - 4]))
        at = end
    return chunks


def decode_fast(opened: Image.Image, data: bytes, chunks: list[Chunk]) -> Image.Image | None:
    """An 8-bit RGB PNG as Pillow would decode it; None where Pillow itself has to.

    Args:
        opened: what Pillow made of the chunks before the pixels. The result has its ``info``.
    """
    if pywuffs is None or not _is_usual(opened, chunks):
        return None
    config = ImageDecoderConfig()
    config.enabled_decoders = [pywuffs.ImageDecoderType.PNG]
    # Pillow compares the pixels' checksum (and we, in chunks_of, those of the chunks).
    config.quirks = {pywuffs.ImageDecoderQuirks.IGNORE_CHECKSUM: 0}
    config.pixel_format = pywuffs.PixelFormat.BGR  # it has no RGB
    decoded = ImageDecoder(config).decode(data)
    if decoded.error_message or decoded.pixbuf.shape != (opened.height, opened.width, 3):
        return None  # Pillow says what is wrong, or takes it: it is laxer
    image = Image.frombuffer("RGB", opened.size, decoded.pixbuf, "raw", "BGR", 0, 1)
    image.info = opened.info
    return image


def _is_usual(opened: Image.Image, chunks: list[Chunk]) -> bool:
    """8-bit RGB without transparency or frames, and nothing after the pixels that changes them."""
    kinds = [chunk.kind for chunk in chunks]
    if kinds[0] != b"IHDR" or chunks[0].content[8:] != _USUAL or opened.mode != "RGB":
        return False
    if b"IDAT" not in kinds or {b"tRNS", b"acTL"} & {*kinds}:
        return False
    if opened.width * opened.height > _MAX_PIXELS:
        return False
    first, count = kinds.index(b"IDAT"), kinds.count(b"IDAT")
    *after, _ = chunks[first + count :]
    return {*kinds[first : first + count]} == {b"IDAT"} and all(map(_changes_nothing, after))


def _changes_nothing(chunk: Chunk) -> bool:
    """Whether it is text that Pillow, which reads it after the pixels, takes for nothing else."""
    text = bytes(chunk.content[:_MAX_TEXT])
    return (
        chunk.kind == b"tEXt"
        and len(chunk.content) < _MAX_TEXT
        and not any(word in text for word in (b"exif", b"xmp", b"transparency"))
    )

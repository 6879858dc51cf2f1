"""images.py: what every way of storing an image comes out as, and that nothing else gets out."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import (
    MAX_PIXELS,
    decode,
    normalize,
    read_rgb,
    resize,
)

WHITE = (255, 255, 255)
RED = (255, 0, 0)
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6  # PNG's colour types


def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width, height, depth, colour_type, lines, *others):
    """A PNG, byte by byte: also those that Pillow itself does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + line for line in lines))
    chunks = [chunk(b"IHDR", header), *others, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def saved(image, kind, **options):
    content = BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def shorts(*values):
    return struct.pack(f">{len(values)}H", *values)


PALETTE_CHUNK = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
TWO_FRAMES = [Image.new("RGB", (2, 1), colour) for colour in (RED, (0, 0, 255))]
ANIMATED = {"save_all": True, "append_images": TWO_FRAMES[1:]}
# name: (content, the two pixels it must give). 127 of 255 opaque red is (255, 128, 128).
STORED = {
    "rgb": (png(2, 1, 8, COLOUR, [bytes([1, 2, 3, 4, 5, 6])]), [(1, 2, 3), (4, 5, 6)]),
    "rgba": (
        png(2, 1, 8, COLOUR_ALPHA, [bytes([255, 0, 0, 127, 9, 9, 9, 0])]),
        [(255, 128, 128), WHITE],
    ),
    "palette": (png(2, 1, 1, PALETTE, [b"\x40"], PALETTE_CHUNK), [RED, (0, 0, 255)]),
    "palette, one entry transparent": (
        png(2, 1, 1, PALETTE, [b"\x40"], PALETTE_CHUNK, chunk(b"tRNS", b"\xff\x00")),
        [RED, WHITE],
    ),
    "palette, entries half transparent": (
        png(2, 1, 1, PALETTE, [b"\x40"], PALETTE_CHUNK, chunk(b"tRNS", b"\x7f")),
        [(255, 128, 128), (0, 0, 255)],
    ),
    "la": (png(2, 1, 8, GREY_ALPHA, [bytes([0, 127, 7, 255])]), [(128,) * 3, (7,) * 3]),
    "grey": (png(2, 1, 8, GREY, [bytes([7, 200])]), [(7,) * 3, (200,) * 3]),
    "grey, transparent": (
        png(2, 1, 8, GREY, [bytes([7, 200])], chunk(b"tRNS", shorts(7))),
        [WHITE, (200,) * 3],
    ),
    "grey of 2 bits, transparent": (
        png(2, 1, 2, GREY, [b"\x60"], chunk(b"tRNS", shorts(1))),
        [WHITE, (170,) * 3],
    ),
    "grey of 16 bits": (png(2, 1, 16, GREY, [shorts(1000, 65535)]), [(3,) * 3, WHITE]),
    "grey of 16 bits, transparent": (
        png(2, 1, 16, GREY, [shorts(1000, 1001)], chunk(b"tRNS", shorts(1000))),
        [WHITE, (3,) * 3],
    ),
    "la of 16 bits": (
        png(2, 1, 16, GREY_ALPHA, [shorts(1000, 65535, 0, 0)]),
        [(3,) * 3, WHITE],
    ),
    "rgb of 16 bits": (
        png(2, 1, 16, COLOUR, [shorts(1000, 2000, 3000, 65535, 0, 0)]),
        [(3, 7, 11), RED],
    ),
    "rgb of 16 bits, transparent": (
        png(2, 1, 16, COLOUR, [shorts(9, 999, 9, 65535, 0, 0)], chunk(b"tRNS", shorts(9, 999, 9))),
        [WHITE, RED],
    ),
    "1 bit": (png(2, 1, 1, GREY, [b"\x40"]), [(0, 0, 0), WHITE]),
    "1 bit, black transparent": (
        png(2, 1, 1, GREY, [b"\x40"], chunk(b"tRNS", shorts(0))),
        [WHITE, WHITE],
    ),
    "1 bit, white transparent": (
        png(2, 1, 1, GREY, [b"\x40"], chunk(b"tRNS", shorts(1))),
        [(0, 0, 0), WHITE],
    ),
    "rgb, transparent": (
        png(2, 1, 8, COLOUR, [bytes([1, 2, 3, 1, 2, 4])], chunk(b"tRNS", shorts(1, 2, 3))),
        [WHITE, (1, 2, 4)],
    ),
    "animated png": (saved(TWO_FRAMES[0], "PNG", **ANIMATED), [RED, RED]),
    "animated gif": (saved(TWO_FRAMES[0], "GIF", **ANIMATED), [RED, RED]),
    "animated webp": (saved(TWO_FRAMES[0], "WEBP", lossless=True, **ANIMATED), [RED, RED]),
    "bmp": (saved(TWO_FRAMES[0], "BMP"), [RED, RED]),
    "cmyk jpeg": (
        saved(Image.new("CMYK", (2, 1), (0, 255, 255, 0)), "JPEG", quality=100),
        [RED, RED],
    ),
}


@pytest.mark.parametrize("name", STORED)
def test_every_way_of_storing_gives_the_defined_pixels(name, tmp_path):
    content, expected = STORED[name]
    path = tmp_path / "meme.png"  # the name says nothing
    path.write_bytes(content)
    image = read_rgb(path)
    assert image.mode == "RGB"
    bound = 1 if "jpeg" in name else 0  # lossy
    assert np.abs(np.asarray(image).astype(int) - [expected]).max() <= bound
    with Image.open(path) as opened:
        again = read_rgb(opened)
    # Pillow does not tell in which depth these two keep their transparent colour.
    if name not in ("grey of 2 bits, transparent", "rgb of 16 bits, transparent"):
        assert (np.asarray(again) == np.asarray(image)).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation, kind):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # the upper left quarter
    # How a camera that is held in this way stores it (EXIF 2.3, table 4).
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(turned))
    pixels = np.asarray(decode(saved(image, kind, exif=exif), "meme"))
    assert np.abs(pixels.astype(int) - upright).max() <= 2


def test_a_given_image_is_left_alone():
    image = Image.new("RGB", (3, 2), RED)
    copy = read_rgb(image)
    copy.putpixel((0, 0), (0, 0, 0))
    assert image.getpixel((0, 0)) == RED
    with pytest.raises(InputError, match="floating-point"):
        read_rgb(Image.new("F", (1, 1)))
    with pytest.raises(InputError, match="values outside"):
        read_rgb(Image.new("I", (1, 1), 70000))


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (12000, 1), (640, 480)])
def test_resize_is_torchvisions(size):
    from torchvision import transforms

    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    expected = np.asarray(transforms.Resize((64, 64))(image))
    assert (resize(read_rgb(image), 64) == expected).all()
    assert (resize(image, 224).shape, resize(image, 224).dtype) == ((224, 224, 3), np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_each_interpolation_is_torchvisions(interpolation):
    from torchvision import transforms

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    mode = transforms.InterpolationMode(interpolation)
    expected = np.asarray(transforms.Resize((32, 32), mode)(image))
    assert (resize(image, 32, interpolation) == expected).all()


def test_normalize_is_torchvisions_bit_for_bit():
    import torch
    from torchvision import transforms

    numbers = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    steps = [transforms.ToTensor(), transforms.Normalize(*numbers)]
    pixels_BHWC = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected = torch.stack([transforms.Compose(steps)(pixels) for pixels in pixels_BHWC])
    given = torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2)
    found = normalize(given, *numbers)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(normalize(given.contiguous(), *numbers), expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
WHOLE_PNG = saved(NOISE, "PNG")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_cut_files_are_noticed(kind):
    whole = saved(NOISE, kind)
    assert decode(whole, "meme").size == (30, 40)
    for kept in [*range(0, len(whole) - 2, 97), *range(len(whole) - 20, len(whole) - 2)]:
        with pytest.raises(InputError, match="meme"):
            decode(whole[:kept], "meme")


def test_a_png_without_its_end_is_noticed_whatever_pillow_is_told(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for missing in (1, 4, 12, 20, 500):
        with pytest.raises(InputError, match="ends before the image does"):
            decode(WHOLE_PNG[:-missing], "meme")


def test_each_flipped_byte_of_the_pixels_is_noticed():
    start = WHOLE_PNG.index(b"IDAT")
    for at in range(start, len(WHOLE_PNG) - 12, 37):
        damaged = bytearray(WHOLE_PNG)
        damaged[at] ^= 0x10
        with pytest.raises(InputError, match="meme"):
            decode(bytes(damaged), "meme")


def test_what_is_no_image_is_named(tmp_path):
    text = tmp_path / "page.png"
    text.write_text("<html>not found</html>")
    empty = tmp_path / "empty.png"
    empty.touch()
    for path, reason in [
        (tmp_path / "none.png", "no such file"),
        (tmp_path, "not a regular file"),
        (text, "not an image"),
        (empty, "is empty"),
        ("a\0b", "cannot be read"),
    ]:
        with pytest.raises(InputError, match=reason) as caught:
            read_rgb(path)
        assert repr(str(path))[1:-1] in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9500, 12000, 60000])
def test_too_many_pixels_are_refused_before_decoding(side):
    assert side**2 > MAX_PIXELS
    with pytest.raises(InputError, match="allowed"):
        decode(png(side, side, 8, GREY, [b""]), "meme")


def only_input_errors(content):
    try:
        image = decode(content, "meme")
    except InputError as error:
        assert "meme" in str(error)
    else:
        assert image.mode == "RGB"


PIECES = st.sampled_from([WHOLE_PNG[:60], *(content for content, _ in STORED.values())])


@settings(deadline=None, max_examples=150)
@given(st.one_of(st.binary(max_size=200), st.tuples(PIECES, st.binary(max_size=30)).map(b"".join)))
def test_random_bytes(content):
    only_input_errors(content)


@settings(deadline=None, max_examples=400)
@given(PIECES, st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), max_size=4))
def test_mutated_images(content, flips):
    damaged = bytearray(content)
    for at, change in flips:
        damaged[at % len(damaged)] ^= change
    only_input_errors(bytes(damaged))

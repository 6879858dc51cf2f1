"""One image file to pixels: the one definition of "the RGB image", its resizing, its scale."""

import stat
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images import png

if TYPE_CHECKING:  # the command-line tools decode without waiting for torch
    from torch import Tensor

# Decoders that we let see a stranger's bytes; a file is told by its content, not by its name.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
# Refused above: 256 MiB as RGB, where Pillow, too, begins to suspect a decompression bomb.
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
# Refused above: as many bytes as the largest image has uncompressed; nothing honest needs more.
MAX_BYTES = 3 * MAX_PIXELS

_EXIF_ORIENTATION = 0x0112  # EXIF 2.3, table 4: how the camera was held
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_rgb(source: str | Path | Image.Image) -> Image.Image:
    """Read an image as 8-bit RGB, upright, the same for every way of storing it.

    - Transparency (alpha, a transparent colour or palette entry) is laid onto white:
      ``round((255 * (255 - alpha) + colour * alpha) / 255)``.
    - 16 bits a channel become the upper 8. Grey and 1-bit are spread over the three channels.
      CMYK is converted as Pillow does; colour profiles are ignored.
    - EXIF orientation is applied. Of an animation, the first frame is taken.

    Args:
        source: a file (PNG, JPEG, GIF, WebP or BMP, whatever its name), or a Pillow image, which
            is left as it is.

    Raises:
        InputError: no regular file, no such image, more than ``MAX_PIXELS`` pixels (told from
            the header, before anything is decoded), damaged or cut short.
    """
    if isinstance(source, Image.Image):
        image = _rgb(source, getattr(source, "filename", "") or "the given Pillow image", None)
        return image.copy() if image is source else image
    return decode(read_file(source), source)


def read_file(path: str | Path) -> bytes:
    """The bytes of an image file. Raises InputError when there is none or it is absurdly large."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: not a regular file; give an image file.")
        if status.st_size > MAX_BYTES:
            raise InputError(
                f"{path}: {status.st_size:,} bytes; an image may have {MAX_BYTES:,}. "
                "Save it smaller."
            )
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Put the image there.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Make it readable.") from None


def decode(data: bytes, name: str | Path) -> Image.Image:
    """`read_rgb` of a file's bytes; ``name`` is what errors call it."""
    if not data:
        raise InputError(f"{name}: the file is empty. Get it again.")
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except Image.UnidentifiedImageError:
        raise InputError(
            f"{name}: not an image (PNG, JPEG, GIF, WebP or BMP), or its beginning is damaged. "
            "Get it again."
        ) from None
    except Exception as error:  # a decoder fed with damaged bytes can raise anything
        raise _damaged(name, error) from None
    with image:
        return _rgb(image, name, data)


def _rgb(image: Image.Image, name: str | Path, data: bytes | None) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} x {height} pixels, ")
    try:
        transparent = image.info.get("transparency")
        if data is not None and image.format == "PNG":
            chunks = png.chunks_of(data)
            transparent = _to_8_bits(transparent, image.mode, depth=data[24])
            image = png.decode_fast(image, data, chunks) or image
        image.load()
        upright = _UPRIGHT.get(_orientation(image) or 0)
        image = _onto_white(image, transparent)
        return image if upright is None else image.transpose(upright)
    except Exception as error:  # see decode
        raise _damaged(name, error) from None


def _to_8_bits(
    transparent: int | bytes | tuple[int, ...] | None, mode: str, depth: int
) -> int | bytes | tuple[int, ...] | None:
    """A PNG's transparent colour, stored in the file's bit depth, as Pillow's pixels have it."""
    if isinstance(transparent, tuple) and depth == 16:
        return tuple(value >> 8 for value in transparent)
    if isinstance(transparent, int) and mode in ("1", "L"):
        return transparent * 255 // (2**depth - 1)
    return transparent


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # damaged EXIF says nothing about the pixels
        return None


def _onto_white(
    image: Image.Image, transparent: int | bytes | tuple[int, ...] | None
) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow's convert would clip at 255
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("values outside 0 to 65535")
        upper = np.where(grey == transparent, 255, grey >> 8)
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    if image.has_transparency_data:
        if transparent is not None and image.mode in ("1", "L", "RGB"):
            image = image.convert("RGB")  # a copy, and 1-bit pixels become 0 and 255
            colour = (transparent,) * 3 if isinstance(transparent, int) else transparent
            is_transparent = (np.asarray(image) == np.array(colour)).all(axis=2)
            mask = Image.fromarray(np.where(is_transparent, 0, 255).astype(np.uint8))
        else:
            image = image.convert("RGBA")
            mask = image
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=mask)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _too_large(name: str | Path, size: str = "") -> InputError:
    return InputError(f"{name}: {size}more than the {MAX_PIXELS:,} allowed. Save it smaller.")


def _damaged(name: str | Path, error: Exception) -> InputError:
    reason = str(error).strip() or type(error).__name__
    return InputError(f"{name}: damaged or cut short ({reason}). Get it again.")


def resize(image: Image.Image, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """Resize without cropping to uint8 of shape (size, size, 3), with antialiasing.

    Bit for bit what torchvision's ``Resize((size, size))`` makes of the same Pillow image.

    Args:
        interpolation: a name of `PIL.Image.Resampling` in lower case.
    """
    return np.array(image.resize((size, size), Image.Resampling[interpolation.upper()]))


def normalize(images_B3HW: "Tensor", mean: Sequence[float], std: Sequence[float]) -> "Tensor":
    """Scale uint8 (B, 3, H, W) to [0, 1], then to ``mean`` 0 and ``std`` 1; float32, same device.

    On the CPU, bit for bit torchvision's ``ToTensor`` and ``Normalize``. The result is channels
    last in memory; no copy is made of a batch that already is.

    Args:
        mean, std: of each channel, red first.
    """
    pixels_BHWC = images_B3HW.permute(0, 2, 3, 1).contiguous()
    # Whole lines at once: three numbers at a time are several times slower on a CPU.
    lines_BHL = pixels_BHWC.flatten(2).float().div_(255)
    width = pixels_BHWC.shape[2]
    mean_L = lines_BHL.new_tensor(mean).repeat(width)
    lines_BHL.sub_(mean_L).div_(lines_BHL.new_tensor(std).repeat(width))
    return lines_BHL.view(pixels_BHWC.shape).permute(0, 3, 1, 2)

"""One PNG that shows several memes with their texts and what the model says about them."""

import math
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import read_rgb
from mmf_hm_concat.utils.files import atomic_write

# In pixels: the largest thumbnail, the space around each meme, the height of a line of text.
WIDTH, HEIGHT, SPACE, LINE = 270, 220, 14, 20
TEXT_LINES = 3
INK, GREY, RIGHT, WRONG = "#202020", "#606060", "#1a7f37", "#c0202a"


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    rows: Iterable[tuple[str, str | Path, str, float | None, int | None]],
    path: str | Path,
    columns: int = 4,
) -> None:
    """Draw memes side by side: image, text, id, P(hateful), and whether that is right.

    Args:
        rows: of each meme its id, image file, text, P(hateful) in [0, 1] or None, and true label
            (0, 1) or None. The mark tells if the probability is on the label's side of 0.5.
        path: the PNG to write.
        columns: memes beside one another.

    Raises:
        InputError: no memes, an image that cannot be read, or ``path`` that cannot be written.
    """
    memes = list(rows)
    if not memes:
        raise InputError(f"{path}: there are no memes to draw.")
    columns = min(columns, len(memes))
    cell_width, cell_height = WIDTH + 2 * SPACE, HEIGHT + (TEXT_LINES + 1) * LINE + 3 * SPACE
    size = (columns * cell_width, -(-len(memes) // columns) * cell_height)
    sheet = Image.new("RGB", size, "white")
    for number, meme in enumerate(memes):
        row, column = divmod(number, columns)
        _draw_meme(sheet, column * cell_width + SPACE, row * cell_height + SPACE, *meme)
    try:
        with atomic_write(path) as temporary:
            sheet.save(temporary, "PNG")
    except OSError as error:
        raise InputError(f"{path}: the image cannot be written ({error}).") from None


def _draw_meme(
    sheet: Image.Image,
    x: int,
    y: int,
    id: str,
    image: str | Path,
    text: str,
    probability: float | None,
    label: int | None,
) -> None:
    thumbnail = ImageOps.contain(read_rgb(image), (WIDTH, HEIGHT))
    sheet.paste(thumbnail, (x + (WIDTH - thumbnail.width) // 2, y + HEIGHT - thumbnail.height))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    y += HEIGHT + SPACE // 2
    for line in _wrap(text, font):
        draw.text((x, y), line, INK, font)
        y += LINE
    words = [id]
    if probability is not None:
        # Rounded down: 0.4999 must not look like a meme on the other side of 0.5.
        words.append(f"P(hateful) {math.floor(probability * 1000) / 1000:.3f}")
    words += [] if label is None else [f"truth {'hateful' if label else 'benign'}"]
    verdict = ", ".join(words)
    draw.text((x, y), verdict, GREY, font)
    if probability is not None and label is not None:
        _draw_mark(draw, x + int(font.getlength(verdict)) + 8, y + 4, (probability >= 0.5) == label)


def _wrap(text: str, font: Font) -> list[str]:
    """The text in lines that fit; what does not go into `TEXT_LINES` of them is cut off."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= WIDTH or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > TEXT_LINES:
        lines = lines[:TEXT_LINES]
        lines[-1] += " ..."
    return [_shortened(line, font) for line in lines]


def _shortened(line: str, font: Font) -> str:
    if font.getlength(line) <= WIDTH:
        return line
    while font.getlength(f"{line}...") > WIDTH:
        line = line[:-1]
    return f"{line}..."


def _draw_mark(draw: ImageDraw.ImageDraw, x: int, y: int, right: bool) -> None:
    """A tick or a cross, drawn, as Pillow's own font has neither."""
    if right:
        draw.line([(x, y + 6), (x + 4, y + 11), (x + 12, y)], RIGHT, 3, "curve")
    else:
        draw.line([(x, y), (x + 11, y + 11)], WRONG, 3)
        draw.line([(x, y + 11), (x + 11, y)], WRONG, 3)

"""One self-contained HTML page of tables, plots and memes: images inlined, no script, no network.

Whatever goes into a page is taken for hostile: the template escapes all of it, control characters
are shown as escapes, and the page's own policy forbids the browser to load or run anything.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import jinja2
import pandas as pd
from PIL import Image, ImageOps

from mmf_hm_concat.errors import InputError, printable
from mmf_hm_concat.utils.files import atomic_write, why_unwritable

# The longest side of a meme on a page, in pixels: twice what is shown, for sharp screens.
THUMBNAIL = 360


@dataclass(frozen=True)
class Table:
    """A table as it stands: the frame's columns are its head; its index is not shown.

    Attributes:
        blurred: the columns to blur as long as the reader has not asked for hateful material.
    """

    frame: pd.DataFrame
    caption: str
    blurred: Sequence[str] = ()
    kind: ClassVar[str] = "table"

    @property
    def numeric(self) -> set[str]:
        return set(self.frame.select_dtypes("number").columns)

    @property
    def rows(self) -> Iterable[tuple[Any, ...]]:
        return self.frame.astype(object).itertuples(index=False, name=None)


@dataclass(frozen=True)
class Plot:
    """A plot as PNG. ``name`` is its file's, without ending; ``title`` says what one sees."""

    name: str
    title: str
    png: bytes
    kind: ClassVar[str] = "plot"

    @property
    def uri(self) -> str:
        return _data_uri(self.png, "png")


@dataclass(frozen=True)
class Card:
    """One meme: its image as JPEG (None: it cannot be shown), text and lines such as the label.

    Attributes:
        blurred: the image, the text and the words, as long as the reader has not asked for them.
        heat: a second image, as JPEG, beside the first.
        words: lines that quote the text.
        near: memes to show small below it.
    """

    name: str
    text: str
    lines: Sequence[str]
    jpeg: bytes | None
    blurred: bool
    heat: bytes | None = None
    words: Sequence[str] = ()
    near: Sequence["Card"] = ()

    @property
    def uris(self) -> list[str]:
        return [_data_uri(each, "jpeg") for each in (self.jpeg, self.heat) if each is not None]


@dataclass(frozen=True)
class Cards:
    """Memes side by side, under a heading of their own; ``wide``: with room for more."""

    title: str
    cards: Sequence[Card]
    wide: bool = False
    kind: ClassVar[str] = "cards"


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs, then tables, plots and memes in the order given."""

    title: str
    text: Sequence[str]
    blocks: Sequence[Table | Plot | Cards] = ()


def write_page(
    out: Path,
    title: str,
    lead: str,
    sections: Sequence[Section],
    *,
    not_shown: Sequence[str] = (),
    unblur: bool = False,
) -> Path:
    """Write ``out/index.html`` and each plot as a PNG beside it.

    Args:
        lead: what the page is about, in a sentence or two.
        not_shown: what could not be shown, and why, one line each; stands first on the page.
        unblur: show hateful material as it is. Either way a box on the page switches it.

    Returns:
        The path of the page. The same content gives the same bytes.

    Raises:
        InputError: ``out`` cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmf_hm_concat.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("page.html").render(
        title=title, lead=lead, sections=sections, not_shown=not_shown, unblur=unblur
    )
    page = out / "index.html"
    files = {page: html.encode()}
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Plot):
                files[out / f"{block.name}.png"] = block.png
    try:
        for path, content in files.items():
            with atomic_write(path) as temporary:
                temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"{out}: the page cannot be written there ({error}).") from None
    return page


def check_folder(out: Path) -> None:
    """Before all the work: raise InputError where a page could not be written into ``out``."""
    if problem := why_unwritable(out):
        raise InputError(f"{out}: the page cannot be written there ({problem}).")


def thumbnail(image: Image.Image, side: int = THUMBNAIL) -> bytes:
    """An RGB image as a small JPEG, its longest side at most ``side`` pixels."""
    small = ImageOps.contain(image, (side, side)) if max(image.size) > side else image
    content = BytesIO()
    small.save(content, "JPEG", quality=82)
    return content.getvalue()


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _shown(value: Any) -> Any:
    """What the template prints for a value."""
    if isinstance(value, float):
        return f"{value:,.2f}" if value == value else "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(value) if type(value) is str else value

"""The lines of an annotation file: JSON objects, and what is wrong with them or their fields."""

import codecs
import json
import os
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.files import open_regular

MISSING = object()  # in place of the value of a field that an object lacks
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60


class Problem(NamedTuple):
    """What is wrong where. ``line`` counts from 1; 0 stands for the whole file."""

    file: str
    line: int
    what: str  # field, value and remedy, as the end of a sentence that begins with the place

    def __str__(self) -> str:
        place = f", line {self.line}," if self.line else ""
        return f"{self.file}{place} {self.what}"


def shortened(value: Any) -> str:
    """A value as Python writes it, in about 60 characters."""
    return _REPR.repr(value)


def read_json_lines(file: str | Path) -> tuple[list[int], list[dict[str, Any]], list[Problem]]:
    """Read a file of JSON lines; blank lines and a byte order mark are let pass.

    Returns:
        The objects' line numbers, the objects, and a problem for each line that is no object;
        one problem alone when the file cannot be read.
    """
    try:
        with open_regular(file) as opened:
            content = opened.read()
    except OSError as error:
        return [], [], [Problem(str(file), 0, f"cannot be read: {error.strerror}.")]
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return [], [], [Problem(str(file), 0, "is UTF-16: save it as UTF-8.")]
    lines, objects, problems = [], [], []
    # Not splitlines: it also splits at U+2028, which JSON lets stand within a text.
    for line, raw in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if not raw.strip():
            continue
        found = _object(raw)
        if isinstance(found, str):
            problems.append(Problem(str(file), line, f"{found}."))
        else:
            lines.append(line)
            objects.append(found)
    return lines, objects, problems


def _object(raw: bytes) -> dict[str, Any] | str:
    """The object that a line holds, or what is wrong with the line."""
    try:
        found = _DECODER.decode(raw.decode())
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start + 1}: {shortened(raw)}: save it as UTF-8"
    except RecursionError:
        return f"not usable: {shortened(raw)}: too deeply nested"
    except json.JSONDecodeError as error:
        why = f"{error.msg.removesuffix(' at')} at column {error.colno}"
        return f"not a JSON object: {shortened(raw.decode())}: {why}"
    except ValueError as error:  # a field given twice, or a number of thousands of digits
        return f"not a JSON object: {shortened(raw.decode())}: {error}"
    if isinstance(found, dict):
        return found
    return f"not a JSON object: {shortened(found)}: one object {{...}} a line is needed"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key in found if [k for k, _ in pairs].count(key) > 1)
        raise ValueError(f"the field {shortened(twice)} is given twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


# How it begins what is wrong with an image that is not there.
NOT_IN = "is not in"


def field_checks(images: Path, labels: bool) -> dict[str, Callable[[Any], str | None]]:
    """For each field, a function from a value to what is wrong with it; None if it is good."""

    def encodes(value: str) -> bool:
        try:
            value.encode()
        except UnicodeEncodeError:  # half a surrogate pair, as "\ud83d" alone
            return False
        return True

    def id_(value: Any) -> str | None:
        number = type(value) is int and 0 <= value < 10**18  # bool is an int, but no id
        digits = type(value) is str and value.isascii() and value.isdigit() and len(value) <= 18
        return None if number or digits else 'write a whole number such as 1236 or "01236"'

    def img(value: Any) -> str | None:
        if type(value) is not str or not value or "\0" in value or not encodes(value):
            return 'write the image\'s file such as "img/01236.png"'
        if value.startswith("/") or "\\" in value or ".." in value.split("/") or value[1:2] == ":":
            return f"leaves the data folder: write a path below {images}, with / and without .."
        folder, _, name = value.rpartition("/")
        if folder not in listed:
            listed[folder] = _regular_files(Path(images) / folder)
        if name in listed[folder]:
            return None
        if _exists(Path(images) / value):
            return f"is not a regular file in {images}: put the image there"
        return f"{NOT_IN} {images}: put the image there, or take the line out"

    def text(value: Any) -> str | None:
        if type(value) is str and encodes(value):
            return None
        return 'write text in quotes, "" for none'

    def label(value: Any) -> str | None:
        if value is MISSING or value is None:
            return "write 0 (benign) or 1 (hateful): this split needs labels" if labels else None
        good = type(value) is int and value in (0, 1)
        return None if good else "write 0 (benign) or 1 (hateful), without quotes"

    listed: dict[str, frozenset[str]] = {}  # folder -> names; far faster than a stat per image
    return {"id": id_, "img": img, "text": text, "label": label}


def _regular_files(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if _is_file(entry))
    except PermissionError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}.") from error
    except OSError:  # not there, not a folder, too long
        return frozenset()


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:  # links in a circle
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False

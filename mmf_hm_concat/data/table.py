"""Reading the annotation files of a layout into one validated table a split.

The table has one row a meme, in the files' order, and a plain index from 0:

| column | dtype | meaning |
|---|---|---|
| `id` | text | the characters of the file's id: "01236", or "1236" where the file has a number |
| `number` | int64 | the id as a number, for joining: 1236 |
| `img` | text | the image as the file names it: "img/01236.png" |
| `path` | text | absolute path of the image |
| `text` | text | the meme's text, maybe empty |
| `label` | Int8 | 0 benign, 1 hateful, <NA> unknown |
| `file` | text | path of the jsonl file it comes from |
| `line` | int32 | its line there, from 1 |

Text columns have pandas' own text dtype (`object` before pandas 3, `str` since).
Blank lines, a byte order mark and fields other than id, img, text and label are let pass.
"""

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from mmf_hm_concat.data.annotations import (
    MISSING,
    NOT_IN,
    Problem,
    field_checks,
    read_json_lines,
    shortened,
)
from mmf_hm_concat.data.layout import Layout
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.files import sha256
from mmf_hm_concat.utils.text import counted, first_and_more

logger = logging.getLogger("mmf_hm_concat")

LABELS: Mapping[str, bool] = MappingProxyType({"train": True, "val": True, "test": False})
SHOWN = 20  # problems that are shown in full

Note = tuple[int, str]  # a log level and a message


def read_memes(files: Sequence[Path], images: Path, *, split: str, labels: bool) -> pd.DataFrame:
    """Read and check the files that make up one split.

    An id that several of the files have is one meme if they say the same about it; how many
    there were is logged. Memes without text are counted in a warning.

    Args:
        files: jsonl files, each line an object with `id`, `img`, `text` and perhaps `label`.
        images: the folder that `img` is relative to.
        split: its name, for messages.
        labels: whether each meme must have a label; if not, it may be absent or null.

    Returns:
        The table described at the top of this file, with at least one row.

    Raises:
        InputError: with all problems of all files: 20 in full and the number of the others.
    """
    table, notes = check_memes(files, images, split=split, labels=labels)
    _log(notes)
    return table


def read_splits(
    layout: Layout,
    *,
    labels: Mapping[str, bool] = LABELS,
    splits: Sequence[str] | None = None,
) -> dict[str, pd.DataFrame]:
    """Read and check the splits of a layout; see `read_memes`, and `compare` for the warnings.

    Args:
        labels: split -> whether its memes must have a label; absent is False.
        splits: which ones to read; by default all that the layout has.

    Returns:
        Split -> the table described at the top of this file.

    Raises:
        InputError: with the problems of all splits.
    """
    tables, errors, notes = check_splits(layout, labels=labels, splits=splits)
    _log(notes)
    if errors:
        raise InputError("\n".join(errors))
    return tables


def check_splits(
    layout: Layout,
    *,
    labels: Mapping[str, bool] = LABELS,
    splits: Sequence[str] | None = None,
) -> tuple[dict[str, pd.DataFrame], list[str], list[Note]]:
    """As `read_splits`, but return the good splits' tables, the bad ones' errors, and notes."""
    tables, errors, notes = {}, [], []
    for split, files in layout.annotations.items():
        if splits is not None and split not in splits:
            continue
        try:
            required = labels.get(split, False)
            tables[split], found = check_memes(files, layout.images, split=split, labels=required)
            notes += found
        except InputError as error:
            errors.append(str(error))
    return tables, [*dict.fromkeys(errors)], notes + compare(tables)


def check_memes(
    files: Sequence[Path], images: Path, *, split: str, labels: bool
) -> tuple[pd.DataFrame, list[Note]]:
    """As `read_memes`, but return what that logs."""
    fields, places, repeated = _read_fields(files, images, split, labels)
    table = pd.DataFrame(
        {
            "id": list(map(str, fields["id"])),
            "number": pd.Series(list(map(int, fields["id"])), dtype="int64"),
            "img": fields["img"],
            "path": [f"{Path(images).absolute()}{os.sep}{img}" for img in fields["img"]],
            "text": fields["text"],
            "label": pd.array(fields["label"], dtype="Int8"),
            "file": [file for file, _ in places],
            "line": pd.Series([line for _, line in places], dtype="int32"),
        }
    )
    notes = []
    if repeated:
        table = table.drop(index=repeated).reset_index(drop=True)
        message = "%s: %d memes; %d more lines repeat one of them in another file."
        notes.append((logging.INFO, message % (split, len(table), len(repeated))))
    empty = table[table["text"].str.strip() == ""]
    if len(empty):
        message = "%s: memes without text: %d (%s). Their text vectors are zeros."
        notes.append((logging.WARNING, message % (split, len(empty), _ids(empty["id"]))))
    return table, notes


def _read_fields(
    files: Sequence[Path], images: Path, split: str, labels: bool
) -> tuple[dict[str, list], list[tuple[str, int]], list[int]]:
    """Each field's checked values, (file, line) of each meme, and the rows to leave out.

    Raises InputError with the problems of all files, or when there are no memes.
    """
    problems: list[Problem] = []
    not_there: list[str] = []
    fields: dict[str, list] = {column: [] for column in ("id", "img", "text", "label")}
    places: list[tuple[str, int]] = []
    bad: set[int] = set()
    checks = field_checks(images, labels)
    for file in files:
        lines, objects, not_objects = read_json_lines(file)
        problems += not_objects
        before = len(places)
        places += [(str(file), line) for line in lines]
        for field, check in checks.items():
            values = [each.get(field, MISSING) for each in objects]
            for index, what in enumerate(map(check, values)):
                if what is not None:
                    value = values[index]
                    not_there += [value] if what.startswith(NOT_IN) else []
                    shown = "is missing" if value is MISSING else f"= {shortened(value)}"
                    problems.append(Problem(str(file), lines[index], f"{field} {shown}: {what}."))
                    values[index] = None
                    bad.add(before + index)
            fields[field] += values
    fields["label"] = [None if label is MISSING else label for label in fields["label"]]
    repeated = _repeated_ids(fields, places, bad, problems)
    causes = []
    if len(not_there) == len(places) > 1:  # one cause, however many memes and splits
        problems = [each for each in problems if f": {NOT_IN} " not in each.what]
        folder = (Path(images) / not_there[0]).parent
        causes = [f"None of the images is there: put them into {folder}."]
        if not problems:
            raise InputError(causes[0])
    if problems:
        order = {str(file): place for place, file in enumerate(files)}
        problems.sort(key=lambda problem: (order[problem.file], problem.line))
        head = f"{split}: {counted(len(problems), 'problem')}:"
        raise InputError("\n  ".join([head, *first_and_more(problems, SHOWN), *causes]))
    if not places:
        raise InputError(f"{split}: no memes in {', '.join(map(str, files))}.")
    return fields, places, repeated


def _repeated_ids(
    rows: dict[str, list], places: list[tuple[str, int]], bad: set[int], problems: list[Problem]
) -> list[int]:
    """Rows that say again, in another file, what an earlier row says. Others are problems."""
    in_file: dict[tuple[str, int], int] = {}
    in_split: dict[int, int] = {}
    repeated = []
    for row, ((file, line), given) in enumerate(zip(places, rows["id"], strict=True)):
        if given is None:
            continue
        number = int(given)
        same_file = in_file.setdefault((file, number), row)
        first = in_split.setdefault(number, row)
        if same_file != row:
            what = f"id = {given!r}: line {places[same_file][1]} has it too: take one of them out."
            problems.append(Problem(file, line, what))
        elif first != row:
            fields = ("img", "text", "label")
            other = [field for field in fields if rows[field][first] != rows[field][row]]
            if other and not {first, row} & bad:
                where = "{}, line {}".format(*places[first])
                what = (
                    f"id = {given!r}: another {' and '.join(other)} than in {where}: correct one."
                )
                problems.append(Problem(file, line, what))
            repeated.append(row)
    return repeated


def compare(tables: Mapping[str, pd.DataFrame]) -> list[Note]:
    """Warnings about memes in two splits, and about duplicates within each split."""
    notes = []
    for (one, first), (other, second) in itertools.combinations(tables.items(), 2):
        both = first.loc[first["number"].isin(second["number"]), "id"]
        if len(both):
            message = "memes in %s and in %s too: %d (%s). Scores on them say little."
            notes.append((logging.WARNING, message % (one, other, len(both), _ids(both))))
    for split, table in tables.items():
        group = _duplicate_groups(table)
        if len(group):
            conflict = group[_conflicting(table, group)]
            message = (
                "%s: %d memes are %d by image and text (%s), %d of them with different labels "
                "(%s); dataset_config.hm_competition.drop_duplicates=true takes them out of train."
            )
            ids = table["id"]
            numbers = (len(group), group.nunique(), _ids(ids[group.index]))
            conflicts = (len(conflict), _ids(ids[conflict.index]))
            notes.append((logging.WARNING, message % (split, *numbers, *conflicts)))
    return notes


def drop_duplicates(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Take out memes that have the same image and the same text as another one.

    Of memes with one label the first stays. Of memes with different labels none stays: which
    label is right cannot be known, and keeping the first would let the line order decide.

    Returns:
        The other rows, index from 0, and how many were taken out; the number is logged.
    """
    group = _duplicate_groups(table)
    out = group.index[group.duplicated() | _conflicting(table, group)]
    logger.info("drop_duplicates: %d of %d memes taken out.", len(out), len(table))
    return table.drop(index=out).reset_index(drop=True), len(out)


def _duplicate_groups(table: pd.DataFrame) -> pd.Series:
    """For the rows that have a duplicate, by their index: a name of the group, text and image.

    Hashing all images would take minutes, so only those with the same text and the same file
    size as another one are hashed.
    """
    try:
        same = table.loc[table["text"].duplicated(keep=False), ["text", "path"]]
        same = same.assign(size=[Path(path).stat().st_size for path in same["path"]])
        same = same[same.duplicated(["text", "size"], keep=False)]
        same = same.assign(image=[sha256(path) for path in same["path"]])
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error
    same = same[same.duplicated(["text", "image"], keep=False)]
    return same["image"].astype(object) + same["text"].astype(object)


def _conflicting(table: pd.DataFrame, group: pd.Series) -> pd.Series:
    """Of those rows, which belong to a group with different labels."""
    return table.loc[group.index, "label"].groupby(group).transform("nunique").gt(1)


def _ids(ids: pd.Series) -> str:
    return f"ids {', '.join(first_and_more(ids.tolist(), 10))}" if len(ids) else "none"


def _log(notes: Sequence[Note]) -> None:
    for level, message in notes:
        logger.log(level, "%s", message)

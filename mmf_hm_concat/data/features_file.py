"""A features file: one vector for each meme, made elsewhere by any encoder, joined by its id.

- ``.npz``, of np.savez: an array ``ids``, whole numbers or text ("01236" is 1236), (N,); and a
  matrix ``features``, float16, float32 or float64, (N, L). Of the two, only the first needs that
  name.
- ``.parquet``, of pandas or pyarrow: a column ``id``, likewise; and either one column of lists of
  floats, or one float column for each of the L numbers. Needs pyarrow, an extra.

Every id occurs once and every number is finite. Ids that the data set does not have are let pass.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmf_hm_concat.data.features_formats import Source, Wrong, open_source
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.text import counted, first_and_more

SHOWN = 5  # ids
# What ids in annotation files may be, too.
MOST_DIGITS = 18
NO_ID = 'an id is a whole number such as 1236, or "01236"'


@dataclass(frozen=True)
class FeaturesFile:
    """The vectors of a file that were asked for.

    Attributes:
        ids_of_file: of all its rows, int64 (N,).
        ids: of those that were asked for and are there, int64 (M,), in the file's order.
        values: theirs, float32 (M, L).
    """

    path: Path
    ids_of_file: np.ndarray
    ids: np.ndarray
    values: np.ndarray

    @property
    def width(self) -> int:
        """L."""
        return self.values.shape[1]

    def lacking(self, ids: Sequence[int]) -> list[int]:
        """Those of ``ids`` for which the file has no vector."""
        return np.asarray(ids)[~np.isin(ids, self.ids_of_file)].tolist()

    def rows(self, ids: Sequence[int]) -> np.ndarray:
        """The row in `values` of each of ``ids``, all of which are there; int64."""
        order = np.argsort(self.ids, kind="stable")
        return order[np.searchsorted(self.ids, ids, sorter=order)]

    def __str__(self) -> str:
        size = self.values.nbytes / 1e6
        return (
            f"{self.path}: {len(self.ids):,} of its {len(self.ids_of_file):,} vectors of "
            f"{self.width:,} numbers are in memory, {size:,.1f} MB"
        )


def read_features(path: str | Path, wanted: Sequence[int]) -> FeaturesFile:
    """Read a features file; all of it is checked, and only what is asked for is kept in memory.

    Args:
        wanted: ids of memes (`number` in data/table.py). Those that the file lacks are not told:
            see `FeaturesFile.lacking`.

    Raises:
        InputError: the file is missing, damaged or of another kind, or an id or a number in it is
            not what it must be; one message, with file and id.
    """
    path = Path(path)
    try:
        with ExitStack() as stack:
            return _read(path, open_source(path, stack), wanted)
    except Wrong as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # a damaged archive or table can fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
        raise InputError(
            f"{path}: cannot be read ({reason}): it is damaged. Write it again."
        ) from None


def say_lacking(path: Path, ids: Sequence[int], total: int, split: str = "") -> str:
    """A sentence without its full stop: how many of ``total`` memes lack a vector, and which."""
    of_split = f" of the {split} split" if split else ""
    return (
        f"{path} has no vector for {len(ids):,} of the {counted(total, 'meme')}{of_split} (id "
        f"{', '.join(first_and_more(ids, SHOWN))})"
    )


def _read(path: Path, source: Source, wanted: Sequence[int]) -> FeaturesFile:
    ids = _as_numbers(source.ids)
    rows, width = source.shape
    if len(ids) != rows:
        raise Wrong(f"has {counted(len(ids), 'id')}, but {counted(rows, 'row')} of features.")
    _check_distinct(ids)
    is_kept = np.isin(ids, np.asarray(wanted, np.int64))
    place = np.cumsum(is_kept) - 1
    values = np.empty((int(is_kept.sum()), width), np.float32)
    for of_rows, of_columns, block in source.blocks():
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            numbers = block.astype(np.float32)
        if not np.isfinite(numbers).all():
            row, column = np.argwhere(~np.isfinite(numbers))[0]
            raise Wrong(
                f"id {ids[of_rows.start + row]}: number {of_columns.start + column + 1} of its "
                f"vector is {block[row, column]}: every number must be finite, in float32. Repair "
                "the row, or take it out."
            )
        chosen = is_kept[of_rows]
        values[place[of_rows][chosen], of_columns] = numbers[chosen]
    return FeaturesFile(path, ids, ids[is_kept], values)


def _as_numbers(ids: np.ndarray) -> np.ndarray:
    """int64 (N,)."""
    if ids.dtype.kind in "iu":
        wrong = (ids < 0) | (ids >= 10**MOST_DIGITS)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise Wrong(f"the id in row {row + 1} is {ids[row]}: {NO_ID}.")
        return ids.astype(np.int64)
    if ids.dtype.kind not in "USO":
        raise Wrong(f'its ids are {ids.dtype}: save whole numbers, or text such as "01236".')
    return np.array([_as_number(each, row) for row, each in enumerate(ids, 1)], np.int64)


def _as_number(given: Any, row: int) -> int:
    text = given.decode("ascii", "replace") if isinstance(given, bytes) else str(given)
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise Wrong(f"the id in row {row} is {text[:60]!r}: {NO_ID}.")
    return int(text)


def _check_distinct(ids: np.ndarray) -> None:
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(again):
        first, second = sorted(order[again[0] : again[0] + 2])
        more = f" {len(again) - 1:,} more rows repeat an id." if len(again) > 1 else ""
        raise Wrong(
            f"id {ids[first]} is there more than once, in rows {first + 1} and {second + 1}: keep "
            f"one of them.{more}"
        )

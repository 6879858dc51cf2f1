"""The two forms of a features file, `.npz` and `.parquet`, read in blocks (see features_file.py).

Neither runs code that a file may contain: pickled objects are refused by what the header says.
"""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from mmf_hm_concat.utils.files import open_regular
from mmf_hm_concat.utils.text import first_and_more

ID_NAMES = ("id", "ids")
# Of the matrix, where a file has more arrays than it and the ids.
MATRIX = "features"
# A header that says more is damaged: 10 million memes, and wider than any encoder.
MOST_ROWS, MOST_NUMBERS = 10**7, 2**16
# How much is read at a time, in numbers: some 8 MB.
BLOCK = 2**21
# Columns that pandas adds to a parquet file for an unnamed index.
INDEX = "__index_level_"


class Wrong(ValueError):
    """What is wrong with a file, and what to do: how a sentence that begins with its name ends."""


# Rows, columns, and their numbers: of any float dtype, (rows, columns).
Block = tuple[slice, slice, np.ndarray]


class Source(Protocol):
    """An open features file.

    Attributes:
        ids: as the file has them, (N,) integers or texts.
        shape: (N, L) of the matrix.
    """

    ids: np.ndarray
    shape: tuple[int, int]

    def blocks(self) -> Iterator[Block]:
        """All numbers of the matrix, each once."""


def open_source(path: Path, stack: ExitStack) -> Source:
    """Open a file, until ``stack`` is closed; what is wrong with it raises any exception."""
    ending = path.suffix.lower()
    if ending not in (".npz", ".parquet"):
        raise Wrong("is neither an .npz nor a .parquet file: save it as one of them.")
    file = stack.enter_context(open_regular(path))
    return NpzSource(file, stack) if ending == ".npz" else ParquetSource(file, stack)


def _checked(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) != 2:
        raise Wrong(
            f"its features have the shape {tuple(shape)}: one row of numbers a meme is needed, "
            "(memes, numbers)."
        )
    rows, width = shape
    if not rows or not width:
        raise Wrong(f"it is empty: its features have the shape {tuple(shape)}.")
    if rows > MOST_ROWS or width > MOST_NUMBERS:
        raise Wrong(
            f"its features have the shape {tuple(shape)}; at most {MOST_ROWS:,} rows of "
            f"{MOST_NUMBERS:,} numbers are read."
        )
    return rows, width


# ---- .npz: what np.savez and np.savez_compressed write ----


class NpzSource:
    """One array of ids, and one matrix of floats."""

    def __init__(self, file: BinaryIO, stack: ExitStack):
        try:
            self._archive = stack.enter_context(zipfile.ZipFile(file))
        except zipfile.BadZipFile:
            raise Wrong(
                "is no .npz file (a zip archive of NumPy arrays), or it is cut off. Write it again "
                "with np.savez."
            ) from None
        names = [name.removesuffix(".npy") for name in self._archive.namelist()]
        given = ", ".join(first_and_more(names, 8)) or "nothing"
        ids = [name for name in names if name in ID_NAMES]
        others = [name for name in names if name not in ID_NAMES]
        if len(ids) != 1:
            raise Wrong(f"needs one array called ids; it holds {given}.")
        self._matrix = MATRIX if MATRIX in others else others[0] if others else ""
        if not others or (len(others) > 1 and self._matrix != MATRIX):
            raise Wrong(
                f"needs the matrix of vectors as an array called {MATRIX}; it holds {given}."
            )
        with self._archive.open(f"{ids[0]}.npy") as content:
            shape, _, dtype = _header(content, ids[0])
            if len(shape) != 1:
                raise Wrong(f"its ids have the shape {shape}: one id a meme is needed, (memes,).")
            if shape[0] > MOST_ROWS or dtype.itemsize > 1024:
                raise Wrong(f"its ids have the shape {shape} and dtype {dtype}: too many, or long.")
            self.ids = _array(content, dtype, shape[0], ids[0])
            _at_end(content, ids[0])
        with self._archive.open(f"{self._matrix}.npy") as content:
            shape, _, dtype = _header(content, self._matrix)
            if dtype.kind != "f":
                raise Wrong(
                    f"its {self._matrix} are {dtype}: save floats, as float32 "
                    "(array.astype('float32'))."
                )
            self.shape = _checked(shape)

    def blocks(self) -> Iterator[Block]:
        with self._archive.open(f"{self._matrix}.npy") as content:
            _, in_columns, dtype = _header(content, self._matrix)
            rows, width = self.shape
            # Along the way the file has them; one of a transposed matrix has columns.
            lines, length = (width, rows) if in_columns else (rows, width)
            step = max(1, BLOCK // length)
            for start in range(0, lines, step):
                stop = min(start + step, lines)
                read = _array(content, dtype, (stop - start) * length, self._matrix)
                block = read.reshape(stop - start, length)
                if in_columns:
                    yield slice(0, rows), slice(start, stop), block.T
                else:
                    yield slice(start, stop), slice(0, width), block
            _at_end(content, self._matrix)


def _header(content: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is stored by columns, and dtype, of an array's file."""
    version = np.lib.format.read_magic(content)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise Wrong(f"its array {name} has the .npy version {version}; 1.0 and 2.0 are read.")
    shape, in_columns, dtype = readers[version](content)
    if dtype.hasobject:
        raise Wrong(
            f"its array {name} holds pickled Python objects, which could run code and are not "
            "read. Save ids as np.array(ids) of whole numbers or of text, vectors of one length "
            "as one matrix of float32."
        )
    return shape, in_columns, dtype


def _array(content: Any, dtype: np.dtype, count: int, name: str) -> np.ndarray:
    size = count * dtype.itemsize
    data = content.read(size)
    if len(data) < size:
        raise Wrong(f"its array {name} is shorter than its header says: it is damaged.")
    return np.frombuffer(data, dtype, count)


def _at_end(content: Any, name: str) -> None:
    if content.read(1):  # and so the archive's checksum is compared
        raise Wrong(f"its array {name} is longer than its header says: it is damaged.")


# ---- .parquet: what pandas and pyarrow write ----


def parquet() -> Any:
    """The module that reads parquet; it is an extra."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise Wrong(
            f"needs pyarrow to be read, which cannot be imported ({error}). Install it: make "
            "EXTRAS=parquet install, or pip install 'mmf_hm_concat[parquet]'; or save an .npz."
        ) from None
    return pyarrow.parquet


class ParquetSource:
    """A column of ids, and either one column of lists of floats or one column a number."""

    def __init__(self, file: BinaryIO, stack: ExitStack):
        module = parquet()
        import pyarrow

        self._types = pyarrow.types
        try:
            self._file = stack.enter_context(module.ParquetFile(file))
        except pyarrow.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise Wrong(
                f"is no .parquet file, or it is cut off ({reason}). Write it again with to_parquet."
            ) from None
        schema = self._file.schema_arrow
        names = [name for name in schema.names if not name.startswith(INDEX)]
        given = ", ".join(first_and_more(names, 8)) or "nothing"
        ids = [name for name in names if name in ID_NAMES]
        others = [name for name in names if name not in ID_NAMES]
        if len(ids) != 1 or len(set(names)) < len(names):
            raise Wrong(f"needs one column called id; it has {given}.")
        if not others:
            raise Wrong(f"needs the vectors, as a column of lists; it has {given}.")
        lists = [name for name in others if self._is_list(schema.field(name).type)]
        if MATRIX in lists:
            lists = [MATRIX]
        if lists and len(lists) < len(others) and lists != [MATRIX]:
            raise Wrong(f"needs the vectors as one column of lists, {MATRIX}; it has {given}.")
        if len(lists) > 1:
            raise Wrong(
                f"has several columns of lists: call the right one {MATRIX}. It has {given}."
            )
        self._columns, self._has_lists = lists or others, bool(lists)
        for name in self._columns:
            kind = schema.field(name).type
            if not self._types.is_floating(kind.value_type if lists else kind):
                raise Wrong(f"its column {name} is of {kind}: save floats, as float32.")
        if self._file.metadata.num_rows > MOST_ROWS:
            raise Wrong(f"has more than {MOST_ROWS:,} rows.")
        self.ids = self._read_ids(ids[0])
        self.shape = _checked((self._file.metadata.num_rows, self._width()))

    def _is_list(self, kind: Any) -> bool:
        types = self._types
        kinds = (types.is_list, types.is_large_list, types.is_fixed_size_list)
        return any(each(kind) for each in kinds)

    def _read_ids(self, name: str) -> np.ndarray:
        column = self._file.read(columns=[name]).column(0)
        types, kind = self._types, column.type
        if column.null_count:
            row = column.is_null().to_pylist().index(True) + 1
            raise Wrong(f"row {row} has no id: write one, or take the row out.")
        if types.is_integer(kind):
            return column.to_numpy()
        if types.is_string(kind) or types.is_large_string(kind):
            return np.array(column.to_pylist(), dtype=object)
        raise Wrong(f'its ids are of {kind}: save whole numbers, or text such as "01236".')

    def _width(self) -> int:
        if not self._has_lists:
            return len(self._columns)
        for batch in self._file.iter_batches(batch_size=1, columns=self._columns):
            first = batch.column(0).to_pylist()[0]
            return 0 if first is None else len(first)
        return 0

    def blocks(self) -> Iterator[Block]:
        width, done = self.shape[1], 0
        size = max(1, BLOCK // width)
        for batch in self._file.iter_batches(batch_size=size, columns=self._columns):
            if self._has_lists:
                numbers = self._matrix(batch.column(0), done)
            else:
                columns = [each.to_numpy(zero_copy_only=False) for each in batch.columns]
                numbers = np.column_stack(columns)
            yield slice(done, done + len(numbers)), slice(0, width), numbers
            done += len(numbers)

    def _matrix(self, lists: Any, done: int) -> np.ndarray:
        width = self.shape[1]
        lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
        if lists.null_count or (lengths != width).any():
            row = int(np.flatnonzero((lengths != width) | np.isnan(lengths.astype(float)))[0])
            found = "none" if np.isnan(float(lengths[row])) else f"{int(lengths[row]):,}"
            raise Wrong(
                f"id {self.ids[done + row]}: {found} numbers, but the first id has {width:,}: all "
                "vectors need the same length."
            )
        return lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)

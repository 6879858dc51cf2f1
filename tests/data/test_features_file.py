"""Features files: what is read of good ones, and one message for each kind of damage."""

import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmf_hm_concat.data.features_file import read_features
from mmf_hm_concat.errors import InputError

IDS = np.array([5, 1236, 17])
MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4)
WANTED = [17, 5]


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def with_cell(value, row=1, column=2):
    matrix = MATRIX.astype(np.float64)
    matrix[row, column] = value
    return matrix


def check_good(path, matrix=MATRIX):
    found = read_features(path, WANTED)
    assert (found.values.dtype, found.width, found.ids_of_file.tolist()) == (
        np.float32, 4, IDS.tolist(),
    )  # fmt: skip
    assert len(found.values) == len(WANTED)
    assert found.values[found.rows(WANTED)].tolist() == matrix[[2, 0]].tolist()
    assert found.lacking([5, 6, 1236, 7]) == [6, 7]


@pytest.mark.parametrize(
    ("ids", "matrix"),
    [
        (IDS, MATRIX),
        (IDS.astype(np.uint16), MATRIX.astype(np.float16)),
        (["00005", "1236", "017"], MATRIX.astype(np.float64)),
        (np.array(["00005", "1236", "017"], "S"), MATRIX.astype(">f4")),
        (IDS, np.asfortranarray(MATRIX)),
    ],
)
def test_any_ids_and_floats_of_numpy_are_read(tmp_path, ids, matrix):
    check_good(npz(tmp_path / "f.npz", ids=ids, features=matrix))


def test_the_matrix_may_have_another_name_and_be_compressed(tmp_path):
    np.savez_compressed(tmp_path / "f.npz", id=IDS, embeddings=MATRIX)
    check_good(tmp_path / "f.npz")


@pytest.mark.parametrize("ids", [IDS, ["00005", "1236", "017"]])
@pytest.mark.parametrize("form", ["lists", "columns", "index", "fixed"])
def test_parquet_of_pandas_and_pyarrow_is_read(tmp_path, ids, form):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    frame = pd.DataFrame({"id": ids, "vector": list(MATRIX)})
    if form == "columns":
        frame = pd.DataFrame(MATRIX, columns=list("abcd")).assign(id=ids)
    if form == "index":
        frame = frame.set_index("id")
    if form == "fixed":
        lists = pa.FixedSizeListArray.from_arrays(pa.array(MATRIX.ravel()), 4)
        pq.write_table(pa.table({"id": ids, "features": lists}), tmp_path / "f.parquet")
    else:
        frame.to_parquet(tmp_path / "f.parquet")
    check_good(tmp_path / "f.parquet")


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 10**18 - 1), min_size=1, max_size=30, unique=True),
    st.integers(1, 5),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_each_id_gets_its_own_vector(tmp_path_factory, ids, width, by_columns, random):
    matrix = np.random.default_rng(len(ids)).standard_normal((len(ids), width), np.float32)
    stored = np.asfortranarray(matrix) if by_columns else matrix
    path = npz(tmp_path_factory.getbasetemp() / "any.npz", ids=ids, features=stored)
    wanted = random.sample(ids, random.randint(0, len(ids)))
    found = read_features(path, wanted)
    expected = matrix[[ids.index(each) for each in wanted]]
    assert np.array_equal(found.values[found.rows(wanted)], expected)


def damaged_header(path, old, new):
    """Of the matrix, in an archive that is whole."""
    content = io.BytesIO()
    np.save(content, MATRIX)
    with zipfile.ZipFile(path, "w") as archive:
        ids = io.BytesIO()
        np.save(ids, IDS)
        archive.writestr("ids.npy", ids.getvalue())
        archive.writestr("features.npy", content.getvalue().replace(old, new, 1))
    return path


def cut(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def flipped(path):
    """One bit of the last number of the matrix."""
    content = bytearray(path.read_bytes())
    place = content.index(MATRIX.tobytes()) + MATRIX.nbytes - 2
    content[place] ^= 1
    path.write_bytes(content)
    return path


def written(path, content):
    path.write_bytes(content)
    return path


OBJECTS = np.array([[1.0], [1.0, 2.0], [3.0]], dtype=object)
DAMAGE = {
    "missing": (lambda p: p, "No such file"),
    "a folder": (lambda p: p.mkdir() or p, "it is a folder|is a folder"),
    "no bytes": (lambda p: written(p, b""), "is no .npz file"),
    "not a zip": (lambda p: written(p, b"id,features\n1,2.0\n" * 99), "is no .npz file"),
    "a .npy alone": (lambda p: npz_as_npy(p), "is no .npz file"),
    "cut in half": (lambda p: cut(npz(p, ids=IDS, features=MATRIX), 0.5), "cut off"),
    "cut at the end": (lambda p: cut(npz(p, ids=IDS, features=MATRIX), 0.98), "cut off"),
    "a flipped bit": (lambda p: flipped(npz(p, ids=IDS, features=MATRIX)), "CRC.*damaged"),
    "too few numbers": (lambda p: damaged_header(p, b"(3, 4)", b"(3, 5)"), "features is shorter"),
    "too many numbers": (lambda p: damaged_header(p, b"(3, 4)", b"(3, 3)"), "features is longer"),
    "a header of billions": (
        lambda p: damaged_header(p, b"(3, 4), }  ", b"(3, 9999999)}"), "9999999.*at most",
    ),
    "no header": (lambda p: damaged_header(p, b"\x93NUMPY", b"pickle"), "cannot be read"),
    "no ids": (lambda p: npz(p, features=MATRIX), "needs one array called ids; it holds features"),
    "no matrix": (lambda p: npz(p, ids=IDS), "called features; it holds ids"),
    "two matrices": (lambda p: npz(p, ids=IDS, a=MATRIX, b=MATRIX), "features; it holds ids, a, b"),
    "pickled ids": (
        lambda p: npz(p, ids=IDS.astype(object), features=MATRIX), "ids holds pickled Python",
    ),
    "pickled rows": (lambda p: npz(p, ids=IDS, features=OBJECTS), "features holds pickled Python"),
    "integers": (lambda p: npz(p, ids=IDS, features=MATRIX.astype(int)), "are int64: save floats"),
    "complex": (lambda p: npz(p, ids=IDS, features=MATRIX * 1j), "are complex64: save floats"),
    "text": (lambda p: npz(p, ids=IDS, features=MATRIX.astype(str)), "are <U32: save floats"),
    "one vector": (lambda p: npz(p, ids=IDS, features=MATRIX[:, 0]), r"the shape \(3,\): one row"),
    "three axes": (lambda p: npz(p, ids=IDS, features=MATRIX[None]), r"the shape \(1, 3, 4\)"),
    "no rows": (lambda p: npz(p, ids=IDS[:0], features=MATRIX[:0]), "it is empty"),
    "no columns": (lambda p: npz(p, ids=IDS, features=MATRIX[:, :0]), "it is empty"),
    "fewer ids": (lambda p: npz(p, ids=IDS[:2], features=MATRIX), "2 ids, but 3 rows"),
    "ids as floats": (lambda p: npz(p, ids=IDS / 1, features=MATRIX), "its ids are float64: save"),
    "ids as a table": (lambda p: npz(p, ids=IDS[:, None], features=MATRIX), r"ids have the shape"),
    "a negative id": (lambda p: npz(p, ids=-IDS, features=MATRIX), "row 1 is -5: an id is"),
    "a file's name": (
        lambda p: npz(p, ids=["5", "img/01236.png", "17"], features=MATRIX), "row 2 is 'img/",
    ),
    "an id twice": (
        lambda p: npz(p, ids=["01236", "5", "1236"], features=MATRIX),
        "id 1236 is there more than once, in rows 1 and 3",
    ),
    "nan": (lambda p: npz(p, ids=IDS, features=with_cell(np.nan)), "id 1236: number 3 .* is nan"),
    "inf": (lambda p: npz(p, ids=IDS, features=with_cell(-np.inf)), "id 1236: number 3 .* is -inf"),
    "nan by columns": (
        lambda p: npz(p, ids=IDS, features=np.asfortranarray(with_cell(np.nan))),
        "id 1236: number 3 .* is nan",
    ),
    "too large": (lambda p: npz(p, ids=IDS, features=with_cell(1e300)), "1236: .* 1e.300.*float32"),
}  # fmt: skip


def npz_as_npy(path):
    with path.open("wb") as file:
        np.save(file, MATRIX)
    return path


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_kind_of_damage_is_one_message_with_the_file(tmp_path, kind):
    make, message = DAMAGE[kind]
    path = make(tmp_path / "f.npz")
    with pytest.raises(InputError, match=message) as caught:
        read_features(path, WANTED)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def parquet(path, **columns):
    pd.DataFrame(columns).to_parquet(path)
    return path


LISTS = list(MATRIX)
PARQUET_DAMAGE = {
    "not parquet": (lambda p: written(p, b"id,a\n1,2.0\n" * 99), "is no .parquet file"),
    "cut in half": (lambda p: cut(parquet(p, id=IDS, f=LISTS), 0.5), "is no .parquet file"),
    "no ids": (lambda p: parquet(p, f=LISTS), "needs one column called id; it has f"),
    "no vectors": (lambda p: parquet(p, id=IDS), "needs the vectors"),
    "two columns of lists": (lambda p: parquet(p, id=IDS, a=LISTS, b=LISTS), "several columns"),
    "a list and more": (lambda p: parquet(p, id=IDS, a=LISTS, b=IDS), "as one column of lists"),
    "a column of text": (lambda p: parquet(p, id=IDS, a=["x"] * 3), "a is of .*string: save"),
    "lists of integers": (
        lambda p: parquet(p, id=IDS, a=[[1, 2]] * 3), "a is of list<.*int64>: save floats",
    ),
    "another length": (
        lambda p: parquet(p, id=IDS, a=[LISTS[0], LISTS[1][:3], LISTS[2]]),
        "id 1236: 3 numbers, but the first id has 4",
    ),
    "no vector": (
        lambda p: parquet(p, id=IDS, a=[LISTS[0], None, LISTS[2]]), "id 1236: none numbers",
    ),
    "nothing in a cell": (
        lambda p: parquet(p, id=IDS, a=[1.0, None, 2.0]), "id 1236: number 1 .* is nan",
    ),
    "ids as floats": (lambda p: parquet(p, id=IDS / 1, a=LISTS), "its ids are of double"),
    "an id is missing": (lambda p: parquet(p, id=["5", None, "7"], a=LISTS), "row 2 has no id"),
    "an id twice": (lambda p: parquet(p, id=[7, 5, 7], a=LISTS), "id 7 is there more than once"),
    "empty": (lambda p: parquet(p, id=IDS[:0], a=np.zeros(0, np.float32)), "it is empty"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARQUET_DAMAGE)
def test_each_kind_of_damage_to_parquet_is_one_message(tmp_path, kind):
    pytest.importorskip("pyarrow")
    make, message = PARQUET_DAMAGE[kind]
    path = make(tmp_path / "f.parquet")
    with pytest.raises(InputError, match=message) as caught:
        read_features(path, WANTED)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_another_kind_of_file_is_named_by_what_it_may_be(tmp_path):
    np.save(tmp_path / "f.npy", MATRIX)
    with pytest.raises(InputError, match=r"neither an \.npz nor a \.parquet"):
        read_features(tmp_path / "f.npy", WANTED)


def test_without_pyarrow_the_message_has_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "f.parquet").touch()
    with pytest.raises(InputError, match=r"needs pyarrow.*make EXTRAS=parquet install"):
        read_features(tmp_path / "f.parquet", WANTED)

"""Damaged annotation lines, one kind at a time and by the thousand: never a foreign exception."""

import json
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmf_hm_concat.data.table import read_memes
from mmf_hm_concat.errors import InputError


def meme(number, **changes):
    fields = {"id": f"{number:05}", "img": f"img/{number:05}.png", "label": number % 2}
    fields |= {"text": f"text {number}"} | changes
    return {name: value for name, value in fields.items() if value is not ...}


def write(path, *memes):
    """Write memes, given as objects or as raw lines."""
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in memes]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "img").mkdir()
    for number in range(1, 60):
        (tmp_path / "img" / f"{number:05}.png").write_bytes(b"image")
    return tmp_path


# what is wrong with line 2 -> the line, what the message calls it by, and a word of its reason
DAMAGE = {
    "not JSON": (b"id: 2", "JSON", "column 1"),
    "cut": (json.dumps(meme(2))[:-9].encode(), "JSON", "column"),
    "two objects": (json.dumps(meme(2)).encode() * 2, "JSON", "Extra data"),
    "single quotes": (str(meme(2)).encode(), "JSON", "column 2"),
    "a list": (b"[1, 2]", "JSON", "[1, 2]"),
    "a number": (b"17", "JSON", "17"),
    "null": (b"null", "JSON", "None"),
    "csv": (b"2,img/00002.png,0,text", "JSON", "Extra data"),
    "not UTF-8": (b'{"id": 2, "text": "\xff"}', "UTF-8", "byte 20"),
    "nested too deeply": (b"[" * 100_000, "[[[", "nested"),
    "a field twice": (b'{"id": 2, "id": 3}', "'id'", "twice"),
    "number too long": (b'{"id": ' + b"9" * 5000 + b"}", "999", "limit"),
    "no id": (meme(2, id=...), "id", "is missing"),
    "id null": (meme(2, id=None), "id", "None"),
    "id true": (meme(2, id=True), "id", "True"),
    "id float": (meme(2, id=2.0), "id", "2.0"),
    "id negative": (meme(2, id=-2), "id", "-2"),
    "id too large": (meme(2, id=10**18), "id", "1000000000000000000"),
    "id empty": (meme(2, id=""), "id", "''"),
    "id no number": (meme(2, id="two"), "id", "'two'"),
    "id other digits": (meme(2, id="²"), "id", "'²'"),
    "id spaced": (meme(2, id=" 2"), "id", "' 2'"),
    "id list": (meme(2, id=[2]), "id", "[2]"),
    "id twice": (meme(2, id=1), "id", "line 1 has it too"),
    "id twice, spelled alike": (meme(2, id="00001"), "id", "line 1 has it too"),
    "no img": (meme(2, img=...), "img", "is missing"),
    "img null": (meme(2, img=None), "img", "None"),
    "img empty": (meme(2, img=""), "img", "''"),
    "img number": (meme(2, img=2), "img", "2"),
    "img absolute": (meme(2, img="/etc/passwd"), "img", "leaves the data folder"),
    "img up": (meme(2, img="img/../../x.png"), "img", "leaves the data folder"),
    "img up, Windows": (meme(2, img="..\\x.png"), "img", "leaves the data folder"),
    "img drive": (meme(2, img="C:x.png"), "img", "leaves the data folder"),
    "img zero byte": (meme(2, img="img/\0.png"), "img", "write the image's file"),
    "img not there": (meme(2, img="img/99999.png"), "img", "is not in"),
    "img in no folder": (meme(2, img="imgs/00002.png"), "img", "is not in"),
    "img case": (meme(2, img="img/00002.PNG"), "img", "is not in"),
    "img a folder": (meme(2, img="img/"), "img", "not a regular file"),
    "img below a file": (meme(2, img="img/00002.png/x"), "img", "is not in"),
    "img too long": (meme(2, img="img/" + "x" * 5000), "img", "is not in"),
    "img folder too long": (meme(2, img="x" * 5000 + "/x"), "img", "is not in"),
    "img half a surrogate": (meme(2, img="img/\ud83d.png"), "img", "write the image's file"),
    "no text": (meme(2, text=...), "text", "is missing"),
    "text null": (meme(2, text=None), "text", "None"),
    "text number": (meme(2, text=2), "text", "2"),
    "text list": (meme(2, text=["a"]), "text", "['a']"),
    "text half a surrogate": (meme(2, text="\ud83d"), "text", "in quotes"),
    "no label": (meme(2, label=...), "label", "is missing"),
    "label null": (meme(2, label=None), "label", "None"),
    "label 2": (meme(2, label=2), "label", "2"),
    "label -1": (meme(2, label=-1), "label", "-1"),
    "label text": (meme(2, label="1"), "label", "'1'"),
    "label true": (meme(2, label=True), "label", "True"),
    "label float": (meme(2, label=1.0), "label", "1.0"),
    "label NaN": (meme(2, label=float("nan")), "label", "nan"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_by_file_line_and_field(folder, damage):
    line, field, why = DAMAGE[damage]
    file = write(folder / "train.jsonl", meme(1), line, meme(3))
    with pytest.raises(InputError) as caught:
        read_memes([file], folder, split="train", labels=True)
    message = str(caught.value)
    head, *problems = message.split("\n")
    assert head == "train: 1 problem:"
    (problem,) = problems
    assert problem.startswith(f"  {folder / 'train.jsonl'}, line 2, ")
    what = problem.split("line 2, ")[1]
    assert (
        what.startswith(f"{field} ") if field in ("id", "img", "text", "label") else field in what
    )
    assert why in what
    assert len(problem) < 400 + 2 * len(str(folder))


@pytest.mark.parametrize("damage", [name for name in DAMAGE if "label" in name])
def test_a_label_that_is_there_must_be_right_in_test_too(folder, damage):
    line = DAMAGE[damage][0]
    file = write(folder / "test.jsonl", meme(1), line)
    if line.get("label") is None:
        assert len(read_memes([file], folder, split="test", labels=False)) == 2
    else:
        with pytest.raises(InputError, match="line 2, label"):
            read_memes([file], folder, split="test", labels=False)


VALUES = [None, True, 0, 1, 2, -1, 1.0, "", "1", "00002", "img/00001.png", "../x", [], {}, 10**30]


def damaged_line(draw):
    """A line that is good, nearly good, or nothing like it."""
    fields = meme(draw.randint(1, 59))
    for _ in range(draw.choice([0, 0, 1, 2])):
        name = draw.choice(["id", "img", "text", "label", "more"])
        fields[name] = draw.choice([*VALUES, ...])
    line = bytearray(json.dumps({k: v for k, v in fields.items() if v is not ...}).encode())
    for _ in range(draw.choice([0, 0, 0, 1, 5])):
        place = draw.randrange(len(line) + 1)
        line[place : place + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 3))
    return bytes(line)


def test_ten_thousand_damaged_lines(folder):
    """Never a foreign exception, and never fewer memes than lines that are not blank."""
    draw = random.Random(0)
    good = bad = 0
    for _ in range(1500):
        lines = [damaged_line(draw) for _ in range(draw.choice([1, 2, 4, 25]))]
        file = write(folder / "train.jsonl", *lines)
        try:
            table = read_memes([file], folder, split="train", labels=draw.random() < 0.5)
        except InputError as error:
            assert str(error).startswith("train: ")
            bad += len(lines)
        else:
            assert len(table) == sum(bool(line.strip()) for line in file.read_bytes().split(b"\n"))
            assert table["label"].isin([0, 1, pd.NA]).all()
            assert not table["number"].duplicated().any()
            good += len(lines)
    assert good + bad >= 10_000
    assert min(good, bad) > 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = {"id": st.integers(0, 99) | JSON, "img": st.just("img/00001.png") | JSON}
FIELDS |= {"text": st.text() | JSON, "label": st.sampled_from([0, 1]) | JSON}
LINES = st.fixed_dictionaries(FIELDS).map(lambda line: json.dumps(line).encode())


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(LINES | JSON.map(lambda v: json.dumps(v).encode()) | st.binary(), max_size=5))
def test_any_lines_give_a_table_or_a_message(folder, lines):
    file = write(folder / "train.jsonl", *lines)
    try:
        table = read_memes([file], folder, split="train", labels=True)
    except InputError as error:
        assert str(file) in str(error)
    else:
        assert len(table) == sum(bool(line.strip()) for line in file.read_bytes().split(b"\n"))
        assert table["number"].dtype == np.int64

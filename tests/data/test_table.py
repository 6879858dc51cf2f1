"""From annotation files to a validated table a split; damaged lines are in test_damage.py."""

import json
import logging
import os

import pandas as pd
import pytest

from mmf_hm_concat.data.layout import Layout
from mmf_hm_concat.data.table import drop_duplicates, read_memes, read_splits
from mmf_hm_concat.errors import InputError


def meme(number, **changes):
    fields = {"id": f"{number:05}", "img": f"img/{number:05}.png", "label": number % 2}
    fields |= {"text": f"text {number}"} | changes
    return {name: value for name, value in fields.items() if value is not ...}


def write(path, *memes):
    """Write memes, given as objects or as raw lines, and images of their own for them."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in memes]
    path.write_bytes(b"\n".join(raw) + b"\n")
    return path


def write_images(folder, numbers):
    (folder / "img").mkdir(exist_ok=True)
    for number in numbers:
        (folder / "img" / f"{number:05}.png").write_bytes(f"image {number:05}".encode())


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path, range(1, 60))
    return tmp_path


@pytest.fixture
def read(folder):
    def read(*memes, split="train", labels=True):
        file = write(folder / f"{split}.jsonl", *memes)
        return read_memes([file], folder, split=split, labels=labels)

    return read


def message_of(read, *args, **more):
    with pytest.raises(InputError) as caught:
        read(*args, **more)
    return str(caught.value)


def test_the_table(folder, read):
    table = read(meme(1), b"", meme(2, id=2, text="schön \u2028 🙂"), b" \r", meme(3, extra=[1]))
    assert table["id"].tolist() == ["00001", "2", "00003"]
    assert table["number"].tolist() == [1, 2, 3]
    assert table["img"].tolist() == ["img/00001.png", "img/00002.png", "img/00003.png"]
    assert table["path"].tolist() == [str(folder / img) for img in table["img"]]
    assert table["text"].tolist() == ["text 1", "schön \u2028 🙂", "text 3"]
    assert table["label"].tolist() == [1, 0, 1]
    assert table["file"].unique().tolist() == [str(folder / "train.jsonl")]
    assert table["line"].tolist() == [1, 3, 5]
    assert table.index.tolist() == [0, 1, 2]
    assert table.dtypes[["number", "label", "line"]].tolist() == ["int64", "Int8", "int32"]


def test_labels_may_be_absent_from_test(read):
    table = read(meme(1, label=...), meme(2, label=None), meme(3), split="test", labels=False)
    assert table["label"].isna().tolist() == [True, True, False]
    assert table["label"].dtype == "Int8"


def test_paths_are_absolute(folder, monkeypatch):
    write(folder / "train.jsonl", meme(1))
    monkeypatch.chdir(folder)
    table = read_memes(["train.jsonl"], ".", split="train", labels=True)
    assert table["path"].tolist() == [str(folder / "img/00001.png")]


@pytest.mark.parametrize("img", ["flat.png", "a b/ü/1.png", "./img/00001.png", "img//00001.png"])
def test_own_layouts_of_images(folder, read, img):
    (folder / img).parent.mkdir(parents=True, exist_ok=True)
    (folder / img).write_bytes(b"image")
    assert read(meme(1, img=img))["img"].tolist() == [img]


def test_a_byte_order_mark_and_windows_line_ends(folder):
    file = folder / "train.jsonl"
    lines = [json.dumps(meme(number)).encode() for number in (1, 2)]
    file.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    assert len(read_memes([file], folder, split="train", labels=True)) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_an_image_must_be_a_regular_file(folder, read):
    os.mkfifo(folder / "img" / "pipe.png")
    (folder / "img" / "circle.png").symlink_to("circle.png")
    (folder / "img" / "link.png").symlink_to("00001.png")
    message = message_of(read, meme(1, img="img/pipe.png"), meme(2, img="img/circle.png"))
    assert "line 1, img = 'img/pipe.png': is not a regular file" in message
    assert "line 2, img = 'img/circle.png'" in message
    assert len(read(meme(1, img="img/link.png"), meme(2))) == 2


def test_a_damaged_line_is_described_without_stammering(folder):
    file = write(folder / "train.jsonl", b'{"id": "1', b'{"id": "a\tb"}')
    message = message_of(read_memes, [file], folder, split="train", labels=True)
    assert "Unterminated string starting at column 8." in message
    assert "Invalid control character at column 10." in message


def test_all_problems_are_shown_up_to_twenty(read):
    bad = [meme(1, label=7, text=None), b"?", *(meme(n, label=n) for n in range(3, 33))]
    lines = message_of(read, *bad).split("\n")
    assert lines[0] == "train: 33 problems:"
    assert len(lines) == 22
    assert lines[-1] == "  and 13 more"
    where = [line.split("line ")[1].split(",")[0] for line in lines[1:-1]]
    assert where == [str(n) for n in (1, 1, *range(2, 20))]


def test_problems_of_all_files_are_shown_together(folder):
    files = [write(folder / "a.jsonl", meme(1, label=3)), write(folder / "b.jsonl", b"?")]
    files += [folder / "c.jsonl", folder / "d.jsonl"]
    files[3].write_text("{}", encoding="utf-16")
    message = message_of(read_memes, files, folder, split="val", labels=True)
    for words in ("a.jsonl, line 1, label", "b.jsonl, line 1, not", "c.jsonl cannot be read"):
        assert words in message
    assert "d.jsonl is UTF-16" in message


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf\n"])
def test_a_split_without_memes(folder, content):
    (folder / "train.jsonl").write_bytes(content)
    files = [folder / "train.jsonl"]
    message = message_of(read_memes, files, folder, split="train", labels=True)
    assert message == f"train: no memes in {folder / 'train.jsonl'}."


def test_dev_seen_and_dev_unseen_make_640(folder, caplog):
    write_images(folder, range(1, 641))
    seen = write(folder / "dev_seen.jsonl", *(meme(n) for n in range(1, 501)))
    # the same meme, written in another way
    again = [meme(n, id=n) for n in range(101, 501)]
    unseen = write(folder / "dev_unseen.jsonl", *again, *(meme(n) for n in range(501, 641)))
    caplog.set_level(logging.INFO)
    table = read_memes([seen, unseen], folder, split="val", labels=True)
    assert table["number"].tolist() == list(range(1, 641))
    assert table["file"].iloc[400] == str(seen)
    assert table.index.tolist() == list(range(640))
    assert "val: 640 memes; 400 more lines" in caplog.text


@pytest.mark.parametrize("field, value", [("text", "?"), ("label", 0), ("img", "img/00009.png")])
def test_files_that_contradict_each_other(folder, field, value):
    one = write(folder / "one.jsonl", meme(1), meme(2))
    two = write(folder / "two.jsonl", meme(3), meme(1, **{field: value}))
    message = message_of(read_memes, [one, two], folder, split="val", labels=True)
    assert f"{two}, line 2, id = '00001': another {field} than in {one}, line 1" in message


def test_a_damaged_line_is_not_also_a_contradiction(folder):
    one = write(folder / "one.jsonl", meme(1, label="1"))
    two = write(folder / "two.jsonl", meme(1))
    message = message_of(read_memes, [one, two], folder, split="val", labels=True)
    assert message.startswith("val: 1 problem:")


def test_memes_without_text_are_a_warning(read, caplog):
    assert len(read(meme(1, text=" "), meme(2), meme(3, text=""))) == 3
    assert "train: memes without text: 2 (ids 00001, 00003)" in caplog.text
    assert caplog.records[0].levelname == "WARNING"
    assert caplog.records[0].name == "mmf_hm_concat"


def layout_of(folder, **splits):
    files = {name: (write(folder / f"{name}.jsonl", *memes),) for name, memes in splits.items()}
    return Layout(files, folder)


def test_splits_of_a_layout_become_tables(folder, caplog):
    splits = {"train": [meme(1), meme(2)], "val": [meme(3)], "test": [meme(4, label=...)]}
    tables = read_splits(layout_of(folder, **splits))
    assert {split: table["number"].tolist() for split, table in tables.items()} == {
        "train": [1, 2],
        "val": [3],
        "test": [4],
    }
    assert caplog.text == ""


def test_problems_of_all_splits_are_shown_together(folder):
    layout = layout_of(folder, train=[b"?"], val=[meme(3, label=...)], test=[meme(4)])
    message = message_of(read_splits, layout)
    assert "train: 1 problem" in message and "val.jsonl, line 1, label is missing" in message
    assert list(read_splits(layout, splits=["test"])) == ["test"]
    assert len(read_splits(layout, labels={}, splits=["val", "test"])) == 2


def test_the_same_id_in_two_splits_is_a_warning(folder, caplog):
    read_splits(layout_of(folder, train=[meme(1), meme(2)], val=[meme(3)], test=[meme(2, id=2)]))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "memes in train and in test too: 1 (ids 00002)" in record.message


def with_duplicates(folder):
    """1, 2, 3 are one meme; 4, 5 are one with both labels; 6, 7, 8 differ in image or text."""
    for number, content in {2: 1, 3: 1, 5: 4, 7: 6}.items():
        same = (folder / "img" / f"{content:05}.png").read_bytes()
        (folder / "img" / f"{number:05}.png").write_bytes(same)
    alike = [meme(n, text="one", label=0) for n in (1, 2, 3)]
    conflict = [meme(n, text="two", label=n % 2) for n in (4, 5)]
    others = [meme(6, text="x"), meme(7, text="y"), meme(8, text="x"), meme(9, img="img/00006.png")]
    return [*alike[:2], *conflict, *others, alike[2]]


def test_duplicates_are_a_warning(folder, caplog):
    read_splits(layout_of(folder, train=with_duplicates(folder)))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "train: 5 memes are 2 by image and text (ids 00001, 00002, 00004" in record.message
    assert "2 of them with different labels (ids 00004, 00005)" in record.message


def test_drop_duplicates(folder, read, caplog):
    caplog.set_level(logging.INFO)
    table, count = drop_duplicates(read(*with_duplicates(folder)))
    assert table["number"].tolist() == [1, 6, 7, 8, 9]
    assert table.index.tolist() == [0, 1, 2, 3, 4]
    assert count == 4
    assert "4 of 9 memes taken out" in caplog.text
    again, count = drop_duplicates(table)
    pd.testing.assert_frame_equal(again, table)
    assert count == 0

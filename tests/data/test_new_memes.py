"""Memes without labels, from a folder, a .jsonl or a .csv: the same table, and what is wrong."""

import json
import logging

import pytest
from PIL import Image

from mmf_hm_concat.data.new_memes import read_new_memes
from mmf_hm_concat.errors import InputError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "memes"
    (folder / "more").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "more/c.webp"):
        Image.new("RGB", (4, 4)).save(folder / name)
    (folder / "b.txt").write_text("\ufeff two\nlines \n", "utf-8")
    (folder / "notes.md").write_text("no meme")
    return folder


def rows(table):
    return list(table[["id", "path", "text"]].itertuples(index=False, name=None))


def test_a_folder_with_texts_beside_its_images(folder, tmp_path, caplog):
    caplog.set_level(logging.INFO, "mmf_hm_concat")
    found = rows(read_new_memes(folder, tmp_path / "cache"))
    texts = {"a.JPG": "", "b.png": "two\nlines", "more/c.webp": ""}
    assert found == [(name, str(folder / name), text) for name, text in texts.items()]
    assert "2 of 3 images have no text beside them" in caplog.text


def test_a_csv_with_and_without_ids(folder, tmp_path):
    (folder / "m.csv").write_text('text,image,id\n"a, b",b.png,x7\nNA,more/c.webp,\n', "utf-8-sig")
    found = rows(read_new_memes(folder / "m.csv", tmp_path))
    assert found == [("x7", f"{folder}/b.png", "a, b"), ("", f"{folder}/more/c.webp", "NA")]
    (folder / "m.csv").write_text(f"image,text\n{folder}/b.png,hello\n")
    found = rows(read_new_memes(folder / "m.csv", tmp_path))
    assert found == [(f"{folder}/b.png", f"{folder}/b.png", "hello")]


def test_a_jsonl_of_any_name(folder, tmp_path):
    file = folder / "a+b or c.jsonl"
    meme = {"id": "007", "img": "more/c.webp", "text": "hi", "label": 1}
    file.write_text(json.dumps(meme))
    assert rows(read_new_memes(file, tmp_path)) == [("7", f"{folder}/more/c.webp", "hi")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: no column image and no text"),
        ("img,text\nb.png,x\n", "line 1: no column image; there is 'img,text'"),
        ("image;text\nb.png;x\n", "line 1: no column image and no text"),
        ("image,text\n", "no memes in it"),
        ("image,text\nb.png,x\nz.png,y\n", "line 3, image = 'z.png': no file"),
        ("image,text\n\nb.png,x,y\n", "line 3: 3 fields instead of 2"),
        ("image,text\n,x\n", "line 2, image = '': no file"),
        ('image,text\nb.png,"x\n', "cannot be read as a CSV in UTF-8"),
        ("image,text\nb.png,\xff\n", "cannot be read as a CSV in UTF-8"),
    ],
)
def test_a_csv_that_is_wrong_is_named_by_line_and_column(folder, tmp_path, content, message):
    (folder / "m.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError) as error:
        read_new_memes(folder / "m.csv", tmp_path)
    assert str(error.value).startswith(f"{folder / 'm.csv'}") and message in str(error.value)


def test_places_without_memes(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (folder / "b.txt").write_bytes(b"\xff")
    for place, message in (
        (tmp_path / "empty", "no images in it"),
        (tmp_path / "none.csv", "cannot be read as a CSV"),
        (tmp_path / "none.jsonl", "no such file"),
        (tmp_path / "none", "does not exist: give a folder of images, a .jsonl or a .csv"),
        (folder / "b.png", "is none of these"),
        (folder, "b.txt: cannot be read as text in UTF-8"),
    ):
        with pytest.raises(InputError, match=message):
            read_new_memes(place, tmp_path / "cache")
    (folder / "test.jsonl").touch()
    with pytest.raises(InputError, match=r"name one, as .*test\.jsonl"):
        read_new_memes(folder, tmp_path / "cache")

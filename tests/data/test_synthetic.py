"""The generated sample: its layout, that one modality tells nothing, and its contact sheet."""

import csv
import hashlib
import json
from collections import Counter

import pytest
from PIL import Image

from mmf_hm_concat.cli import main
from mmf_hm_concat.data.synthetic import WORDS, make_sample
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.reports.contact_sheet import contact_sheet

SPLITS = ("train", "dev", "test")
CHEERFUL = set(" ".join(WORDS["cheerful"].values()).split())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("sample") / "new" / "sample"
    make_sample(out, memes=200)
    return out


def read(out):
    """Split -> its rows, those of test with their true label."""
    rows = {
        split: [json.loads(line) for line in (out / f"{split}.jsonl").open()] for split in SPLITS
    }
    with (out / "test_truth.csv").open() as truth:
        for row, true in zip(rows["test"], csv.DictReader(truth), strict=True):
            assert row["id"] == true["id"] and "label" not in row
            row["label"] = int(true["label"])
    return rows


def mood(row):
    words = set(row["text"].replace(",", "").replace(":", "").split())
    return "cheerful" if words & CHEERFUL else "gloomy"


def scene(out, row):
    """By brightness, which an image of any mode has."""
    with Image.open(out / row["img"]) as image:
        return "sunny" if image.convert("L").resize((1, 1)).getpixel((0, 0)) > 110 else "rainy"


def content(out):
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file()
    }


def test_layout_is_the_competitions(made):
    rows = read(made)
    assert {split: len(rows[split]) for split in SPLITS} == {"train": 140, "dev": 24, "test": 36}
    every = [row for split in SPLITS for row in rows[split]]
    assert len({row["id"] for row in every}) == 200
    assert {f"img/{row['id']}.png" for row in every} == {row["img"] for row in every}
    assert {row["img"] for row in every} == {f"img/{path.name}" for path in made.glob("img/*")}
    assert all(len(row["id"]) == 5 and row["id"].isdigit() for row in every)
    assert any(row["id"].startswith("0") for row in every)
    assert all(set(row) == {"id", "img", "label", "text"} for row in every)
    assert all(5 <= len(row["text"].split()) <= 12 for row in every)
    assert all(row["text"] == row["text"].lower() for row in every)


def test_the_label_is_the_contradiction_and_one_modality_tells_nothing(made):
    for split, rows in read(made).items():
        cells = Counter((scene(made, row), mood(row), row["label"]) for row in rows)
        agree = {cells["sunny", "cheerful", 0], cells["rainy", "gloomy", 0]}
        contradict = {cells["sunny", "gloomy", 1], cells["rainy", "cheerful", 1]}
        assert len(cells) == 4 and len(agree) == len(contradict) == 1
        # So P(hateful | scene) = P(hateful | mood) = P(hateful).
        hateful = sum(row["label"] for row in rows) / len(rows)
        assert abs(hateful - (0.36 if split == "train" else 0.5)) < 0.01


def test_benign_confounders(made):
    for split, rows in read(made).items():
        for key in (
            lambda row: row["text"],
            lambda row: hashlib.sha256((made / row["img"]).read_bytes()).digest(),
        ):
            labels = {}
            for row in rows:
                labels.setdefault(key(row), []).append(row["label"])
            pairs = [sorted(group) for group in labels.values() if len(group) > 1]
            assert pairs and all(sum(pair) * 2 == len(pair) for pair in pairs)
            if split != "train":  # no model of one modality is better than chance
                assert len(pairs) == len(labels)


def test_sizes_and_modes_vary(made):
    images = [Image.open(path) for path in made.glob("img/*.png")]
    assert {image.mode for image in images} == {"RGB", "RGBA", "P", "L"}
    assert len({image.size for image in images}) > 20
    assert all(160 <= side <= 320 for image in images for side in image.size)


def test_same_seed_same_bytes(made, tmp_path):
    make_sample(tmp_path, memes=200)  # an empty folder will do
    assert content(tmp_path) == content(made)
    make_sample(tmp_path / "another", memes=40, seed=1)
    make_sample(tmp_path / "seed", memes=40, seed=2)
    one, other = read(tmp_path / "another"), read(tmp_path / "seed")
    assert {row["text"] for row in one["train"]} != {row["text"] for row in other["train"]}
    assert {row["id"] for row in one["train"]} != {row["id"] for row in other["train"]}


def test_annotations_are_the_same_on_every_python(tmp_path):
    make_sample(tmp_path / "sample", memes=40)
    annotations = b"".join((tmp_path / f"sample/{split}.jsonl").read_bytes() for split in SPLITS)
    assert hashlib.sha256(annotations).hexdigest()[:16] == "56540aaa2c2f438c"


def test_a_sample_that_is_there_is_left_alone(made, capsys):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    make_sample(made, memes=200)
    assert "already holds this sample" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    with pytest.raises(InputError, match="is not this sample"):
        make_sample(made, memes=100)


def test_what_cannot_be_made_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path, tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(InputError, match=r"is not this sample|cannot be written"):
            make_sample(out, memes=40)
    for memes in (39, 20_001):
        with pytest.raises(InputError, match="40 to 20000 memes"):
            make_sample(tmp_path / "out", memes=memes)
    monkeypatch.setattr(Image.Image, "save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_sample(tmp_path / "out", memes=40)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_contact_sheet(made, tmp_path):
    rows = [
        (row["id"], made / row["img"], row["text"], probability, label)
        for row, probability, label in zip(
            read(made)["train"], (0.93, 0.2, 0.5, None, 0.1), (1, 1, 0, 1, None), strict=False
        )
    ]
    rows.append(("7", rows[0][1], "w" * 400 + " and a long text" * 40, None, None))
    contact_sheet(rows, tmp_path / "sheet.png", columns=4)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > sheet.height
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 24)}
    assert {(0x1A, 0x7F, 0x37), (0xC0, 0x20, 0x2A)} <= colours  # a tick and a cross


def test_contact_sheet_of_what_is_no_image(made, tmp_path):
    for rows, message in (
        ([], "no memes"),
        ([("7", made / "train.jsonl", "", None, None)], r"train\.jsonl"),
    ):
        with pytest.raises(InputError, match=message):
            contact_sheet(rows, tmp_path / "sheet.png")
    with pytest.raises(InputError, match="cannot be written"):
        contact_sheet([("7", next(made.glob("img/*")), "", 0.5, 1)], made / "train.jsonl" / "x.png")


def test_a_number_of_memes_that_does_not_come_out_is_told(tmp_path, capsys):
    assert main(["sample", str(tmp_path / "out"), "--memes", "60"]) == 0
    out = capsys.readouterr().out
    assert "Made 64 memes" in out and "60 do not go into" in out
    assert main(["sample", str(tmp_path / "even"), "--memes", "200"]) == 0
    assert capsys.readouterr().out == f"Made 200 memes in {tmp_path / 'even'}.\n"


def test_the_command_that_shows_a_submission(made, tmp_path, capsys):
    csv, png = tmp_path / "submission.csv", tmp_path / "memes.png"
    ids = [int(row["id"]) for row in read(made)["test"]]
    csv.write_text("id,proba,label\n" + "".join(f"{i},0.9,1\n" for i in ids))
    command = ["show", str(csv), str(png), "--data", str(made), "--memes", "3"]
    assert main([*command, "--truth", str(made / "test_truth.csv")]) == 0
    assert "Drew 3 memes" in capsys.readouterr().out
    with Image.open(png) as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 24)}
    assert colours & {(0x1A, 0x7F, 0x37), (0xC0, 0x20, 0x2A)}  # the truth was used
    assert main([*command[:-1], "1"]) == 0
    assert "Drew 1 meme into" in capsys.readouterr().out
    csv.write_text("id,proba,label\n1,0.9,1\n")
    assert main(command) == 1
    assert "missing" in capsys.readouterr().err

"""`hm_concat check-data`: the counts, and everything that is wrong, in one go."""

import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from mmf_hm_concat.cli import main
from mmf_hm_concat.reports.data_check import check_data


@pytest.fixture
def folder(tmp_path):
    """Phase 2's files with 4, 3, 3 and 2 memes; one of the 3 is in both dev files."""
    folder = tmp_path / "data"
    (folder / "img").mkdir(parents=True)
    numbers = {"train": (1, 2, 3, 4), "dev_seen": (5, 6, 7), "dev_unseen": (7, 8, 9)}
    for split, memes in {**numbers, "test_unseen": (10, 11)}.items():
        write(folder, split, *(meme(number, labelled=split in numbers) for number in memes))
    for number in range(1, 12):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"img/{number:05}.png")
    return folder


def meme(number, labelled=True):
    fields = {"id": number, "img": f"img/{number:05}.png", "text": f"text {number}"}
    return fields | ({"label": int(number % 4 == 0)} if labelled else {})


def write(folder, split, *memes):
    (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, memes)))


@pytest.fixture
def check(tmp_path):
    def check(data_dir, *splits, **more):
        found = check_data(data_dir, splits, cache_dir=tmp_path / "cache", **more)
        return not found.problems, str(found)

    return check


def row(text, split):
    return next(line.split() for line in text.split("\n") if line.split()[:1] == [split])


def test_the_table_of_counts(folder, check):
    good, text = check(folder)
    assert good
    assert "train.jsonl" in row(text, "train")
    assert row(text, "train")[-5:] == ["4", "1", "3", "0", "25.0%"]
    assert " ".join(row(text, "val")[1:]) == "dev_seen.jsonl + dev_unseen.jsonl 5 1 4 0 20.0%"
    assert row(text, "test")[-5:] == ["2", "0", "0", "2", "-"]
    assert "warning" not in text
    assert "can be used" in text


def test_broken_images_are_all_listed(folder, check):
    (folder / "img/00002.png").write_bytes(b"not an image")
    whole = (folder / "img/00010.png").read_bytes()
    (folder / "img/00010.png").write_bytes(whole[: len(whole) // 2])
    good, text = check(folder)
    assert not good
    assert "00002.png" in text
    assert "00010.png" in text
    assert "00003.png" not in text
    assert "cannot be used" in text


def test_problems_of_all_splits_and_the_images_of_the_good_ones(folder, check):
    write(folder, "train", meme(1), meme(1))
    write(folder, "dev_seen", meme(5) | {"label": 3})
    (folder / "img/00011.png").write_bytes(b"")
    good, text = check(folder)
    assert not good
    assert "train.jsonl, line 2, id" in text
    assert "dev_seen.jsonl, line 1, label" in text
    assert "00011.png" in text
    assert row(text, "train")[-1] == "-"


def test_warnings_do_not_make_it_unusable(folder, check):
    write(folder, "train", meme(1), meme(4), meme(10) | {"text": ""})
    good, text = check(folder)
    assert good
    assert "warning: train: memes without text: 1" in text
    assert "warning: memes in train and in test too: 1 (ids 10)" in text


@pytest.mark.parametrize("missing", ["train", "dev"])
def test_it_fails_where_training_would_for_want_of_a_split(folder, check, missing):
    for file in folder.glob(f"{missing}*.jsonl"):
        file.unlink()
    good, text = check(folder)
    assert not good
    split = "val" if missing == "dev" else missing
    assert f"\n{split}: no files for it" in text and "Training needs them" in text


@pytest.mark.parametrize("label, name", [(0, "benign"), (1, "hateful")])
def test_it_fails_where_training_would_for_want_of_a_class(folder, check, label, name):
    write(folder, "train", *(meme(number) | {"label": label} for number in (1, 2)))
    good, text = check(folder)
    assert not good
    assert f"train: all memes are {name}. Training needs both classes." in text


def test_files_that_no_split_is_made_of_are_checked_too(folder, check):
    write(folder, "test_seen", meme(10), meme(11, labelled=False))
    write(folder, "dev", meme(5))
    write(folder, "notes", {"any": "thing"})
    good, text = check(folder)
    assert good
    assert row(text, "test_seen.jsonl")[1:] == ["test_seen.jsonl", "2", "0", "1", "1", "0.0%"]
    assert row(text, "dev.jsonl")[2] == "1"
    assert "warning" not in text and "notes" not in text
    (folder / "img/00012.png").write_bytes(b"not an image")
    write(folder, "test_seen", meme(12))
    write(folder, "dev", meme(5, labelled=False))
    good, text = check(folder)
    assert not good
    assert "00012.png" in text
    assert "dev.jsonl, line 1, label is missing" in text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize(
    "kind", ["a folder", "a named pipe", "a link in a circle", "a link to nothing"]
)
def test_an_annotation_file_that_is_none_is_named_for_what_it_is(folder, check, kind):
    file = folder / "test_unseen.jsonl"
    file.unlink()
    if kind == "a folder":
        file.mkdir()
    elif kind == "a named pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(file if kind == "a link in a circle" else "nowhere")
    good, text = check(folder)
    assert not good
    assert f"{file} is {kind}, not a file with memes" in text


def test_the_test_split_may_be_absent_but_not_all(folder, check):
    (folder / "test_unseen.jsonl").unlink()
    good, text = check(folder)
    assert good
    assert "warning: test: no files for it" in text
    for file in folder.glob("*.jsonl"):
        file.unlink()
    good, text = check(folder)
    assert not good
    assert "no files for train, val, test" in text


def test_no_folder(tmp_path, check):
    good, text = check(tmp_path / "nowhere")
    assert not good
    assert "does not exist" in text


def test_a_zip_and_one_file_of_it(tmp_path, folder, check):
    with zipfile.ZipFile(tmp_path / "hm.zip", "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(folder))
    (folder / "train.jsonl").unlink()
    good, text = check(tmp_path / "hm.zip", "dev_unseen")
    assert good
    assert row(text, "dev_unseen")[1:3] == ["dev_unseen.jsonl", "3"]
    assert "train" not in text


def test_splits_that_are_named_are_checked_alone_and_have_to_be_there(folder, check):
    (folder / "train.jsonl").unlink()
    (folder / "img/00001.png").unlink()
    good, text = check(folder, "test", "dev_seen")
    assert good
    assert row(text, "test")[1:3] == ["test_unseen.jsonl", "2"]
    assert row(text, "dev_seen")[1:3] == ["dev_seen.jsonl", "3"]
    good, text = check(folder, "test", "dev_sen")
    assert not good
    assert "no files for dev_sen" in text and "There are dev_seen.jsonl, " in text


def test_a_folder_of_images_that_is_missing_is_one_cause(folder, check):
    (folder / "img").rename(folder / "pictures")
    good, text = check(folder)
    assert not good
    cause = f"None of the images is there: put them into {folder}/img."
    assert text.count(cause) == 1 and ".png" not in text
    write(folder, "train", meme(1), meme(2) | {"label": 7})
    good, text = check(folder)
    assert "train.jsonl, line 2, label = 7: write 0 (benign) or 1 (hateful)" in text
    assert "train: 1 problem:" in text and ".png" not in text


def test_one_mistyped_folder_is_named_where_it_stands(folder, check):
    write(folder, "train", meme(1), meme(4) | {"img": "imgs/00004.png"})
    assert "train.jsonl, line 2, img = 'imgs/00004.png': is not in" in check(folder)[1]


def test_the_command_gives_all_of_it_to_programs(folder, capsys):
    assert main(["check-data", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    files = [f"{folder}/{name}.jsonl" for name in ("dev_seen", "dev_unseen")]
    counts = {"memes": 5, "hateful": 1, "benign": 4, "unlabelled": 0}
    assert found["splits"]["val"] == {"files": files, **counts}
    assert found["can_be_used"] and found["problems"] == [] and found["images"] == str(folder)
    (folder / "img/00002.png").write_bytes(b"not an image")
    assert main(["check-data", str(folder), "--json", "--split", "train"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["can_be_used"] and "00002.png" in found["problems"][0]
    assert [*found["splits"]] == ["train"]


def test_features_files_are_checked_against_the_splits(folder, check, tmp_path):
    def vectors(name, ids):
        np.savez(tmp_path / name, ids=ids, features=np.ones((len(ids), 6), np.float32))
        return tmp_path / name

    whole, test = vectors("whole.npz", [*range(1, 13)]), vectors("test.npz", [10, 11])
    good, said = check(folder, features=[whole, test])
    assert good and f"{whole}: 12 vectors of 6 numbers" in said
    assert f"{whole}: 1 vector of no meme here" in said
    assert f"warning: {test}: no vectors for the train split." in said
    partial, double = vectors("partial.npz", [*range(3, 12)]), vectors("double.npz", [1, 1])
    good, said = check(folder, features=[partial, double])
    assert not good
    assert f"{partial} has no vector for 2 of the 4 memes of the train split (id 1, 2): add" in said
    assert f"{double}: id 1 is there more than once, in rows 1 and 2" in said

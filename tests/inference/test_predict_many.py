"""`hm_concat predict RUN MEMES --out OUT.csv`: a .jsonl, a .csv and a folder, without MMF."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import BIN

from mmf_hm_concat.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    monkeypatch.setenv("MMF_CACHE_DIR", str(cache))


def predict(run, memes, out, *more):
    assert main(["predict", str(run), str(memes), "--out", str(out), *more]) == 0
    return out.read_text()


def test_a_test_file_gives_the_bytes_of_mmf_predict(trained, sample, tmp_path):
    submission = (trained[0] / "submission.csv").read_text()
    assert predict(trained[0], sample / "test.jsonl", tmp_path / "out.csv") == submission


def test_a_csv_and_a_folder_give_the_same_numbers(trained, sample, tmp_path, capsys):
    submission = (trained[0] / "submission.csv").read_text().splitlines()
    memes = [json.loads(line) for line in (sample / "test.jsonl").open()]
    folder, table = tmp_path / "folder", ["image,text"]
    folder.mkdir()
    for place, meme in enumerate(memes):
        shutil.copy(sample / meme["img"], folder / f"{place:02}.png")
        (folder / f"{place:02}.txt").write_text(meme["text"])
        table.append(f'{place:02}.png,"{meme["text"]}"')
    (folder / "memes.csv").write_text("\n".join(table))
    expected = ["id,proba,label"]
    for place, row in enumerate(submission[1:]):
        expected.append(f"{place:02}.png,{row.split(',', 1)[1]}")
    assert predict(trained[0], folder, tmp_path / "a.csv").splitlines() == expected
    capsys.readouterr()
    found = predict(trained[0], folder / "memes.csv", tmp_path / "b.csv", "--json")
    assert found.splitlines() == expected
    said = json.loads(capsys.readouterr().out)
    assert (said["path"], said["rows"]) == (str(tmp_path / "b.csv"), len(memes))
    assert main(["predict", *[str(trained[0])] * 2, str(folder), "--out", f"{tmp_path}/c.csv"]) == 0
    assert (tmp_path / "c.csv").read_text().splitlines() == expected


def test_another_threshold(trained, sample, tmp_path):
    text = predict(trained[0], sample / "test.jsonl", tmp_path / "o.csv", "--threshold", "1e-9")
    assert {line[-1] for line in text.splitlines()[1:]} == {"1"}


def test_one_meme_for_programs(trained, sample, capsys):
    meme = json.loads((sample / "test.jsonl").open().readline())
    command = ["predict", str(trained[0]), str(sample / meme["img"]), meme["text"], "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["label"] == (found["proba"] >= 0.5)


def test_nothing_is_written_where_something_is_wrong(trained, sample, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"not an image")
    out, run = tmp_path / "out.csv", str(trained[0])
    for command, message in (
        ([run, str(broken), "--out", str(out)], "a.png: not an image"),
        ([run, str(tmp_path / "nowhere"), "--out", str(out)], "does not exist"),
        ([run, str(broken), "--out", f"{broken}/a.png/out.csv"], "cannot be written"),
        ([str(broken), "--out", str(out)], "Give RUN MEMES --out"),
        ([run, "memes.csv"], "Give RUN IMAGE TEXT"),
        ([run, run, "memes.jsonl"], "RUN MEMES --out OUT.csv"),
        ([run, str(broken), "--out", str(out), "--threshold", "2"], "--threshold 2.0: give"),
        ([run, str(sample / "test.jsonl"), "--out", str(sample / "test.jsonl")], "overwritten"),
    ):
        assert main(["predict", *command]) == 1
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_it_needs_no_mmf(trained, sample, tmp_path):
    command = ["predict", trained[0], sample / "test.jsonl", "--out", tmp_path / "out.csv"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", BIN / "hm_concat", *command],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "torch" in imported
    assert not imported & {"mmf", "sklearn", "scipy", "transformers", "omegaconf"}

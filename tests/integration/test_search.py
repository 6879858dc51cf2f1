"""`hm_concat repeat --optuna`: one study by several processes, stopped and gone on with."""

import signal
import sqlite3
import subprocess

import pytest
from conftest import BIN, ROOT, TINY

from mmf_hm_concat import cli

pytestmark = pytest.mark.slow

SPACE = ["model_config.concat_vl.dropout=0.1..0.5", "optimizer.params.lr=1e-5..1e-3"]


@pytest.fixture(scope="module")
def arguments(cache, sample):
    def make(save_dir, trials, *more):
        options = [f"dataset_config.hm_competition.data_dir={sample}", *TINY]
        search = ["repeat", "concat/sample", *options, f"env.save_dir={save_dir}"]
        search += ["training.max_epochs=1", *more, "--optuna", str(trials), "--grid", *SPACE]
        return search

    return make


def start(arguments):
    return subprocess.Popen(
        [BIN / "hm_concat", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def trials_of(folder):
    with sqlite3.connect(folder / "study.db") as study:
        return study.execute("select state from trials order by number").fetchall()


def test_two_processes_share_a_study_and_a_stopped_trial_is_tried_again(arguments, tmp_path):
    stopped = start(arguments(tmp_path, 2))
    for line in stopped.stdout:
        if "epoch 1/" in line:
            stopped.send_signal(signal.SIGTERM)
            break
    said = stopped.communicate(timeout=120)[0]
    assert stopped.returncode == 130 and "The same command goes on from here." in said
    assert trials_of(tmp_path) == [("FAIL",), ("WAITING",)]
    both = [start(arguments(tmp_path, 3)) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert trials_of(tmp_path) == [("FAIL",), *[("COMPLETE",)] * 3]
    # The second try goes on in the folder of the first.
    folders = sorted(path.name for path in tmp_path.glob("trial-*"))
    assert folders == ["trial-0000", "trial-0002", "trial-0003"]
    assert any("3 trials finished, 0 failed." in each for each in said)
    assert all("judge it by a split that it was not chosen on" in each for each in said)
    other = start(arguments(tmp_path, 4, "training.batch_size=8"))
    said = other.communicate(timeout=120)[0]
    assert other.returncode == 1
    assert "is a study of something else: config.training.batch_size 16 (now 8)" in said


def test_what_cannot_be_searched_is_refused(arguments, tmp_path, monkeypatch, capsys):
    def failed(*command):
        assert cli.main(["repeat", "concat/sample", *command]) == 1
        return capsys.readouterr().err

    assert "--grid key=a,b or key=low..high" in failed("--optuna", "3")
    assert "give the lower number first" in failed("--optuna", "3", "--grid", "a=3..1")
    assert "--optuna 0: give 1 or more" in failed("--optuna", "0", "--grid", "a=1..3")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install -r requirements/search.txt" in failed("--optuna", "3", "--grid", "a=1..3")

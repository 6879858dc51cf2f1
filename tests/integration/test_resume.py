"""A run that was interrupted and resumed ends with the same bits as one that never was."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
import torch
from conftest import BIN, ROOT, TINY

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training import checkpoints, run_folder
from mmf_hm_concat.training.metrics_log import METRICS, read_metrics

pytestmark = pytest.mark.slow

# Augmentation draws random numbers: a resumed run must draw the same ones.
SAVE_OFTEN = [
    "training.checkpoint_interval=2",
    "training.update_frequency=2",
    "training.batch_size=8",
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory, mmf):
    folder = tmp_path_factory.mktemp("reference")
    mmf(folder, *SAVE_OFTEN)
    return folder


def assert_same_run(one, other):
    for name in (checkpoints.BEST, checkpoints.CURRENT):
        a, b = (checkpoints.load_checkpoint(folder / name) for folder in (one, other))
        assert a["num_updates"] == b["num_updates"] and a["early_stop"] == b["early_stop"]
        assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
        moments = zip(
            a["optimizer"]["state"].values(), b["optimizer"]["state"].values(), strict=True
        )
        assert all(torch.equal(m[key], n[key]) for m, n in moments for key in ("exp_avg", "step"))
    found = [read_metrics(folder / METRICS) for folder in (one, other)]
    same = ("epoch", "update", "train_loss", "val", "lr", "best")
    assert len(found[0]) == a["current_epoch"]
    assert [[r[k] for k in same] for r in found[0]] == [[r[k] for k in same] for r in found[1]]


@pytest.mark.parametrize("crash_at", [1, 4, 6])
def test_a_crash_between_updates_changes_nothing(reference, mmf, tmp_path, monkeypatch, crash_at):
    from mmf_hm_concat.mmf_plugin.trainer import ConcatTrainer

    update = ConcatTrainer._update

    def crash(self, *batches):
        if self.position.num_updates == crash_at:
            raise RuntimeError("power cut")
        update(self, *batches)

    monkeypatch.setattr(ConcatTrainer, "_update", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        mmf(tmp_path, *SAVE_OFTEN)
    monkeypatch.undo()
    mmf(tmp_path, *SAVE_OFTEN, "checkpoint.resume=true")
    assert_same_run(reference, tmp_path)


def test_sigterm_saves_and_exits_with_its_code(reference, cache, sample, tmp_path):
    process = subprocess.Popen(
        [
            BIN / "mmf_run",
            "config=projects/concat/sample.yaml",
            f"dataset_config.hm_competition.data_dir={sample}",
            f"env.save_dir={tmp_path}",
            *TINY,
            *SAVE_OFTEN,
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / checkpoints.CURRENT).exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "checkpoint.resume=true" in error
    resumed = subprocess.run(
        [*process.args, "checkpoint.resume=true"], cwd=ROOT, capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(reference, tmp_path)


def test_a_torn_current_checkpoint_falls_back_to_the_best(reference, mmf, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    os.truncate(folder / checkpoints.CURRENT, 1000)
    leftover = folder / ".best.ckpt.0123abcd.tmp"  # of a kill while it was written
    leftover.touch()
    mmf(folder, *SAVE_OFTEN, "checkpoint.resume=true")
    assert "Going back to" in (folder / "train.log").read_text()
    assert_same_run(reference, folder)
    assert not leftover.exists()


@pytest.mark.parametrize("first", ["false", "true"])
def test_a_torn_best_checkpoint_does_not_stop_the_training(reference, mmf, tmp_path, first):
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    os.truncate(folder / checkpoints.BEST, 1000)
    resume = ("checkpoint.resume=true", f"checkpoint.resume_best={first}")
    mmf(folder, *SAVE_OFTEN, *resume, "training.max_epochs=3", "training.early_stop.patience=9")
    assert checkpoints.load_checkpoint(folder / checkpoints.BEST)["current_epoch"] == 3
    assert "best.ckpt: not a checkpoint" in (folder / "train.log").read_text()


def test_prediction_refuses_a_torn_best_checkpoint_and_names_the_option(reference, mmf, tmp_path):
    folder = tmp_path / "a run"
    shutil.copytree(reference, folder)
    os.truncate(folder / checkpoints.BEST, 1000)
    option = f"checkpoint.resume_file='{folder}/{checkpoints.CURRENT}'"
    with pytest.raises(InputError, match=re.escape(option)):
        mmf(folder, predict=True)
    assert not (folder / "submission.csv").exists()
    mmf(folder, option.replace("'", ""), predict=True)
    assert (folder / "submission.csv").is_file()


def test_a_best_checkpoint_of_another_run_is_set_aside(reference, mmf, tmp_path):
    folder, other = tmp_path / "run", tmp_path / "other"
    mmf(other, "training.max_updates=1")
    shutil.copytree(reference, folder)
    shutil.copy(other / checkpoints.BEST, folder)
    mmf(folder, *SAVE_OFTEN, "checkpoint.resume=true", "training.max_epochs=3")
    (moved,) = (folder / checkpoints.PREVIOUS).glob(f"*/{checkpoints.BEST}")
    old = checkpoints.load_checkpoint(moved)
    assert old["num_updates"] == 1
    assert "is of another run" in (folder / "train.log").read_text()


def test_other_settings_than_those_of_the_checkpoint_are_named(reference, mmf, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    mmf(folder, *SAVE_OFTEN, "checkpoint.resume=true", "optimizer.params.lr=0.1")
    mmf(folder, "dataset_config.hm_competition.image_size=40", predict=True)
    log = (folder / "train.log").read_text()
    assert "optimizer.params.lr 0.0005 (now 0.1)." in log
    assert "image_size 32 (now 40)" in log


def test_more_epochs_continue_a_finished_run(reference, mmf, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    mmf(folder, *SAVE_OFTEN, "checkpoint.resume=true", "training.max_epochs=3")
    state = checkpoints.load_checkpoint(folder / checkpoints.CURRENT)
    assert state["current_epoch"] == 3


def test_a_missing_resume_file_is_named(mmf, tmp_path):
    with pytest.raises(InputError, match=r"checkpoint.resume_file: .*nothing.ckpt does not exist"):
        mmf(tmp_path, f"checkpoint.resume_file={tmp_path}/nothing.ckpt")


def test_weights_of_another_run_start_a_new_one(reference, mmf, tmp_path):
    mmf(
        tmp_path,
        f"checkpoint.resume_file={reference}/best.ckpt",
        "checkpoint.reset.all=true",
        "training.max_updates=1",
    )
    old = checkpoints.load_checkpoint(reference / checkpoints.BEST)
    new = checkpoints.load_checkpoint(tmp_path / checkpoints.CURRENT)
    assert new["run"] != old["run"] and new["num_updates"] == 1


@pytest.mark.parametrize(
    ("reset", "updates", "steps"), [("counts", 1, 13), ("optimizer", 13, 1), ("none", 13, 13)]
)
def test_parts_of_a_checkpoint_can_be_left_out(reference, mmf, tmp_path, reset, updates, steps):
    mmf(
        tmp_path,
        *SAVE_OFTEN,
        f"checkpoint.resume_file={reference}/current.ckpt",  # after 12 updates
        *([f"checkpoint.reset.{reset}=true"] if reset != "none" else []),
        f"training.max_updates={updates}",
        "training.max_epochs=3",
    )
    state = checkpoints.load_checkpoint(tmp_path / checkpoints.CURRENT)
    assert state["num_updates"] == updates
    assert state["optimizer"]["state"][0]["step"] == steps


def test_one_branch_of_another_run_is_taken_over(reference, mmf, tmp_path):
    mmf(
        tmp_path,
        f"checkpoint.resume_file={reference}/best.ckpt",
        "checkpoint.resume_pretrained=true",
        "checkpoint.pretrained_state_mapping={network.language_module: network.language_module}",
        "training.max_updates=1",
        "optimizer.params.lr=0",
    )
    old = checkpoints.load_checkpoint(reference / checkpoints.BEST)["model"]
    new = checkpoints.load_checkpoint(tmp_path / checkpoints.BEST)["model"]
    weights = [key for key in old if key.endswith("weight")]
    taken = {key for key in weights if torch.equal(old[key], new[key])}
    assert taken == {key for key in weights if key.startswith("network.language_module")}


def test_the_best_checkpoint_instead_of_the_newest(reference, mmf, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    mmf(folder, *SAVE_OFTEN, "checkpoint.resume=true", "checkpoint.resume_best=true")
    assert f"Resuming {folder / checkpoints.BEST}" in (folder / "train.log").read_text()


def test_going_on_in_another_folder_leaves_a_best_checkpoint_there(reference, mmf, tmp_path):
    mmf(tmp_path, "training.seed=7", "training.max_updates=1", "checkpoint.keep_last=1")
    mmf(
        tmp_path,
        *SAVE_OFTEN,
        f"checkpoint.resume_file={reference}/current.ckpt",
        "training.max_epochs=3",
        "training.early_stop.patience=9",
        "checkpoint.keep_last=1",
    )
    best = checkpoints.load_checkpoint(tmp_path / checkpoints.BEST)
    assert best["current_epoch"] == 3
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["epoch_0003.ckpt"]
    (earlier,) = (tmp_path / checkpoints.PREVIOUS).iterdir()
    assert (earlier / "models" / "epoch_0001.ckpt").is_file()
    kept = tmp_path / "models" / "epoch_0003.ckpt"
    mmf(tmp_path, f"checkpoint.resume_file={kept}", predict=True)  # its text model is one above
    mmf(tmp_path, f"checkpoint.resume_file={kept}", "training.max_epochs=3")
    assert kept.is_file()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_memes(mmf, tmp_path):
    with pytest.raises(InputError, match=r"loss is (nan|inf) at update \d.* memes \[\d+, "):
        mmf(tmp_path, "optimizer.params.lr=1e30")


def test_max_updates_means_that_many(mmf, tmp_path):
    mmf(tmp_path, *SAVE_OFTEN, "training.max_updates=3")
    assert checkpoints.load_checkpoint(tmp_path / checkpoints.CURRENT)["num_updates"] == 3


def test_a_new_training_keeps_the_earlier_run_whole(trained, mmf, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    submission = (folder / "submission.csv").read_bytes()
    # One that dies early leaves it where it was.
    with pytest.raises(InputError, match="The loss is"):
        mmf(folder, "optimizer.params.lr=1e30")
    mmf(folder, predict=True)
    assert (folder / "submission.csv").read_bytes() == submission
    # Another text model, so that the earlier run's must not be overwritten.
    dim = "dataset_config.hm_competition.processors.text_processor.params.dim=8"
    width = "model_config.concat_vl.language.in_features=8"
    mmf(folder, "training.max_updates=1", "training.seed=3", dim, width)
    assert not (folder / "submission.csv").exists()
    (earlier,) = (folder / checkpoints.PREVIOUS).iterdir()
    old, new = (checkpoints.load_checkpoint(p / checkpoints.BEST) for p in (earlier, folder))
    assert old["run"] != new["run"] and new["num_updates"] == 1
    assert len(read_metrics(earlier / METRICS)) == 2 and len(read_metrics(folder / METRICS)) == 1
    (earlier / "submission.csv").unlink()
    mmf(earlier, predict=True)
    assert (earlier / "submission.csv").read_bytes() == submission


def test_a_folder_has_one_training_at_a_time(reference, mmf, tmp_path):
    held = run_folder.lock(tmp_path)
    with pytest.raises(InputError, match="another training is running in"):
        mmf(tmp_path)
    held.release()
    mmf(tmp_path, "training.max_updates=1")


def test_data_that_changed_before_a_resume_is_named(reference, sample, mmf, tmp_path):
    folder, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(reference, folder)
    shutil.copytree(sample, data)
    lines = (data / "train.jsonl").read_text().splitlines()
    row = json.loads(lines[1])
    lines[1] = json.dumps({**row, "label": 1 - row["label"]})
    (data / "train.jsonl").write_text("\n".join(lines[:-1]))
    place = f"dataset_config.hm_competition.data_dir={data}"
    mmf(folder, *SAVE_OFTEN, place, "checkpoint.resume=true", "training.max_epochs=3")
    log = (folder / "train.log").read_text()
    gone = json.loads((sample / "train.jsonl").read_text().splitlines()[-1])["id"]
    assert f"train split: 1 meme is gone ({int(gone)}); 1 meme is now labelled otherwise" in log
    assert "val split" not in log

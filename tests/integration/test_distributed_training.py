"""Training on several ranks: the same memes, batches and weights as on one, and clean ends.

Delays and failures are injected into one rank by a small program around MMF's own `run`.
"""

import os
import signal
import subprocess
import time

import pytest
import torch
from conftest import BIN, ROOT

pytestmark = pytest.mark.slow

TEXT_ONLY = [
    "config=projects/concat/text_only.yaml",
    "training.precision=fp32",
    "model_config.concat_vl.dropout=0",
    "optimizer.params.lr=1e-3",
    "training.max_epochs=1",
    "training.report=false",
]
RUN = """
import os, sys, time
from mmf_cli.run import run
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin import processors, trainer
from mmf_hm_concat.training import checkpoints
rank = int(os.environ.get("RANK", 0))
{injected}
run(sys.argv[1:])
"""
SLOW_WRITING = """
save = checkpoints.save_checkpoint
def save_late(state, path):
    time.sleep(3)
    save(state, path)
checkpoints.save_checkpoint = save_late
"""
# The first rank alone copies the text model into the run's folder.
CANNOT_COPY = """
def fail(folder, source, name):
    time.sleep(1)
    raise InputError("the disk is full")
processors.run_folder.stage = fail
"""
# The second rank alone cannot read what the first reads.
ONE_CANNOT_READ = """
load = checkpoints.load_checkpoint
def fail(path):
    if rank == 1:
        raise InputError("cannot be read here")
    return load(path)
checkpoints.load_checkpoint = fail
"""
SLOW_SECOND = """
step = trainer.TrainStep.update
def late(*given):
    time.sleep(0.2 * rank)
    return step(*given)
trainer.TrainStep.update = late
"""
DIES = """
step = trainer.TrainStep.update
def die(self, group, sizes, number):
    if rank == 1 and number == 2:
        os._exit(9)
    return step(self, group, sizes, number)
trainer.TrainStep.update = die
"""
# All ranks at once, after the checkpoint of the update before is written.
POWER_CUT = """
step = trainer.TrainStep.update
def crash(self, group, sizes, number):
    if number == 8:
        time.sleep(2)
        os._exit(9)
    return step(self, group, sizes, number)
trainer.TrainStep.update = crash
"""
SEEDS = """
load = trainer.ConcatTrainer.load_datasets
def note(self):
    with open(os.environ["SEEDS"], "a") as file:
        file.write(f"{self.config.training.seed} {trainer.torch.initial_seed()}\\n")
    load(self)
trainer.ConcatTrainer.load_datasets = note
"""


@pytest.fixture
def train(cache, sample, tmp_path):
    """`train(ranks, injected, "key=value", ...)`: torchrun, and the folder of the run."""

    def run(ranks, injected="", *options, name=None, **environment):
        script = tmp_path / "program.py"
        script.write_text(RUN.format(injected=injected))
        folder = tmp_path / (name or f"ranks{ranks}")
        done = subprocess.run(
            [
                *(BIN / "torchrun", "--standalone", "--nproc-per-node", str(ranks), script),
                *TEXT_ONLY,
                f"dataset_config.hm_competition.data_dir={sample}",
                f"env.save_dir={folder}",
                *options,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=180,
            env={**os.environ, **environment},
        )
        return done, folder

    return run


def messages(done):
    """What our code has said on stderr, without torchrun's own report."""
    return [line for line in done.stderr.splitlines() if "error: " in line]


def test_ranks_wait_for_the_last_checkpoint_to_be_written(train, tmp_path):
    done, folder = train(2, SLOW_WRITING, "run_type=train_val_test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Best checkpoint on test" in done.stdout
    assert (folder / "best.ckpt").is_file()


# 48 memes in batches of 5: two and three ranks share each unevenly, of the last one's three memes
# two of five ranks get none.
def test_any_number_of_ranks_trains_the_same_weights(train):
    states = {}
    for ranks in (1, 2, 3, 5):
        done, folder = train(ranks, "", "training.batch_size=5")
        assert done.returncode == 0, done.stdout + done.stderr
        states[ranks] = torch.load(folder / "current.ckpt", weights_only=True)
    for ranks, state in states.items():
        assert state["num_updates"] == states[1]["num_updates"], ranks
        assert state["position"]["epoch_memes"] == 48
        torch.testing.assert_close(
            state["position"]["epoch_loss"], states[1]["position"]["epoch_loss"], rtol=1e-5, atol=0
        )
        for key, value in states[1]["model"].items():
            torch.testing.assert_close(state["model"][key], value, rtol=0, atol=1e-5)


def test_class_weights_count_the_same_on_any_number_of_ranks(train):
    weights = "dataset_config.hm_competition.balance=weights"
    models = []
    for ranks in (1, 3):
        done, folder = train(ranks, "", weights, "training.batch_size=8")
        assert done.returncode == 0, done.stdout + done.stderr
        models.append(torch.load(folder / "current.ckpt", weights_only=True)["model"])
    for key, value in models[0].items():
        # Adam divides small gradients by their size, and with it their rounding: 1.05e-5 was seen.
        torch.testing.assert_close(models[1][key], value, rtol=1e-4, atol=1e-5)


def test_a_drawn_seed_is_the_same_on_all_ranks(train, tmp_path):
    done, _ = train(3, SEEDS, "training.seed=-1", SEEDS=str(tmp_path / "seeds"))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (tmp_path / "seeds").read_text().splitlines()
    assert len(lines) == 3 and len({*lines}) == 1
    seed, initial = lines[0].split()
    assert seed == initial != "-1"


def test_a_slow_rank_changes_nothing(train):
    (first, one), (second, other) = train(2, name="one"), train(2, SLOW_SECOND, name="other")
    assert first.returncode == second.returncode == 0, second.stderr
    models = [torch.load(run / "best.ckpt", weights_only=True)["model"] for run in (one, other)]
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


@pytest.mark.parametrize(
    "injected, message", [(CANNOT_COPY, "the disk is full"), (ONE_CANNOT_READ, "read here")]
)
def test_the_failure_of_one_rank_ends_all_with_its_message(train, injected, message):
    done, _ = train(2)
    assert done.returncode == 0, done.stderr
    done, _ = train(2, injected, "checkpoint.resume=true", "training.max_epochs=2")
    if injected is CANNOT_COPY:  # a resumed run has its text model already
        done, _ = train(2, injected, name="fresh")
    assert done.returncode == 1
    assert any(message in line for line in messages(done)), done.stderr
    assert "mmf_hm_concat" not in done.stderr  # no traceback


def test_resume_falls_back_to_the_best_checkpoint_on_all_ranks(train):
    done, folder = train(2)
    assert done.returncode == 0, done.stderr
    (folder / "current.ckpt").write_bytes(b"torn")
    done, _ = train(2, "", "checkpoint.resume=true", "training.max_epochs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert torch.load(folder / "current.ckpt", weights_only=True)["current_epoch"] == 2


def test_three_ranks_resume_to_the_same_bits(train):
    options = ["training.max_epochs=2", "training.batch_size=5", "training.checkpoint_interval=1"]
    done, whole = train(3, "", *options, name="whole")
    assert done.returncode == 0, done.stderr
    done, cut = train(3, POWER_CUT, *options, name="cut")
    assert done.returncode != 0
    done, cut = train(3, "", *options, "checkpoint.resume=true", name="cut")
    assert done.returncode == 0, done.stderr
    states = [torch.load(run / "current.ckpt", weights_only=True) for run in (whole, cut)]
    assert states[0]["num_updates"] == states[1]["num_updates"] == 10
    models = [state["model"] for state in states]
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def test_the_death_of_a_rank_ends_the_others_in_one_line(train):
    done, _ = train(2, DIES, "training.batch_size=4", "training.max_epochs=50")
    assert done.returncode != 0
    assert "mmf_hm_concat" not in done.stderr.replace("program.py", "")  # no traceback of ours


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"RANK": "0", "WORLD_SIZE": "abc"}, "must be whole numbers"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "did not find each other"),  # no MASTER_ADDR
    ],
)
def test_a_wrong_environment_is_one_message(cache, tmp_path, environment, message):
    done = subprocess.run(
        [BIN / "mmf_run", *TEXT_ONLY, f"env.save_dir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def test_every_rank_saves_when_the_job_is_stopped(cache, sample, tmp_path):
    folder = tmp_path / "run"
    command = [BIN / "torchrun", "--standalone", "--nproc-per-node", "2", BIN / "mmf_run"]
    process = subprocess.Popen(
        [
            *command,
            *TEXT_ONLY,
            f"dataset_config.hm_competition.data_dir={sample}",
            f"env.save_dir={folder}",
            "training.max_epochs=100000",
            "training.early_stop.enabled=false",
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (folder / "current.ckpt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert "Saved. Go on with checkpoint.resume=true." in error
    assert torch.load(folder / "current.ckpt", weights_only=True)["num_updates"] > 0

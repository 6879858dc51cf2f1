"""Runs of several processes: what MMF starts by itself for several GPUs, and how runs end."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, TINY

from mmf_hm_concat.training import checkpoints

pytestmark = pytest.mark.slow

# `mmf_run` and `mmf_predict` on a machine with two GPUs, as far as one without can show it: MMF
# starts a process for each, whose group is gloo's.
TWO_GPUS = """
import os, sys
os.environ["OMP_NUM_THREADS"] = "1"  # as torchrun: they share the cores
import torch
torch.cuda.device_count = lambda: 2
torch.Tensor.cuda = lambda self: self
from mmf_cli.run import run
if __name__ == "__main__":
    run([*sys.argv[1:], "distributed.backend=gloo"], predict="evaluation.predict=true" in sys.argv)
"""

# The second rank alone has something to complain about.
ONE_FAILS = """
import os, sys
from mmf_cli.run import run
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin import trainer
def predict(*given):
    raise InputError("the second alone")
if os.environ["RANK"] == "1":
    trainer.predict = predict
run([*sys.argv[1:], "evaluation.predict=true"], predict=True)
"""


@pytest.fixture
def two_gpus(tmp_path):
    script = tmp_path / "two_gpus.py"
    script.write_text(TWO_GPUS)
    return script


def link_run(folder, run):
    run.mkdir()
    for name in (checkpoints.BEST, checkpoints.TEXT_MODEL):
        (run / name).hardlink_to(folder / name)


def test_mmf_starts_a_process_for_each_gpu(trained, command, two_gpus, tmp_path):
    folder, *_ = trained
    link_run(folder, tmp_path / "run")
    done = command(f"python {two_gpus}", tmp_path / "run", "evaluation.predict=true")
    assert "2 processes" in done.stdout
    written = (tmp_path / "run" / "submission.csv").read_bytes()
    assert written == (folder / "submission.csv").read_bytes()


def test_its_processes_say_once_what_is_wrong(command, two_gpus, tmp_path):
    sync = "training.sync_batch_norm=true"
    done = command(f"python {two_gpus}", tmp_path / "run", sync, check=False)
    assert done.returncode == 1
    assert done.stderr.count("training.sync_batch_norm: torch has it for GPUs only.") == 1
    assert "Traceback" not in done.stderr


def test_a_cluster_ends_them_and_nothing_is_lost(cache, sample, two_gpus, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen(
        [
            sys.executable,
            two_gpus,
            "config=projects/concat/sample.yaml",
            f"dataset_config.hm_competition.data_dir={sample}",
            f"env.save_dir={run}",
            *TINY,
            "training.max_epochs=100",
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 180
    while not (run / checkpoints.CURRENT).exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    # As schedulers do: every process gets it, and the ranks from the one that started them, too.
    os.killpg(process.pid, signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "Saved. Go on with checkpoint.resume=true." in error
    assert "Traceback" not in error
    with pytest.raises(ProcessLookupError):  # none is left behind
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


def test_a_rank_that_fails_alone_says_why(trained, command, tmp_path):
    folder, *_ = trained
    link_run(folder, tmp_path / "run")
    script = tmp_path / "one_fails.py"
    script.write_text(ONE_FAILS)
    torchrun = f"torchrun --standalone --nproc-per-node 2 {script}"
    done = command(torchrun, tmp_path / "run", check=False)
    assert done.returncode == 1
    assert done.stderr.count("error: the second alone") == 1

"""Delay and kill single ranks at random moments, go on, and compare what the runs end with.

Run: .venv/bin/python tests/integration/random_rank_kills.py [runs [seed]]   (30 take 20 minutes)

Each run has two or three ranks, each of which sleeps at random before updates and while it writes.
One of them is killed with SIGKILL at a random moment: torchrun must then end with an error within
two minutes. Resumed until it is through, the run must end with exit code 0, and with the weights
and the CSV of one that nothing disturbed, bit for bit.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from mmf_hm_concat.data.synthetic import make_sample
from mmf_hm_concat.training import checkpoints

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LONGEST = 120  # seconds for one run; its work takes a few
OPTIONS = [
    "config=projects/concat/text_only.yaml",
    "training.batch_size=5",  # uneven for two and for three
    "training.max_epochs=4",
    "training.report=false",
    "training.checkpoint_interval=3",
    "training.early_stop.patience=9",
    "optimizer.params.lr=1e-3",
]
# What each rank runs: MMF, with random delays when `DELAY` is above 0.
PROGRAM = """
import os, random, sys, time
from mmf_cli.run import run
from mmf_hm_concat.mmf_plugin import trainer
from mmf_hm_concat.training import checkpoints
chance = random.Random(f"{os.environ['DELAY']} {os.environ['RANK']}")
def late(work, longest):
    def delayed(*given):
        if os.environ["DELAY"] != "0":
            time.sleep(chance.random() * longest)
        return work(*given)
    return delayed
trainer.TrainStep.update = late(trainer.TrainStep.update, 0.1)
checkpoints.save_checkpoint = late(checkpoints.save_checkpoint, 0.5)
run(sys.argv[1:])
"""


def start(program: Path, ranks: int, run: Path, data: Path, delay: int) -> subprocess.Popen:
    torchrun = [BIN / "torchrun", "--standalone", "--nproc-per-node", str(ranks), program]
    places = [
        f"dataset_config.hm_competition.data_dir={data}",
        f"env.save_dir={run}",
        f"env.cache_dir={data.parent / 'cache'}",
    ]
    return subprocess.Popen(
        [*torchrun, *OPTIONS, *places, "checkpoint.resume=true"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "DELAY": str(delay)},
    )


def ranks_of(torchrun: subprocess.Popen) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(torchrun.pid)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def end(torchrun: subprocess.Popen, what: str) -> str:
    """What it said; exits when it does not end."""
    try:
        return torchrun.communicate(timeout=LONGEST)[1]
    except subprocess.TimeoutExpired:
        os.killpg(torchrun.pid, signal.SIGKILL)
        sys.exit(f"{what}: hangs\n{torchrun.communicate()[1]}")


def predict(run: Path, data: Path) -> bytes:
    places = [f"dataset_config.hm_competition.data_dir={data}", f"env.save_dir={run}"]
    subprocess.run(
        [BIN / "mmf_predict", *OPTIONS, *places],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return (run / "submission.csv").read_bytes()


def weights(run: Path) -> list[torch.Tensor]:
    names = (checkpoints.BEST, checkpoints.CURRENT)
    states = [checkpoints.load_checkpoint(run / name)["model"] for name in names]
    return [value for state in states for value in state.values()]


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data, program = folder / "sample", folder / "program.py"
        program.write_text(PROGRAM)
        make_sample(data, memes=96)
        expected = {}
        for ranks in (2, 3):
            began = time.monotonic()
            torchrun = start(program, ranks, folder / f"reference{ranks}", data, 0)
            said = end(torchrun, f"{ranks} ranks undisturbed")
            if torchrun.returncode:
                sys.exit(f"{said}\n{ranks} ranks undisturbed: exit code {torchrun.returncode}")
            seconds = time.monotonic() - began
            run = folder / f"reference{ranks}"
            expected[ranks] = weights(run), predict(run, data)
        kills = 0
        for number in range(1, wanted + 1):
            ranks, run = chance.choice((2, 3)), folder / f"run{number}"
            torchrun = start(program, ranks, run, data, number)
            what = f"run {number} of {ranks} ranks"
            time.sleep(chance.uniform(0.3, 1.3) * seconds)
            killed = None
            if torchrun.poll() is None and (pids := ranks_of(torchrun)):
                killed = chance.randrange(len(pids))
                try:
                    os.kill(pids[killed], signal.SIGKILL)
                    kills += 1
                except ProcessLookupError:
                    killed = None
            said = end(torchrun, what)
            if torchrun.returncode and killed is None:
                sys.exit(f"{said}\n{what}: exit code {torchrun.returncode}, though not killed")
            if torchrun.returncode:
                torchrun = start(program, ranks, run, data, number)
                said = end(torchrun, f"{what}, resumed")
                if torchrun.returncode:
                    sys.exit(f"{said}\n{what}, resumed: exit code {torchrun.returncode}")
            same = zip(weights(run), expected[ranks][0], strict=True)
            if not all(torch.equal(one, other) for one, other in same):
                sys.exit(f"{what}: ended with other weights")
            if predict(run, data) != expected[ranks][1]:
                sys.exit(f"{what}: ended with another CSV")
            print(f"{what} ended the same; {kills} ranks killed so far", flush=True)


if __name__ == "__main__":
    main()

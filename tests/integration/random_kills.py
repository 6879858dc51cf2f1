"""Kill trainings at random moments, resume them, and compare what they end with, bit for bit.

Run: .venv/bin/python tests/random_kills.py [kills [seed]]     (50 take about a quarter of an hour)

The tests crash a training between two updates; here it is killed with SIGKILL wherever it is:
loading, training, validating, writing a checkpoint. A training is killed again and again until
one is through; then its weights, early stopping and CSV must be those of one that was never killed.
"""

import random
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
SETTINGS = [
    "config=projects/concat/sample.yaml",
    "dataset_config.hm_competition.image_size=32",
    # It draws random numbers: a resumed run must draw the same ones.
    "dataset_config.hm_competition.processors.image_processor.params.augment="
    "[{type: RandomHorizontalFlip}, {type: ColorJitter, params: {brightness: 0.3}}]",
    "training.max_epochs=3",
    "training.report=false",
    "training.batch_size=8",
    "training.checkpoint_interval=2",
]


def start(program: str, data: Path, run: Path, *options: str) -> subprocess.Popen:
    settings = [f"dataset_config.hm_competition.data_dir={data}", f"env.save_dir={run}"]
    return subprocess.Popen(
        [BIN / program, *SETTINGS, *settings, f"env.cache_dir={data.parent / 'cache'}", *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    error = process.communicate()[1]
    if process.returncode:
        sys.exit(f"{error}\n{' '.join(map(str, process.args))} failed.")


def is_same(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, optimiser, best epoch and CSV."""
    for name in (checkpoints.BEST, checkpoints.CURRENT):
        a, b = (checkpoints.load_checkpoint(run / name) for run in (one, other))
        if a["early_stop"] != b["early_stop"] or a["num_updates"] != b["num_updates"]:
            return False
        if not all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"]):
            return False
        moments = [state["optimizer"]["state"][k]["exp_avg"] for state in (a, b) for k in (0, 5)]
        if not all(torch.equal(moments[k], moments[k + 2]) for k in (0, 1)):
            return False
    csv = [(run / "submission.csv").read_bytes() for run in (one, other)]
    return csv[0] == csv[1]


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_sample(folder / "sample", memes=96)
        reference = folder / "reference"
        for _ in range(2):  # the second time, everything is cached: as long as it takes
            began = time.monotonic()
            finish(start("mmf_run", folder / "sample", reference))
            seconds = time.monotonic() - began
        finish(start("mmf_predict", folder / "sample", reference))
        kills = runs = 0
        while kills < wanted:
            runs += 1
            run = folder / f"run{runs}"
            while True:
                process = start("mmf_run", folder / "sample", run, "checkpoint.resume=true")
                try:
                    process.wait(chance.uniform(0.3, 1.1) * seconds)
                    break
                except subprocess.TimeoutExpired:
                    process.kill()
                    kills += 1
                    process.communicate()
            finish(process)
            finish(start("mmf_predict", folder / "sample", run))
            if not is_same(reference, run):
                sys.exit(f"run {runs}, after {kills} kills in all, ended differently")
            print(f"run {runs} ended the same; {kills} kills so far", flush=True)


if __name__ == "__main__":
    main()

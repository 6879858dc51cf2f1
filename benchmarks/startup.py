"""From typing to the first update, and to the first prediction, against the imports alone.

Run: python benchmarks/startup.py

User time, the least of some rounds, contenders in turn; everything that can be cached is. A second
table has the modules that take the most of it, with what they import, as `-X importtime` says.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from _memes import machine

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
SHOWN = 8

# Ends at the first update, as a watch at the terminal would.
FIRST_UPDATE = """
import os, sys
sys.argv[0] = "mmf_run"
from mmf_cli.run import run
from mmf_hm_concat.mmf_plugin.trainer import ConcatTrainer
update = ConcatTrainer._update
def first(self, *batches):
    update(self, *batches)
    sys.stdout.flush()
    os._exit(0)
ConcatTrainer._update = first
run()
"""
PREDICT = """
import sys
from mmf_hm_concat import MemeClassifier
MemeClassifier.load(sys.argv[1])
"""


def user_time(command: list[str], folder: Path) -> float:
    """Seconds that a command, and what it starts, compute."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(error)
    return usage.ru_utime


def largest_modules(command: list[str], folder: Path) -> list[tuple[float, str]]:
    """Seconds and name of the packages that take longest to import, with all that they import."""
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], cwd=folder, capture_output=True, text=True
    )
    lines = re.findall(r"import time:\s+\d+ \|\s+(\d+) \|( +)(\S+)", done.stderr)
    found: dict[str, float] = {}
    for took, _, name in lines:
        found[name] = max(found.get(name, 0), int(took) / 1e6)
    packages = {name: took for name, took in found.items() if "." not in name}
    return sorted(((took, name) for name, took in packages.items()), reverse=True)[:SHOWN]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, run = folder / "sample", folder / "run"
        hm_concat = [sys.executable, "-m", "mmf_hm_concat"]
        subprocess.run([*hm_concat, "sample", data, "--memes", "120"], check=True)
        options = [
            f"config={ROOT}/projects/concat/sample.yaml",
            "run_type=train_val",
            f"dataset_config.hm_competition.data_dir={data}",
            f"dataset_config.hm_competition.cache_dir={folder / 'cache'}",
            "training.report=false",
        ]
        training = [sys.executable, "-c", FIRST_UPDATE, *options]
        mmf_run = Path(sys.executable).with_name("mmf_run")
        whole = [str(mmf_run), *options, f"env.save_dir={run}", "training.max_epochs=1"]
        user_time(whole, folder)  # a run to predict with, and a full cache
        meme = [str(min((data / "img").iterdir())), "a text"]
        contenders = {
            "import mmf.utils.build, torchvision": [
                # Ends as the other one does: taking down what was imported takes time, too.
                *(sys.executable, "-c", "import mmf.utils.build, torchvision, os; os._exit(0)")
            ],
            "mmf_run to its first update": [*training, f"env.save_dir={folder / 'other'}"],
            "import torch, torchvision": [sys.executable, "-c", "import torch, torchvision"],
            "MemeClassifier.load": [sys.executable, "-c", PREDICT, str(run)],
            "hm_concat predict": [*hm_concat, "predict", str(run), *meme],
        }
        least = dict.fromkeys(contenders, float("inf"))
        for _ in range(ROUNDS):
            for label, command in contenders.items():
                least[label] = min(least[label], user_time(command, folder))
        print(f"user time, the least of {ROUNDS} rounds")
        mmf, torch = (
            least["import mmf.utils.build, torchvision"],
            least["import torch, torchvision"],
        )
        for label, took in least.items():
            of = mmf if "mmf" in label else torch
            print(f"{label:36} {took:5.2f} s  {took / of:4.2f} times the imports")
        for label in ("mmf_run to its first update", "hm_concat predict"):
            found = largest_modules(contenders[label], folder)
            shown = ", ".join(f"{name} {took:.2f} s" for took, name in found)
            print(f"imports of {label}: {shown}")
        print(machine())


if __name__ == "__main__":
    main()

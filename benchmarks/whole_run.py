"""What a training and a prediction take, as somebody types them: seconds, samples/s and memory.

Run: python benchmarks/whole_run.py [memes] [option ...]
As the README's first command, 128 memes: python benchmarks/whole_run.py
On a GPU:                                 python benchmarks/whole_run.py 8500

Options go to both commands, as model_config.concat_vl.vision.name=resnet18. Nothing is cached
before. Memory is the largest that one process had on the machine itself, and on the GPU what torch
had reserved there at most. Weights are random, so that nothing is downloaded.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from _memes import machine, write_dataset

ROOT = Path(__file__).resolve().parent.parent
# Says at its end what the GPU's memory was.
COMMAND = """
import sys
import mmf_cli.{module}
import torch
sys.argv[0] = "{name}"
mmf_cli.{module}.{function}()
if torch.cuda.is_available():
    print("RESERVED", torch.cuda.max_memory_reserved())
"""
MMF_RUN = COMMAND.format(module="run", name="mmf_run", function="run")
MMF_PREDICT = COMMAND.format(module="predict", name="mmf_predict", function="predict")


def take(program: str, options: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds, and GB of memory and of GPU memory, of one command."""
    start = time.perf_counter()
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *options],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        output.seek(0)
        said = output.read()
    if status:
        sys.exit(said)
    reserved = [int(line.split()[1]) for line in said.splitlines() if line.startswith("RESERVED")]
    return time.perf_counter() - start, usage.ru_maxrss / 1e6, max(reserved, default=0) / 1e9


def main() -> None:
    arguments = sys.argv[1:]
    memes = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 128
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "data", memes, max(2, memes // 17))
        (folder / "data" / "test.jsonl").write_text((folder / "data" / "train.jsonl").read_text())
        options = [
            f"config={ROOT}/projects/concat/defaults.yaml",
            f"dataset_config.hm_competition.data_dir={folder / 'data'}",
            f"dataset_config.hm_competition.cache_dir={folder / 'cache'}",
            "model_config.concat_vl.vision.weights=none",
            f"env.save_dir={folder / 'run'}",
            *arguments,
        ]
        training = [
            *options,
            "run_type=train_val",
            "training.max_epochs=1",
            "training.report=false",
        ]
        print(f"{memes} memes of the competition's size, {' '.join(arguments) or 'defaults.yaml'}")
        for label, program, given in (
            ("training, one epoch", MMF_RUN, training),
            ("prediction", MMF_PREDICT, options),
        ):
            took, memory, reserved = take(program, given, folder)
            on_gpu = f", {reserved:.1f} GB on the GPU" if reserved else ""
            print(f"{label:20} {took:7.1f} s, {memory:.1f} GB of memory{on_gpu}")
        line = (folder / "run" / "metrics.jsonl").read_text().splitlines()[0]
        print(f"within the epoch     {json.loads(line)['samples_per_second']:7.1f} samples/s")
        sizes = sum(each.stat().st_size for each in (folder / "run").glob("*.ckpt")) / 1e9
        print(f"its checkpoints      {sizes:7.1f} GB")
        where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
        print(f"{machine()}, {where}")


if __name__ == "__main__":
    main()

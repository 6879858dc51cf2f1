"""How fast batches reach the model through MMF, warm, against the tutorial's loader.

Run: python benchmarks/input_loader.py [memes]

The data set is built by MMF from projects/concat/defaults.yaml, and each batch goes through MMF's
loader and `prepare_batch`, as in training: floats, normalised, on the device of the model.
"""

import contextlib
import io
import operator
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import torch
from _memes import machine, write_dataset
from mmf.common.registry import registry
from mmf.utils.configuration import Configuration
from mmf.utils.env import setup_imports
from reference import BATCH, Memes, epoch

from mmf_hm_concat.cli.configs import PROJECTS
from mmf_hm_concat.encoders.fasttext_model import fit_text_model

REPEATS = 3


def open_loader(folder: Path, memes: int, workers: int | str):
    """The training loader of a run on the dataset files in ``folder``."""
    from mmf_hm_concat.mmf_plugin import install
    from mmf_hm_concat.mmf_plugin.loaders import build_loader

    install()
    options = [
        f"config={PROJECTS / 'concat' / 'defaults.yaml'}",
        f"dataset_config.hm_competition.data_dir={folder}",
        f"dataset_config.hm_competition.cache_dir={folder / 'cache'}",
        "dataset_config.hm_competition.balance=none",
        "run_type=train",
        f"env.save_dir={folder / 'run'}",
        f"training.num_workers={workers}",
        f"training.batch_size={BATCH}",
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # MMF repeats every option
        configuration = Configuration(Namespace(opts=options, config_override=None))
    loader = build_loader(configuration.get_config(), "train", torch.device("cpu"))
    assert len(loader.datasets[0]) == memes
    return loader


def warm_epoch(loader, number: int) -> int:
    loader.start_epoch(number, skip=0)
    seen = 0
    for batch in loader:
        batch = loader.prepare_batch(batch)
        assert batch.image.dtype == torch.float32
        seen += len(batch.image)
    return seen


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    setup_imports()
    registry.register("current_device", torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, texts = write_dataset(folder, count, validation=2)
        text_model = fit_text_model(texts, epochs=1, cache_dir=folder)
        reference = Memes(paths, texts, str(text_model.path))
        loaders = {f"MMF's loader, {w} workers": open_loader(folder, count, w) for w in (0, 2)}
        work = {"as the tutorial": lambda k: epoch(reference)}
        for who, loader in loaders.items():
            work[who] = lambda k, loader=loader: warm_epoch(loader, k)
        times: dict[str, list[float]] = {who: [] for who in work}
        for k in range(REPEATS + 1):  # in turns: all see the same neighbours on a shared machine
            for who, do in work.items():
                start = time.perf_counter()
                assert do(k) == count
                if k:  # the first round starts workers and warms up
                    times[who].append((time.perf_counter() - start) / count)
    print(f"later epoch of {count} memes, median of {REPEATS}; batches of {BATCH}, on the CPU")
    for who, each in times.items():
        middle = statistics.median(each)
        ratio = statistics.median(map(operator.truediv, times["as the tutorial"], each))
        print(f"{who:24} {middle * 1e3:7.3f} ms/meme {1 / middle:8.0f}/s {ratio:6.1f}x")
    print(f"0 workers is what training.num_workers=auto chooses here (goal: 30x)\n{machine()}")


if __name__ == "__main__":
    main()

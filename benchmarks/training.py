"""How fast `mmf_run` trains, against the tutorial's script and the same network fed from memory.

Run: python benchmarks/training.py [memes] [network] [epochs]
On two cores: python benchmarks/training.py 256 resnet18 2 (what is left out means this)
On a GPU:     python benchmarks/training.py 8500 resnet152 10

Every way is measured in every round, in turns. "here" is MMF's own `mmf_run` with our trainer and
defaults, random weights: building the model, decoding (in the cold line), validation of as many
memes as the competition has to so many, and writing checkpoints are in its time; starting Python
and importing MMF are not.
"""

import contextlib
import io
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from _bound import bound
from _memes import machine, write_dataset
from mmf_cli.run import run as mmf_run
from reference import Memes, train
from torch import nn

from mmf_hm_concat.encoders.fasttext_model import fit_text_model
from mmf_hm_concat.encoders.sentence_vectors import SentenceVectorEncoder
from mmf_hm_concat.encoders.torchvision_networks import TorchvisionEncoder
from mmf_hm_concat.mmf_plugin import install
from mmf_hm_concat.models.network import LanguageAndVisionConcat
from mmf_hm_concat.training.precision import autocast, choose_precision
from mmf_hm_concat.utils.parallel import num_cores

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 3
# The tutorial's script is slow: of larger splits, it trains on so many memes.
TUTORIAL_MEMES = 1000
BATCH, FREQUENCY, WORKERS = 32, 2, 16  # our defaults; the tutorial's number of workers


def mmf_training(
    folder: Path,
    cache: str,
    network: str,
    epochs: int,
    *options: str,
    save_dir: Path | None = None,
) -> float:
    """Samples/s within the epochs, by the log of a whole `mmf_run`."""
    install()
    output, run = io.StringIO(), save_dir or Path(tempfile.mkdtemp(dir=folder))
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        mmf_run(
            [
                f"config={ROOT}/projects/concat/defaults.yaml",
                f"dataset_config.hm_competition.data_dir={folder}",
                f"dataset_config.hm_competition.cache_dir={folder / cache}",
                "dataset_config.hm_competition.balance=none",
                f"model_config.concat_vl.vision.name={network}",
                "model_config.concat_vl.vision.weights=none",
                f"training.max_epochs={epochs}",
                "training.early_stop.enabled=false",
                "training.report=false",
                f"env.save_dir={run}",
                f"env.cache_dir={folder / 'mmf'}",
                *options,
            ]
        )
    log = (run / "train.log").read_text()
    return statistics.median(map(float, re.findall(r"epoch \d+/.* (\d+) samples/s", log)))


def from_memory(network: nn.Module, count: int, precision: str, device: torch.device) -> None:
    """The same arithmetic on one batch that is there already."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-5, fused=device.type == "cuda")
    image = torch.randn(BATCH, 3, 224, 224, device=device)
    image = image.to(memory_format=torch.channels_last)
    text, targets = torch.randn(BATCH, 150, device=device), torch.arange(BATCH, device=device) % 2
    for number in range(1, count // BATCH + 1):
        with autocast(precision, device):
            logits = network(text, image)
        (nn.functional.cross_entropy(logits.float(), targets) / FREQUENCY).backward()
        if number % FREQUENCY == 0:
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    given = dict(enumerate(sys.argv[1:]))
    count, name, epochs = int(given.get(0, 256)), given.get(1, "resnet18"), int(given.get(2, 2))
    validation = max(count * 500 // 8500, 2)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision, _ = choose_precision("auto", device)
    torch.backends.cudnn.benchmark = True
    rates: dict[str, list[float]] = {}

    def measure(who: str, memes: int, work) -> None:
        start = time.perf_counter()
        work()
        rates.setdefault(who, []).append(memes / (time.perf_counter() - start))

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths, texts = write_dataset(folder, count, validation)
        labels = torch.arange(count) % 2
        text_model = fit_text_model(texts, epochs=1, cache_dir=folder)
        few = min(count, TUTORIAL_MEMES)
        memes = Memes(paths[:few], texts[:few], str(text_model.path))

        def network() -> nn.Module:
            text, image = (
                SentenceVectorEncoder(150, 300, True),
                TorchvisionEncoder(name, "none", 300),
            )
            return LanguageAndVisionConcat(2, text, image, 300, 300, 256, 0.1).to(device)

        ours = network().to(memory_format=torch.channels_last)
        full = count // BATCH * BATCH * epochs
        theirs = network()
        for k in range(ROUNDS + 1):
            measure("tutorial", few, lambda: train(memes, labels[:few], theirs, WORKERS))
            measure(
                "tutorial, a worker a core", few, lambda: train(memes, labels, theirs, num_cores())
            )
            measure(
                "here, nothing cached yet",
                count * epochs,
                lambda k=k: mmf_training(folder, f"cold{k}", name, epochs),
            )
            within: list[float] = []
            measure(
                "here, images cached",
                count * epochs,
                lambda w=within: w.append(mmf_training(folder, "cold0", name, epochs)),
            )
            rates.setdefault("here, its epochs alone", []).extend(within)
            measure(
                "same network from memory",
                full,
                lambda: from_memory(ours, full, precision, device),
            )
        _, best = bound(ours, precision, device, trains=True)
    print(
        f"training {name} at 224 pixels on {count} memes ({validation} to validate), "
        f"{epochs} epochs, here in {precision};"
    )
    print(f"samples/s, median of {ROUNDS} rounds (range), after one round that does not count")
    counted = {who: each[1:] for who, each in rates.items()}
    for who, each in counted.items():
        middle = statistics.median(each)
        ratio = statistics.median(a / b for a, b in zip(each, counted["tutorial"], strict=True))
        memory = statistics.median(
            a / b for a, b in zip(each, counted["same network from memory"], strict=True)
        )
        print(
            f"{who:26} {middle:8.1f} ({min(each):.1f} to {max(each):.1f}) "
            f"{ratio:6.2f} x tutorial {memory:6.1%} of memory"
        )
    print(best)
    where = torch.cuda.get_device_name() + ", " if device.type == "cuda" else ""
    print(where + machine())


if __name__ == "__main__":
    main()

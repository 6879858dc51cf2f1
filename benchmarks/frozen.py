"""What a frozen encoder costs, once and after that: its features, an epoch on them, ten epochs.

Run: python benchmarks/frozen.py [memes] [network]
On two cores: python benchmarks/frozen.py 500 resnet18 (what is left out means this)
On a GPU:     python benchmarks/frozen.py 8500 resnet152

Three tables. Features a second, cached images included, against the bare network in a loop on one
batch that is there already. An epoch of 8,500 memes and validation of 500 on cached features; the
memes share the images of the other tables, which changes nothing once the features are there. Ten
epochs of a whole `mmf_run` (without Python's start): frozen with nothing cached, frozen with
everything cached, fine-tuning, and the tutorial's script, whose ten epochs take ten times its one.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _memes import machine, write_dataset
from reference import Memes, train
from training import mmf_training

from mmf_hm_concat.encoders.fasttext_model import fit_text_model
from mmf_hm_concat.encoders.sentence_vectors import SentenceVectorEncoder
from mmf_hm_concat.encoders.torchvision_networks import TorchvisionEncoder
from mmf_hm_concat.images.cache import ImageCache
from mmf_hm_concat.models.network import LanguageAndVisionConcat
from mmf_hm_concat.training.batch_samplers import EVALUATION_BATCH
from mmf_hm_concat.training.frozen_features import frozen_features, image_inputs
from mmf_hm_concat.training.precision import autocast, choose_precision, threads
from mmf_hm_concat.utils.parallel import num_cores

ROUNDS = 3
EPOCHS = 10
COMPETITION = {"train": 8500, "dev": 500}
# The tutorial's script is slow: of larger splits, it trains on so many memes.
TUTORIAL_MEMES = 1000
FROZEN = ["model_config.concat_vl.vision.freeze=all"]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def features_per_second(paths: list[str], name: str, cache: Path) -> None:
    """Print the first table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision, _ = choose_precision("auto", device)
    network = TorchvisionEncoder(name, "none", 300, "all").eval().to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = ImageCache(paths, 224, cache)
    inputs = image_inputs(images, network.preprocessing)
    size = EVALUATION_BATCH[device.type]
    batch = images.batch([i % len(paths) for i in range(size)])
    batch = batch.contiguous(memory_format=torch.channels_last).to(device)

    def ours() -> None:
        frozen_features(network, inputs, None, precision, device)

    def bare() -> None:
        given = network.preprocessing.normalize(batch)
        with torch.inference_mode(), autocast(precision, device), threads(num_cores()):
            for _ in range(-(-len(paths) // size)):
                network.features(given)

    ours(), bare()
    pairs = [(seconds(ours), seconds(bare)) for _ in range(ROUNDS)]
    print(f"features of {len(paths)} images, {name} in {precision}, batches of {size}")
    for who, each in zip(("features here", "bare network"), zip(*pairs, strict=True), strict=True):
        print(f"{who:24} {len(paths) / statistics.median(each):8.1f} samples/s")
    share = statistics.median(their / our for our, their in pairs)
    print(f"{'':24} {share:8.1%} of the bare network\n")


def epoch_on_features(folder: Path, name: str, fusion: str) -> None:
    """Print a line of the second table: an epoch with its validation, by the run's own log."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        options = [*FROZEN, f"model_config.concat_vl.fusion={fusion}"]
        mmf_training(folder, "cache", name, EPOCHS, *options, save_dir=Path(out))
        lines = (Path(out) / "metrics.jsonl").read_text().splitlines()
    each = [json.loads(line)["seconds"] for line in lines]
    middle = statistics.median(each)
    print(f"{fusion:24} {middle:8.2f} s an epoch ({min(each):.2f} to {max(each):.2f})")


def write_large(folder: Path, count: int) -> None:
    """Write annotations of the competition's size over ``count`` images of the folder beside."""
    (folder / "img").symlink_to(folder.parent / "img")
    for split, memes in COMPETITION.items():
        first = 0 if split == "train" else COMPETITION["train"]
        lines = [
            json.dumps(
                {
                    "id": first + k,
                    "img": f"img/{k % count:05}.png",
                    "label": k % 2,
                    "text": f"word{k % 97} word{k % 89} word{k % 83}",
                }
            )
            for k in range(memes)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))


def main() -> None:
    given = dict(enumerate(sys.argv[1:]))
    count, name = int(given.get(0, 500)), given.get(1, "resnet18")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths, texts = write_dataset(folder, count, max(count * 500 // 8500, 2))
        features_per_second(paths, name, folder / "cache")

        large = folder / "large"
        large.mkdir()
        write_large(large, count)
        print(
            f"{COMPETITION['train']:,} memes and {COMPETITION['dev']} to validate, cached features"
        )
        epoch_on_features(large, name, "concat")
        epoch_on_features(large, name, "product")

        few = min(count, TUTORIAL_MEMES)
        text_model = fit_text_model(texts, epochs=1, cache_dir=folder)
        memes = Memes(paths[:few], texts[:few], str(text_model.path))
        network = LanguageAndVisionConcat(
            2,
            SentenceVectorEncoder(150, 300, True),
            TorchvisionEncoder(name, "none", 300),
            300,
            300,
            256,
            0.1,
        ).to(device)
        labels = torch.arange(few) % 2
        ways: dict[str, Callable[[int], object]] = {
            "frozen, nothing cached": lambda k: mmf_training(
                folder, f"cold{k}", name, EPOCHS, *FROZEN
            ),
            "frozen, all cached": lambda k: mmf_training(folder, "cold0", name, EPOCHS, *FROZEN),
            "fine-tuning": lambda k: mmf_training(folder, "cold0", name, EPOCHS),
            "tutorial": lambda k: train(memes, labels, network, 16),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for k in range(ROUNDS):
            for way, work in ways.items():
                factor = EPOCHS * count / few if way == "tutorial" else 1
                times[way].append(factor * seconds(lambda w=work, k=k: w(k)))
    print(f"\n{EPOCHS} epochs of {count} memes, median of {ROUNDS} (range)")
    for way, each in times.items():
        ratio = statistics.median(a / b for a, b in zip(times["tutorial"], each, strict=True))
        middle = statistics.median(each)
        print(
            f"{way:24} {middle:8.1f} s ({min(each):.1f} to {max(each):.1f}); "
            f"the tutorial takes {ratio:.1f} times as long"
        )
    where = torch.cuda.get_device_name() + ", " if device.type == "cuda" else ""
    print(where + machine())


if __name__ == "__main__":
    main()

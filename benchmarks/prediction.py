"""How long predicting memes takes with ResNet-18, never seen before and cached, on a CPU.

Run: python benchmarks/prediction.py [memes [repeats]]

Here means what mmf_predict does for each meme: `ImageCache`, `EvalBatchSampler`, and the network
in the processor's best format. Cold, all images are decoded on all cores before the network
begins, so that a broken one is refused before the work. Both keep every core busy, so that doing
them at the same time would gain nothing; with a GPU it does (decode_ahead.py).
"""

import copy
import operator
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from _bound import bound
from _memes import machine, make_memes
from reference import Memes, predict
from torch import nn

from mmf_hm_concat.encoders.fasttext_model import TextModel, fit_text_model
from mmf_hm_concat.encoders.image_preprocessing import IMAGENET
from mmf_hm_concat.encoders.sentence_vectors import SentenceVectorEncoder
from mmf_hm_concat.encoders.torchvision_networks import TorchvisionEncoder
from mmf_hm_concat.images.cache import ImageCache
from mmf_hm_concat.models.network import LanguageAndVisionConcat
from mmf_hm_concat.training.batch_samplers import EVALUATION_BATCH, EvalBatchSampler
from mmf_hm_concat.training.precision import autocast, choose_precision

CPU = torch.device("cpu")


def predict_here(
    paths: list[str],
    texts: list[str],
    text_model: TextModel,
    network: nn.Module,
    precision: str,
    cache_dir: Path,
) -> torch.Tensor:
    """P(hateful), float64 (N,); opening the cache and all vectors are part of it."""
    vectors = torch.from_numpy(text_model.vectors(texts))
    images = ImageCache(paths, 224, cache_dir)
    batches = EvalBatchSampler(len(paths), EVALUATION_BATCH["cpu"])
    scores = []
    with torch.inference_mode(), autocast(precision, CPU):
        for rows in batches:
            scores.append(network(vectors[rows], IMAGENET.normalize(images.batch(rows))))
    return torch.softmax(torch.cat(scores)[: len(paths)].double(), dim=1)[:, 1]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    precision, why = choose_precision("auto", CPU)
    torch.manual_seed(0)
    text, image = (
        SentenceVectorEncoder(150, 300, False),
        TorchvisionEncoder("resnet18", "none", 300),
    )
    plain = LanguageAndVisionConcat(2, text, image, 300, 300, 256, 0.1).eval()
    network = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, texts = make_memes(folder / "img", count)
        text_model = fit_text_model(texts, epochs=1, cache_dir=folder)
        memes = Memes(paths, texts, str(text_model.path))

        def here(kept: Path) -> torch.Tensor:
            return predict_here(paths, texts, text_model, network, precision, kept)

        work = {
            "as the tutorial, one process": lambda k: predict(memes, plain, workers=0),
            "with its 16 workers": lambda k: predict(memes, plain, workers=16),
            "here, cold": lambda k: here(folder / f"cache{k}"),
            "here, warm": lambda k: here(folder / f"cache{k}"),
        }
        times: dict[str, list[float]] = {who: [] for who in work}
        found = {}
        for k in range(repeats):  # in turns: all see the same neighbours on a shared machine
            for who, do in work.items():
                start = time.perf_counter()
                found[who] = do(k)
                times[who].append(time.perf_counter() - start)
    first, *_ = work
    best, why_best = bound(network, precision, CPU, trains=False)
    print(f"prediction of {count} memes, median of {repeats}, in {precision} here: {why}")
    for who, seconds in times.items():
        middle = statistics.median(seconds)
        ratio = statistics.median(map(operator.truediv, times[first], seconds))
        print(
            f"{who:29} {middle:6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
            f" {count / middle:5.0f} samples/s {ratio:5.1f}x {count / middle / best:6.1%} of bound"
        )
    share = statistics.median(map(operator.truediv, times["here, warm"], times["here, cold"]))
    print(f"cold runs at {share:.0%} of warm")
    difference = (found["here, warm"] - found[first]).abs().max()
    print(f"largest difference of a probability: {difference:.1e} (goals: 4x cold, 10x warm)")
    print(why_best)
    print(machine())


if __name__ == "__main__":
    main()

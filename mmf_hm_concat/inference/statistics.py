"""How good probabilities are, how sure that is, and whether two models can be told apart.

Shapes: N memes, R resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmf_hm_concat.training.metrics import Metric, value_of

# Of the percentile interval: Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
# chapter 13, which asks for 1,000 resamples or more.
RESAMPLES = 2000
LEVEL = 0.95
# Fewer memes of a class than this make no interval: resampling them shows too little.
FEWEST = 5
# Numbers held at once; bounds the memory.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """A metric on one split.

    Attributes:
        value: in [0, 1]; NaN where it is not defined (AUROC of one class).
        low, high: ends of its 95 % interval; NaN where there are too few memes for one.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class Difference:
    """The second of two models less the first, on the same memes; see `Estimate`."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def resamples(labels: np.ndarray, seed: int = 0, times: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Counts of a stratified bootstrap, int64 (R, N), block by block.

    Each class is drawn from with replacement, as many as it has: intervals are for the split's own
    share of hateful memes, and AUROC is always defined. So does pROC (Robin et al., BMC
    Bioinformatics 12:77, 2011). The same labels and seed draw the same memes for every model.
    """
    random = np.random.default_rng(seed)
    rows = max(1, min(times, _BLOCK // max(len(labels), 1)))
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    for start in range(0, times, rows):
        size = min(rows, times - start)
        counts = np.zeros((size, len(labels)), np.int64)
        for members in classes:
            count = len(members)
            drawn = random.integers(0, max(count, 1), (size, count))
            drawn += np.arange(size)[:, None] * count
            counts[:, members] = np.bincount(drawn.ravel(), minlength=size * count).reshape(
                size, count
            )
        yield counts


def estimate(
    metric: Metric, labels: np.ndarray, probabilities: np.ndarray, seed: int = 0
) -> Estimate:
    """A metric of one model, with the 95 % percentile interval of a stratified bootstrap.

    Args:
        labels: int (N,), 0 or 1.
        probabilities: float (N,), P(hateful).
    """
    value = value_of(metric, labels, probabilities)
    if not _is_enough(labels) or np.isnan(value):
        return Estimate(value)
    of = metric(labels, probabilities)
    return Estimate(value, *_interval([of(counts) for counts in resamples(labels, seed)]))


def difference(
    metric: Metric,
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    seed: int = 0,
    second_metric: Metric | None = None,
) -> Difference:
    """The second model's metric less the first's: a paired bootstrap, the same memes for both.

    Pairing takes out what both find easy or hard, which intervals of each alone cannot.

    Args:
        labels: int (N,), 0 or 1.
        first, second: float (N,), P(hateful) of the same memes.
        second_metric: where the second is judged by another, as at its own threshold.
    """
    one, other = metric(labels, first), (second_metric or metric)(labels, second)
    whole = np.ones((1, len(labels)), np.int64)
    value = float(other(whole)[0] - one(whole)[0])
    if not _is_enough(labels) or np.isnan(value):
        return Difference(value, float("nan"), float("nan"))
    parts = [other(counts) - one(counts) for counts in resamples(labels, seed)]
    return Difference(value, *_interval(parts))


def best_threshold(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold in (0, 1] of the highest accuracy; of several, the one nearest to 0.5.

    Candidates are 0.5 and the middles between neighbouring probabilities.
    """
    distinct = np.unique(probabilities)
    middles = (distinct[1:] + distinct[:-1]) / 2
    # No meme hateful, and all of them: where a model knows nothing, that may be best.
    ends = [distinct[0] / 2, (distinct[-1] + 1) / 2]
    candidates = np.unique(np.concatenate([[0.5], middles, ends]))
    candidates = candidates[candidates > 0]
    hateful, benign = (np.sort(probabilities[labels == label]) for label in (1, 0))
    right = len(hateful) - np.searchsorted(hateful, candidates)
    right = right + np.searchsorted(benign, candidates)
    best = candidates[right == right.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def _is_enough(labels: np.ndarray) -> bool:
    return min((labels == 0).sum(), (labels == 1).sum()) >= FEWEST


def _interval(parts: list[np.ndarray]) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(parts), [tail, 1 - tail])
    return float(low), float(high)

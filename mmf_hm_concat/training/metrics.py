"""AUROC, accuracy and macro-F1 of P(hateful): the one implementation, for all who measure.

Validation, `hm_concat check --truth`, `evaluate` and reports use these. They are computed for many
resamples at once: a resample is a row of counts, how often each meme was drawn. With counts of one
they are the metrics themselves, as scikit-learn gives them (the tests compare).

Shapes: N memes, R resamples.
"""

from collections.abc import Callable

import numpy as np

# From labels int (N,), 0 or 1, and probabilities float (N,) to a function of counts int (R, N) that
# gives float64 (R,), in [0, 1] or NaN.
Metric = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def value_of(metric: Metric, labels: np.ndarray, probabilities: np.ndarray) -> float:
    """A metric of one model on its memes; NaN where it is not defined (AUROC of one class)."""
    return float(metric(labels, probabilities)(np.ones((1, len(labels)), np.int64))[0])


def auroc(labels: np.ndarray, probabilities: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Area under the ROC curve: the share of (hateful, benign) pairs in the right order.

    Pairs of equal probability count half (Mann and Whitney's U).
    """
    order = np.argsort(probabilities, kind="stable")
    is_hateful = labels[order] == 1
    starts = np.flatnonzero(np.diff(probabilities[order], prepend=-np.inf))

    def of(counts: np.ndarray) -> np.ndarray:
        counts = counts[:, order]
        hateful = np.add.reduceat(counts * is_hateful, starts, axis=1).astype(np.float64)
        benign = np.add.reduceat(counts * ~is_hateful, starts, axis=1).astype(np.float64)
        below = np.cumsum(benign, axis=1) - benign / 2
        pairs = hateful.sum(axis=1) * benign.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return (hateful * below).sum(axis=1) / pairs

    return of


def accuracy_at(threshold: float) -> Metric:
    """Share of memes on the right side of ``threshold``, from which on a meme is hateful."""

    def metric(labels: np.ndarray, probabilities: np.ndarray) -> Callable:
        is_right = (probabilities >= threshold) == (labels == 1)
        return lambda counts: counts @ is_right / counts.sum(axis=1)

    return metric


def macro_f1_at(threshold: float) -> Metric:
    """Mean of the F1 of both classes; a class that is neither there nor predicted has 0."""

    def metric(labels: np.ndarray, probabilities: np.ndarray) -> Callable:
        given, true = probabilities >= threshold, labels == 1

        def of(counts: np.ndarray) -> np.ndarray:
            wrong = counts @ (given != true)
            hits = [counts @ (given & true), counts @ (~given & ~true)]
            return np.mean([2 * hit / np.maximum(2 * hit + wrong, 1) for hit in hits], axis=0)

        return of

    return metric

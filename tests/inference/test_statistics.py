"""Metrics as scikit-learn's, intervals that cover, differences found where there are any."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmf_hm_concat.inference import statistics
from mmf_hm_concat.inference.statistics import (
    best_threshold,
    difference,
    estimate,
    resamples,
)
from mmf_hm_concat.training.metrics import accuracy_at, auroc, macro_f1_at

# Few distinct probabilities, so that many are level.
memes = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0])),
    min_size=2,
    max_size=40,
).map(lambda rows: (np.array([y for y, _ in rows]), np.array([p for _, p in rows])))


def draw(random, count, gap):
    """Labels and probabilities of a model whose AUROC is that of two normals ``gap`` apart."""
    labels = np.arange(count) % 2
    return labels, 1 / (1 + np.exp(-random.normal(labels * gap)))


@settings(deadline=None, max_examples=30)
@given(memes, st.integers(0, 2**31))
def test_a_resample_counts_as_the_memes_that_were_drawn(drawn, seed):
    labels, probabilities = drawn
    counts = next(resamples(labels, seed, times=3))
    for metric in (auroc, accuracy_at(0.3), macro_f1_at(0.7)):
        found = metric(labels, probabilities)(counts)
        for row, value in zip(counts, found, strict=True):
            again = np.repeat(np.arange(len(labels)), row)
            whole = np.ones((1, len(again)), np.int64)
            expected = metric(labels[again], probabilities[again])(whole)[0]
            assert value == pytest.approx(expected, nan_ok=True)


def test_resamples_keep_the_classes_and_repeat_with_the_seed(monkeypatch):
    labels = np.array([0] * 30 + [1] * 10)
    whole = np.concatenate(list(resamples(labels, 3, 50)))
    assert (whole[:, :30].sum(axis=1) == 30).all() and (whole[:, 30:].sum(axis=1) == 10).all()
    assert len(np.unique(whole, axis=0)) == 50
    assert (np.concatenate(list(resamples(labels, 3, 50))) == whole).all()
    assert (np.concatenate(list(resamples(labels, 4, 50))) != whole).any()


def test_ninety_five_of_a_hundred_intervals_hold_the_truth():
    """150 test sets from a model whose AUROC and accuracy are known: both about 95 %."""
    random = np.random.default_rng(0)
    gap = 1.2
    # P(one normal is below another that lies `gap` higher), and below its middle.
    true_auroc = 0.5 * (1 + math.erf(gap / 2))
    true_accuracy = 0.5 * (1 + math.erf(gap / 2 / math.sqrt(2)))
    threshold = 1 / (1 + math.exp(-gap / 2))
    hits = np.zeros(2)
    for _ in range(150):
        labels, probabilities = draw(random, 200, gap)
        for at, (metric, truth) in enumerate(
            [(auroc, true_auroc), (accuracy_at(threshold), true_accuracy)]
        ):
            found = estimate(metric, labels, probabilities)
            hits[at] += found.low <= truth <= found.high
    # The standard error of a share of 0.95 in 150 is 0.018.
    assert (hits / 150 > 0.89).all() and (hits / 150 < 0.995).all()


def test_a_planted_difference_is_found_and_noise_is_not():
    random = np.random.default_rng(1)
    found_noise = 0
    for _ in range(30):
        labels, good = draw(random, 500, 1.5)
        logits = np.log(good / (1 - good))
        # Two that see the same memes as well as each other; and one that sees them worse.
        one, other = (logits + random.normal(0, 0.3, 500) for _ in range(2))
        worse = logits + random.normal(0, 1.5, 500)
        found_noise += difference(auroc, labels, one, other).is_clear
        planted = difference(auroc, labels, worse, one)
        assert planted.is_clear and planted.low > 0
    assert found_noise <= 5  # 5 % of 30 are 1 or 2
    same = difference(auroc, labels, one, one)
    assert (same.value, same.low, same.high, same.is_clear) == (0, 0, 0, False)


def test_pairing_finds_what_two_intervals_alone_cannot():
    random = np.random.default_rng(2)
    labels, good = draw(random, 500, 1.5)
    logits = np.log(good / (1 - good))
    worse = logits + random.normal(0, 0.9, 500)
    one, other = estimate(auroc, labels, worse), estimate(auroc, labels, logits)
    assert one.high > other.low
    assert difference(auroc, labels, worse, logits).is_clear


@settings(deadline=None)
@given(memes)
def test_no_other_threshold_is_more_accurate(drawn):
    labels, probabilities = drawn
    threshold = best_threshold(labels, probabilities)
    assert 0 < threshold <= 1

    def right(at):
        return ((probabilities >= at) == (labels == 1)).sum()

    tried = [right(at) for at in np.linspace(0.01, 1, 100)]
    assert right(threshold) >= max(tried)
    if right(0.5) == max(tried):
        assert threshold == 0.5


def test_few_memes_or_one_class_have_no_interval():
    few = estimate(accuracy_at(0.5), np.array([0, 1] * 4), np.full(8, 0.4))
    assert few.value == 0.5 and math.isnan(few.low)
    one_class = estimate(auroc, np.zeros(50, int), np.linspace(0, 1, 50))
    assert math.isnan(one_class.value) and math.isnan(one_class.low)
    lost = difference(auroc, np.zeros(50, int), np.zeros(50), np.ones(50))
    assert math.isnan(lost.value) and not lost.is_clear


def test_memory_is_bounded_by_blocks(monkeypatch):
    labels = np.arange(100) % 2
    whole = np.concatenate(list(resamples(labels, 0, 20)))
    monkeypatch.setattr(statistics, "_BLOCK", 500)
    blocks = list(resamples(labels, 0, 20))
    assert [len(block) for block in blocks] == [5, 5, 5, 5]
    assert len(whole) == 20

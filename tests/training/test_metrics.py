"""AUROC, accuracy and macro-F1 are scikit-learn's, ties and single classes included."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from mmf_hm_concat.training.metrics import accuracy_at, auroc, macro_f1_at, value_of

# Few distinct probabilities, so that many are level.
memes = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0])),
    min_size=2,
    max_size=40,
).map(lambda rows: (np.array([y for y, _ in rows]), np.array([p for _, p in rows])))


@settings(deadline=None)
@given(memes)
def test_the_metrics_are_those_of_scikit_learn(drawn):
    labels, probabilities = drawn
    given_labels = probabilities >= 0.5
    found = [value_of(metric, labels, probabilities) for metric in (accuracy_at(0.5), auroc)]
    assert found[0] == pytest.approx(sklearn_metrics.accuracy_score(labels, given_labels))
    if 0 < labels.sum() < len(labels):
        assert found[1] == pytest.approx(sklearn_metrics.roc_auc_score(labels, probabilities))
    else:
        assert math.isnan(found[1])
    f1 = sklearn_metrics.f1_score(
        labels, given_labels, labels=[0, 1], average="macro", zero_division=0
    )
    assert value_of(macro_f1_at(0.5), labels, probabilities) == pytest.approx(f1)

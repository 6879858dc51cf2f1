"""How well a run tells the classes of a split apart: metrics, curves, mistakes counted."""

from typing import Any

import numpy as np
import pandas as pd

from mmf_hm_concat.reports import plots
from mmf_hm_concat.reports.page import Plot, Section, Table
from mmf_hm_concat.reports.run_memes import Predicted
from mmf_hm_concat.training.metrics import accuracy_at, auroc, macro_f1_at, value_of

TITLE = "How well it tells the classes apart"
THRESHOLD = 0.5
EDGES = np.linspace(0, 1, 21).tolist()  # of the bins of probabilities


def metrics_of(label_N: np.ndarray, proba_N: np.ndarray) -> dict[str, float | None]:
    """Metrics by name, all in [0, 1]; None where the labels do not define one."""
    from sklearn.metrics import average_precision_score

    if not len(label_N):
        return {}
    accuracy = value_of(accuracy_at(THRESHOLD), label_N, proba_N)
    if len(np.unique(label_N)) < 2:
        return {"auroc": None, "average_precision": None, "accuracy": accuracy, "macro_f1": None}
    return {
        "auroc": value_of(auroc, label_N, proba_N),
        "average_precision": float(average_precision_score(label_N, proba_N)),
        "accuracy": accuracy,
        "macro_f1": value_of(macro_f1_at(THRESHOLD), label_N, proba_N),
    }


def scores(predicted: Predicted, split: str, not_shown: list[str]) -> tuple[Section, dict]:
    """The section, and its numbers."""
    label_N, proba_N = predicted.labelled()
    unlabelled = len(predicted.proba) - len(label_N)
    distribution = _distribution(predicted)
    if not len(label_N):
        not_shown.append(
            f"metrics, curves, calibration and mistakes: the {split} split has no labels."
        )
        return Section(TITLE, ["No meme of this split has a label."], [distribution]), {}
    if unlabelled:
        not_shown.append(f"metrics: {unlabelled:,} memes of the {split} split have no label.")
    found = metrics_of(label_N, proba_N)
    numbers: dict[str, Any] = {**found, "confusion": _confusion(label_N, proba_N).tolist()}
    blocks: list[Table | Plot] = [_table(found, label_N)]
    if found["auroc"] is None:
        kind = "hateful" if label_N[0] else "benign"
        not_shown.append(f"ROC and precision-recall: all labelled memes of {split} are {kind}.")
    else:
        blocks += _curves(label_N, proba_N, found)
    blocks += [_matrix(label_N, proba_N), distribution]
    text = [
        f"A meme counts as hateful from P(hateful) = {THRESHOLD} on. AUROC is the share of pairs "
        "of a hateful and a benign meme in which the hateful one has the higher probability."
    ]
    return Section(TITLE, text, blocks), numbers


def _table(found: dict[str, float | None], label_N: np.ndarray) -> Table:
    hateful = float(label_N.mean())
    chance = {
        "auroc": 0.5,
        "average_precision": hateful,
        "accuracy": max(hateful, 1 - hateful),
        "macro_f1": None,
    }
    names = {
        "auroc": "AUROC",
        "average_precision": "average precision",
        "accuracy": f"accuracy at {THRESHOLD}",
        "macro_f1": f"macro-F1 at {THRESHOLD}",
    }
    rows = [(names[key], value, chance[key]) for key, value in found.items()]
    frame = pd.DataFrame(rows, columns=["metric", "this run", "without looking"])
    frame = frame.astype({"this run": float, "without looking": float})
    hateful_memes = int(label_N.sum())
    return Table(
        frame, f"Of {len(label_N):,} labelled memes, of which {hateful_memes:,} are hateful"
    )


def _curves(label_N: np.ndarray, proba_N: np.ndarray, found: dict[str, Any]) -> list[Plot]:
    from sklearn import metrics

    wrong, right, _ = metrics.roc_curve(label_N, proba_N)
    precision, recall, _ = metrics.precision_recall_curve(label_N, proba_N)
    share = float(label_N.mean())
    roc = plots.lines(
        "roc",
        f"ROC curve: the area below it is {found['auroc']:.3f}; chance gives 0.5",
        {"ROC": (wrong.tolist(), right.tolist())},
        "share of benign memes flagged",
        "share of hateful memes flagged",
        by_chance=([0, 1], [0, 1]),
        markers=False,
        unit_square=True,
    )
    precision_recall = plots.lines(
        "precision_recall",
        f"Average precision is {found['average_precision']:.3f}; chance gives {share:.2f}",
        {"precision": (recall.tolist(), precision.tolist())},
        "recall (share of hateful memes flagged)",
        "precision (hateful among flagged)",
        by_chance=([0, 1], [share, share]),
        markers=False,
        unit_square=True,
    )
    return [roc, precision_recall]


def _confusion(label_N: np.ndarray, proba_N: np.ndarray) -> np.ndarray:
    """Counts, int64 (2, 2): rows by label, columns by prediction."""
    from sklearn import metrics

    return metrics.confusion_matrix(label_N, proba_N >= THRESHOLD, labels=[0, 1])


def _matrix(label_N: np.ndarray, proba_N: np.ndarray) -> Plot:
    (_, false_alarms), (missed, _) = _confusion(label_N, proba_N).tolist()
    title = f"{missed:,} hateful memes are missed, {false_alarms:,} benign ones are flagged"
    counts = _confusion(label_N, proba_N).tolist()
    return plots.matrix("confusion", title, counts, f"predicted at {THRESHOLD}", "label")


def _distribution(predicted: Predicted) -> Plot:
    label = predicted.memes["label"].map({0: "benign", 1: "hateful"}).fillna("unlabelled")
    of_class = {
        name: predicted.proba[(label == name).to_numpy()].tolist()
        for name in plots.COLOURS
        if (label == name).any()
    }
    medians = ", ".join(f"{np.median(of):.2f} of {name} memes" for name, of in of_class.items())
    title = f"Median P(hateful): {medians}"
    return plots.histogram(
        "probabilities", title, of_class, "P(hateful)", "memes of the class (%)", EDGES
    )

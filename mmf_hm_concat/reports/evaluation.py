"""`hm_concat evaluate`: each labelled split on its own row, with intervals, for one run or many."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.evaluated import (
    Evaluated,
    LabelledData,
    ensemble_of,
    predict_run,
    read_submission,
)
from mmf_hm_concat.inference.splits import Split
from mmf_hm_concat.inference.statistics import (
    FEWEST,
    RESAMPLES,
    Estimate,
    difference,
    estimate,
)
from mmf_hm_concat.training.metrics import Metric, accuracy_at, auroc, macro_f1_at
from mmf_hm_concat.utils.text import counted

# What `--protocol papers` selects on, and all that it reports, as most papers on this data do.
SELECTED_ON, REPORTED = "dev_seen", ("dev_seen", "test_seen", "test_unseen")
# Keys of the JSON for the metrics; what they mean: docs/evaluate.md.
METRICS = ("auroc", "accuracy", "accuracy_at_threshold", "macro_f1")
SEED = 0


def evaluate(
    runs: Sequence[str],
    *,
    data: str | None = None,
    splits: Sequence[str] | None = None,
    protocol: str | None = None,
    cache_dir: Path,
) -> dict[str, Any]:
    """Evaluate runs on every labelled split; see docs/evaluate.md for the keys of what it gives.

    Args:
        runs: folders of runs (`env.save_dir`), checkpoints, or, with one split, submissions.
        data: the dataset files; None: those the runs were trained on.
        splits: annotation files, as dev_seen; None: all with labels, but train.
        protocol: "papers" or None.
        cache_dir: for what is unpacked and decoded.

    Raises:
        InputError: a run cannot be loaded, no split has labels, the data is missing or wrong, or
            what is asked for does not go together.
    """
    if protocol and splits:
        raise InputError("--protocol papers says which splits: leave --splits out.")
    notes: list[str] = []
    wanted = list(REPORTED) if protocol else splits
    loaded = LabelledData(data, wanted, SELECTED_ON if protocol else None, cache_dir, notes)
    models = [
        read_submission(run, loaded) if run.lower().endswith(".csv") else predict_run(run, loaded)
        for run in runs
    ]
    single = len(models)
    if single > 1:
        models.append(ensemble_of(models))
    kept = loaded.with_labels()
    for model in models:
        model.metrics = {name: _metrics(model, name, split.labels) for name, split in kept.items()}
    _note_what_is_missing(loaded, models, notes)
    return {
        "protocol": protocol,
        "resamples": RESAMPLES,
        "seed": SEED,
        "splits": {
            name: {"memes": len(split.memes), "hateful": int(split.labels.sum())}
            for name, split in kept.items()
        },
        "runs": [_as_json(model) for model in models[:single]],
        "mean": _mean(models, kept) if single > 1 else None,
        "ensemble": _as_json(models[-1]) if single > 1 else None,
        "difference": _differences(models[0], models[1], kept) if single == 2 else None,
        "notes": list(dict.fromkeys(notes)),
    }


# ---- numbers ----


def _of(model: Evaluated) -> dict[str, Metric]:
    metrics = {"auroc": auroc, "accuracy": accuracy_at(0.5)}
    if model.threshold is not None:
        metrics["accuracy_at_threshold"] = accuracy_at(model.threshold)
    return {**metrics, "macro_f1": macro_f1_at(0.5)}


def _metrics(model: Evaluated, split: str, labels: np.ndarray) -> dict[str, Estimate]:
    return {
        name: estimate(metric, labels, model.probabilities[split], SEED)
        for name, metric in _of(model).items()
    }


def _mean(models: Sequence[Evaluated], splits: Mapping[str, Split]) -> dict[str, Any]:
    """Mean and (sample) standard deviation over the runs, the ensemble left out."""
    found: dict[str, Any] = {}
    for split in splits:
        found[split] = {}
        for name in METRICS:
            values = [m.metrics[split][name].value for m in models[:-1] if name in m.metrics[split]]
            if len(values) == len(models) - 1:
                found[split][name] = {
                    "mean": _number(np.mean(values)),
                    "std": _number(np.std(values, ddof=1)),
                }
    return found


def _differences(
    first: Evaluated, second: Evaluated, splits: Mapping[str, Split]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    ours, theirs = _of(first), _of(second)
    for name, split in splits.items():
        found[name] = {}
        for metric in [each for each in ours if each in theirs]:
            result = difference(
                ours[metric],
                split.labels,
                first.probabilities[name],
                second.probabilities[name],
                SEED,
                theirs[metric],
            )
            found[name][metric] = {
                **{key: _number(getattr(result, key)) for key in ("value", "low", "high")},
                "is_clear": result.is_clear,
            }
    return found


def _as_json(model: Evaluated) -> dict[str, Any]:
    return {
        "name": model.name,
        "threshold": model.threshold,
        "splits": {
            split: {
                name: {key: _number(getattr(each, key)) for key in ("value", "low", "high")}
                for name, each in metrics.items()
            }
            for split, metrics in model.metrics.items()
        },
    }


def _number(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)


# ---- what has to be said ----


def _note_what_is_missing(
    data: LabelledData, models: Sequence[Evaluated], notes: list[str]
) -> None:
    for name, split in data.splits.items():
        if split.without_label and len(split.memes):
            notes.append(
                f"{name}: {counted(split.without_label, 'meme')} without a label left out."
            )
        elif split.without_label:
            notes.append(
                f"{name}: none of its {counted(split.without_label, 'meme')} has a label, so it is "
                "not evaluated."
            )
    if any(_is_perfect(model, name) for model in models for name in model.metrics):
        notes.append(
            "An interval from 1 to 1 says only that no meme was wrong. By the rule of three, up to "
            "3 / memes may still be."
        )
    for name, split in data.with_labels().items():
        hateful = int(split.labels.sum())
        fewer = min(hateful, len(split.memes) - hateful)
        if fewer == 0:
            kind = "hateful" if hateful else "benign"
            notes.append(f"{name}: all memes are {kind}, so AUROC is not defined.")
        if fewer < FEWEST:
            notes.append(
                f"{name}: {hateful} hateful and {len(split.memes) - hateful} benign: too few for "
                f"intervals, which need {FEWEST} of each."
            )


def _is_perfect(model: Evaluated, split: str) -> bool:
    return model.metrics[split]["accuracy"].low == 1

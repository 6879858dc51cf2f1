"""`hm_concat evaluate`: each labelled split on its own row, with intervals, for one run or many."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmf_hm_concat.data.layout import find_layout
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.classifier import Member, NeedsMMF, load_member
from mmf_hm_concat.inference.splits import (
    Split,
    labelled,
    labelled_splits,
    predict_memes,
    validation_of,
)
from mmf_hm_concat.inference.statistics import (
    FEWEST,
    RESAMPLES,
    Estimate,
    Metric,
    accuracy_at,
    auroc,
    best_threshold,
    difference,
    estimate,
    macro_f1_at,
)
from mmf_hm_concat.inference.submission import SHOWN, read_rows, values_of
from mmf_hm_concat.utils.text import counted, first_and_more

logger = logging.getLogger("mmf_hm_concat")

# What `--protocol papers` selects on, and all that it reports, as most papers on this data do.
SELECTED_ON, REPORTED = "dev_seen", ("dev_seen", "test_seen", "test_unseen")
# Keys of the JSON, and the columns of the table.
COLUMNS = {
    "auroc": "AUROC",
    "accuracy": "accuracy at 0.5",
    "accuracy_at_threshold": "at threshold",
    "macro_f1": "macro-F1 at 0.5",
}
SEED = 0


@dataclass
class Evaluated:
    """One run, one submission, or the ensemble of several.

    Attributes:
        name: as it was given.
        probabilities: split -> float64 (N,), P(hateful) of its labelled memes.
        threshold: the most accurate on validation; None where that is not known.
        validation: P(hateful) of the validation split, and its labels; None for a submission.
    """

    name: str
    probabilities: dict[str, np.ndarray]
    threshold: float | None = None
    validation: tuple[np.ndarray, np.ndarray] | None = None
    metrics: dict[str, dict[str, Estimate]] = field(default_factory=dict)


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
    loaded = _Data(data, wanted, SELECTED_ON if protocol else None, cache_dir, notes)
    models = [_submission(run, loaded) if _is_csv(run) else _run(run, loaded) for run in runs]
    single = len(models)
    if single > 1:
        models.append(_ensemble(models))
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


# ---- what is evaluated ----


class _Data:
    """The splits, read when the first run says where they are, and what each is used for."""

    def __init__(
        self,
        data: str | None,
        names: Sequence[str] | None,
        select_on: str | None,
        cache_dir: Path,
        notes: list[str],
    ):
        self.data, self.names, self.select_on = data, names, select_on
        self.cache_dir, self.notes = cache_dir, notes
        self.found: str | None = None
        self.splits: dict[str, Split] = {}
        self._validation: dict[str, tuple[str, Split] | None] = {}

    def read(self, data_dir: str) -> dict[str, Split]:
        """The splits of ``--data``, else of ``data_dir``, which must be the same for all runs."""
        data_dir = self.data or data_dir
        if self.found is None:
            self.splits = labelled_splits(data_dir, self.names, self.cache_dir)
            self.found = data_dir
        if data_dir != self.found:
            raise InputError(
                f"The runs were trained on different data, {self.found} and {data_dir}. Say which "
                "to evaluate on: --data DIR."
            )
        return self.splits

    def validation(self, spec: str) -> tuple[str, Split] | None:
        """Name and memes of a validation split; None where the data has none with labels."""
        if spec not in self._validation:
            self._validation[spec] = self._read_validation(spec)
        return self._validation[spec]

    def _read_validation(self, spec: str) -> tuple[str, Split] | None:
        assert self.found is not None
        try:
            layout = find_layout(
                self.found, {"val": spec}, cache_dir=self.cache_dir, needed=("val",)
            )
        except InputError:  # the data that --data names need not have one
            return None
        name = "+".join(path.stem for path in layout.annotations["val"])
        split = labelled(layout, "val")
        return (name, split) if len(split.memes) else None

    def with_labels(self) -> dict[str, Split]:
        kept = {name: split for name, split in self.splits.items() if len(split.memes)}
        if not kept:
            raise InputError(
                f"{self.found}: no labels in {', '.join(self.splits)}, so nothing can be "
                "evaluated. Name a split that has some: --splits dev, or --splits train."
            )
        return kept


def _run(path: str, data: _Data) -> Evaluated:
    member = load_or_explain(Path(path))
    config = member.config
    splits = data.read(str(config["dataset_config"]["hm_competition"].get("data_dir")))
    spec = data.select_on or validation_of(config)
    validation = data.validation(spec)
    _note_selection(path, spec, validation, config, data)
    tables = [split.memes for split in splits.values() if len(split.memes)]
    if validation:
        tables.append(validation[1].memes)
    if not tables:
        data.with_labels()
    # A meme that is in several splits is predicted once.
    memes = pd.concat(tables).drop_duplicates(["path", "text"]).reset_index(drop=True)
    found = predict_memes(member, memes, data.cache_dir)
    by_meme = dict(zip(zip(memes["path"], memes["text"], strict=True), found, strict=True))

    def of(table: pd.DataFrame) -> np.ndarray:
        return np.array([by_meme[k] for k in zip(table["path"], table["text"], strict=True)])

    probabilities = {name: of(split.memes) for name, split in splits.items()}
    chosen = (of(validation[1].memes), validation[1].labels) if validation else None
    return Evaluated(path, probabilities, _threshold(chosen), chosen)


def load_or_explain(path: Path) -> Member:
    """`load_member`; what it cannot load, as a run of another model, gets the way that goes."""
    try:
        return load_member(path)
    except NeedsMMF as error:
        folder = path if path.is_dir() else path.parent
        raise InputError(
            f"{error}\nEvaluate what mmf_predict writes instead, split by split:\n"
            f"  mmf_predict config={folder}/config.yaml env.save_dir={folder} "
            "dataset_config.hm_competition.splits.test=dev_seen "
            "evaluation.predict_file=dev_seen.csv\n"
            "  hm_concat evaluate dev_seen.csv --splits dev_seen --data DIR"
        ) from None


def _is_csv(run: str) -> bool:
    return Path(run).suffix.lower() == ".csv"


def _submission(path: str, data: _Data) -> Evaluated:
    if not data.data or not data.names or len(data.names) != 1:
        raise InputError(
            f"{path}: a submission does not say what it is of. Name its split and the dataset "
            "files: --splits dev_seen --data DIR (one split for all submissions)."
        )
    (name,) = data.names
    memes = data.read(data.data)[name].memes
    rows, problems = read_rows(Path(path))
    ids, values = values_of(rows)
    by_number = dict(zip(ids, values, strict=True))
    if len(by_number) < len(ids):
        problems.append("An id is there more than once.")
    lacking = [number for number in memes["number"] if number not in by_number]
    if lacking and not problems:
        problems.append(
            f"It has no row for {counted(len(lacking), 'meme')} of {name} (ids "
            f"{', '.join(first_and_more(lacking, SHOWN))}): it is of another split, or cut."
        )
    if not problems and not all(v is not None and 0 <= v <= 1 for v in values):
        problems.append("A proba is not a number from 0 to 1.")
    if problems:
        raise InputError(f"{path}: cannot be evaluated. {problems[0]}")
    data.notes.append(f"{path} is a submission: without validation, no threshold is chosen for it.")
    found = np.array([by_number[number] for number in memes["number"]], np.float64)
    return Evaluated(path, {name: found})


def _ensemble(models: Sequence[Evaluated]) -> Evaluated:
    """The mean of the probabilities, and the threshold that suits it."""
    mean = {
        name: np.mean([model.probabilities[name] for model in models], axis=0)
        for name in models[0].probabilities
    }
    chosen = [model.validation for model in models]
    validation = None
    if all(each is not None and len(each[0]) == len(chosen[0][0]) for each in chosen):  # type: ignore[index]
        validation = (np.mean([each[0] for each in chosen], axis=0), chosen[0][1])  # type: ignore[index]
    return Evaluated(f"ensemble of {len(models)}", mean, _threshold(validation), validation)


def _threshold(validation: tuple[np.ndarray, np.ndarray] | None) -> float | None:
    return None if validation is None else best_threshold(validation[1], validation[0])


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
        for name in COLUMNS:
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
        for metric in ours.keys() & theirs.keys():
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


def _note_selection(
    path: str,
    spec: str,
    validation: tuple[str, Split] | None,
    config: Mapping[str, Any],
    data: _Data,
) -> None:
    if validation is None:
        data.notes.append(
            f"{path}: this data has no labelled validation split ({spec}), so no threshold is "
            "chosen."
        )
        return
    name = validation[0]
    if data.select_on and validation_of(config).strip() != data.select_on:
        data.notes.append(
            f"{path}: its checkpoint was chosen on {validation_of(config)}, not on "
            f"{data.select_on}, so this is not quite the papers' protocol. Train with "
            f"dataset_config.hm_competition.splits.val={data.select_on}."
        )
    shared = [
        each
        for each, split in data.splits.items()
        if len(split.memes) and split.memes["number"].isin(validation[1].memes["number"]).any()
    ]
    if shared:
        data.notes.append(
            f"Checkpoint and threshold were chosen on {name}, so {' and '.join(shared)} "
            f"{'flatters' if len(shared) == 1 else 'flatter'} the run: expect less on new memes."
        )


def _note_what_is_missing(data: _Data, models: Sequence[Evaluated], notes: list[str]) -> None:
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


# ---- as text ----


def as_text(report: Mapping[str, Any]) -> str:
    """The report for a person: a table for each run, what they come to together, and notes."""
    parts = []
    for each in report["runs"]:
        parts.append(_table(report, each, each["name"]))
    count = len(report["runs"])
    if report["mean"]:
        rows = [
            {"split": split, **{title: _mean_cell(cells.get(k)) for k, title in COLUMNS.items()}}
            for split, cells in report["mean"].items()
        ]
        title = f"Mean and standard deviation of the {count} runs"
        parts.append(f"{title}\n{pd.DataFrame(rows).to_string(index=False)}")
        title = f"Ensemble of the {count} runs (mean of the probabilities)"
        parts.append(_table(report, report["ensemble"], title))
    if report["difference"]:
        parts.append(_in_words(report))
    parts.append(
        f"In brackets: 95 % intervals of a stratified bootstrap ({report['resamples']:,} "
        "resamples). They say how much depends on the choice of memes, not of the seed."
    )
    return "\n\n".join([*parts, *report["notes"]])


def _table(report: Mapping[str, Any], run: Mapping[str, Any], title: str) -> str:
    threshold = run["threshold"]
    chosen = "" if threshold is None else f"; threshold chosen on validation: {threshold:.3g}"
    rows = [
        {
            "split": split,
            "memes": f"{report['splits'][split]['memes']:,}",
            "hateful": f"{report['splits'][split]['hateful']:,}",
            **{title: _cell(metrics.get(key)) for key, title in COLUMNS.items()},
        }
        for split, metrics in run["splits"].items()
    ]
    return f"{title}{chosen}\n{pd.DataFrame(rows).to_string(index=False)}"


def _cell(metric: Mapping[str, Any] | None) -> str:
    if metric is None or metric["value"] is None:
        return "-"
    if metric["low"] is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]"


def _mean_cell(metric: Mapping[str, Any] | None) -> str:
    if metric is None or metric["mean"] is None:
        return "-"
    return f"{metric['mean']:.3f} ± {metric['std']:.3f}"


def _in_words(report: Mapping[str, Any]) -> str:
    """Of two runs, which is better, split by split and metric by metric."""
    first, second = (run["name"] for run in report["runs"])
    lines = [f"{second} against {first}, on the same memes"]
    for split, metrics in report["difference"].items():
        for key in ("auroc", "accuracy"):
            lines.append(f"{split}, {COLUMNS[key]}: {_verdict(metrics[key], first, second)}")
    lines.append(
        "This is about these two checkpoints. Whether one method is better than another takes "
        "several seeds of each (hm_concat repeat)."
    )
    return "\n".join(lines)


def _verdict(found: Mapping[str, Any], first: str, second: str) -> str:
    value, low, high = (found[key] for key in ("value", "low", "high"))
    if value is None:
        return "not defined."
    if value == 0 and low == high == 0:
        return "the same."
    if low is None:
        return f"{second} is {value:+.3f}; too few memes to say whether that means anything."
    interval = f"by {abs(value):.3f} (95 % interval of the difference {low:+.3f} to {high:+.3f})"
    if found["is_clear"]:
        return f"{second if value > 0 else first} is better {interval}."
    return f"they cannot be told apart: {second if value > 0 else first} is ahead {interval}."

"""The report of `hm_concat evaluate` for a person: tables, and in words what they come to."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

# Metrics of the report, and their columns.
COLUMNS = {
    "auroc": "AUROC",
    "accuracy": "accuracy at 0.5",
    "accuracy_at_threshold": "at threshold",
    "macro_f1": "macro-F1 at 0.5",
}


def as_text(report: Mapping[str, Any]) -> str:
    """The report for a person: a table for each run, what they come to together, and notes."""
    parts = []
    for each in report["runs"]:
        parts.append(_table(report, each, each["name"]))
    count = len(report["runs"])
    if report["mean"]:
        rows = [
            {"split": split, **{title: mean_cell(cells.get(k)) for k, title in COLUMNS.items()}}
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
            **{title: cell(metrics.get(key)) for key, title in COLUMNS.items()},
        }
        for split, metrics in run["splits"].items()
    ]
    return f"{title}{chosen}\n{pd.DataFrame(rows).to_string(index=False)}"


def cell(metric: Mapping[str, Any] | None) -> str:
    if metric is None or metric["value"] is None:
        return "-"
    if metric["low"] is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]"


def mean_cell(metric: Mapping[str, Any] | None) -> str:
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
    if value == 0 == low == high:
        return "the same."
    ahead = second
    if value < 0:  # said of the one that is ahead
        ahead, value = first, -value
        low, high = (None, None) if low is None else (-high, -low)
    if low is None:
        return f"{ahead} is ahead by {value:.3f}, on too few memes to say more."
    interval = f"(95 % interval {low:+.3f} to {high:+.3f})"
    if found["is_clear"]:
        return f"{ahead} is better by {value:.3f} {interval}."
    if value < 0.0005:
        return f"they cannot be told apart: no difference {interval}."
    return f"they cannot be told apart: {ahead} is ahead by {value:.3f} {interval}."

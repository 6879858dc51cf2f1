"""What a series of trainings comes to: settings over their seeds, and the best on validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmf_hm_concat.reports.evaluation import evaluate
from mmf_hm_concat.reports.evaluation_text import COLUMNS, as_text, cell, mean_cell


def describe(
    settings: Mapping[str, Sequence[str]],
    data: str | None,
    splits: Sequence[str] | None,
    cache: Path,
) -> str:
    """The evaluation of one setting's runs; of several settings, a row for each and split.

    Args:
        settings: setting -> folders of its runs.
        data, splits, cache: see `evaluation.evaluate`.

    Raises:
        InputError: see `evaluation.evaluate`.
    """
    reports = {
        setting: evaluate(runs, data=data, splits=splits, cache_dir=cache)
        for setting, runs in settings.items()
    }
    if len(reports) == 1:
        return as_text(next(iter(reports.values())))
    rows = []
    for split in dict.fromkeys(split for report in reports.values() for split in report["splits"]):
        for setting, report in reports.items():
            row = {"split": split, "setting": setting, "runs": str(len(report["runs"]))}
            if report["mean"]:
                found = report["mean"][split]
                row |= {title: mean_cell(found.get(key)) for key, title in COLUMNS.items()}
                row["AUROC of the ensemble"] = cell(report["ensemble"]["splits"][split]["auroc"])
            else:
                found = report["runs"][0]["splits"][split]
                row |= {title: cell(found.get(key)) for key, title in COLUMNS.items()}
            rows.append(row)
    table = pd.DataFrame(rows).fillna("-").to_string(index=False)
    notes = dict.fromkeys(note for report in reports.values() for note in report["notes"])
    ways = "Mean and standard deviation over the seeds"
    if any(report["mean"] is None for report in reports.values()):
        ways += "; of one run, its 95 % interval"
    return "\n\n".join([table, f"{ways}.", *notes])


def ranked(values: Mapping[str, Sequence[float]], criterion: str, minimize: bool) -> str:
    """Which setting is best on validation, and how far the next is behind, in words.

    Args:
        values: setting -> the best value of ``criterion`` that each of its runs reached.
    """
    means = {setting: float(np.mean(each)) for setting, each in values.items()}
    order = sorted(means, key=lambda setting: means[setting] if minimize else -means[setting])
    first, second = order[:2]
    text = (
        f"Best on validation, by the mean of {criterion}: {first} with {means[first]:.4f}; next "
        f"{second} with {means[second]:.4f}."
    )
    one, other = values[first], values[second]
    if min(len(one), len(other)) < 2:
        return f"{text} With one seed each, chance may have decided that: try --seeds 5."
    from scipy.stats import ttest_ind  # takes a second to import

    with np.errstate(all="ignore"):
        chance = float(ttest_ind(one, other, equal_var=False).pvalue)
    shown = f"(Welch's t test over the seeds: p = {chance:.2g})"
    if chance < 0.05:
        return f"{text} That is more than seeds alone would do {shown}."
    if np.isnan(chance):
        return f"{text} Their seeds do not differ at all."
    return f"{text} Seeds alone may do that: the two cannot be told apart {shown}."

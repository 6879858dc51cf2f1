"""How a training went, epoch by epoch: the first section of a report."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mmf_hm_concat.reports import plots
from mmf_hm_concat.reports.page import Plot, Section, Table

TITLE = "How the training went"
MOST_ROWS = 40  # of the table; the plots show all epochs
LOSS = "loss"


def learning_curves(records: Sequence[Mapping[str, Any]], not_shown: list[str]) -> Section:
    """Losses and validation metrics by epoch, from the records of `metrics.jsonl`."""
    if not records:
        not_shown.append(
            "learning curves: the run's folder has no metrics.jsonl, which trainings write since "
            "release 0.2.0."
        )
        return Section(TITLE, ["There is no record of it."])
    table = pd.DataFrame(
        [
            {
                "epoch": record["epoch"],
                "training loss": _number(record.get("train_loss")),
                **{name: _number(value) for name, value in _validation(record).items()},
                "learning rate": f"{_number(record.get('lr')):.2g}",
                "samples/s": _number(record.get("samples_per_second")),
                "best so far": "yes" if record.get("best") else "",
            }
            for record in records
        ]
    )
    text = ["Metrics are of the validation split. The grey line is the epoch of best.ckpt."]
    if len(table) > MOST_ROWS:
        text.append(f"The table shows the last {MOST_ROWS} of {len(table)} epochs.")
    best = [record["epoch"] for record in records if record.get("best")]
    mark = best[-1] if best else None
    metrics = list(table.columns[2:-3])
    blocks: list[Table | Plot] = [_losses(table, [n for n in metrics if LOSS in n], mark)]
    others = [name for name in metrics if LOSS not in name and table[name].notna().any()]
    if others:
        blocks.append(_metrics(table, others, mark))
    blocks.append(Table(table.tail(MOST_ROWS), "Epochs"))
    return Section(TITLE, text, blocks)


def _validation(record: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics by name; the sum of the data sets' losses only where there are several."""
    found = record.get("val")
    found = dict(found) if isinstance(found, Mapping) else {}
    if sum(name.endswith("/loss") for name in found) == 1:
        found.pop("total_loss", None)
    datasets = {name.rpartition("/")[0] for name in found}
    if len(datasets) == 1:
        found = {name.rpartition("/")[2]: value for name, value in found.items()}
    return {("validation loss" if n == LOSS else n): value for n, value in found.items()}


def _losses(table: pd.DataFrame, names: Sequence[str], mark: int | None) -> Plot:
    epochs = table["epoch"].tolist()
    series = {name: (epochs, table[name].tolist()) for name in ["training loss", *names]}
    title = f"Loss over {len(epochs)} epochs" if len(epochs) > 1 else "Loss of the one epoch"
    if names and table[names[0]].notna().any() and len(epochs) > 1:
        least = table.loc[table[names[0]].idxmin()]
        title = f"The {names[0]} is lowest, {least[names[0]]:.3f}, at epoch {least['epoch']}"
    return plots.lines("loss", title, series, "epoch", "loss (nats)", mark=mark)


def _metrics(table: pd.DataFrame, names: Sequence[str], mark: int | None) -> Plot:
    epochs = table["epoch"].tolist()
    series = {name: (epochs, table[name].tolist()) for name in names[: len(plots.LINES)]}
    best = "; ".join(f"{name} reaches {table[name].max():.3f}" for name in series)
    title = f"On validation, {best}"
    return plots.lines("metrics", title, series, "epoch", "metric", mark=mark)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")

"""Runs, submissions and ensembles on the labelled splits of a data set: what can be scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmf_hm_concat.data.layout import find_layout
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.member import Member, NeedsMMF, load_member
from mmf_hm_concat.inference.splits import (
    Split,
    labelled,
    labelled_splits,
    predict_memes,
    validation_of,
)
from mmf_hm_concat.inference.statistics import Estimate, best_threshold
from mmf_hm_concat.inference.submission import SHOWN, read_rows, values_of
from mmf_hm_concat.utils.text import counted, first_and_more

# Columns of data/table.py that a prediction depends on; the number, where a file gives vectors.
WHAT_COUNTS = ["number", "path", "text"]


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


class LabelledData:
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


def predict_run(path: str, data: LabelledData) -> Evaluated:
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
    memes = pd.concat(tables).drop_duplicates(WHAT_COUNTS).reset_index(drop=True)
    found = predict_memes(member, memes, data.cache_dir)
    by_meme = dict(zip(memes[WHAT_COUNTS].itertuples(index=False, name=None), found, strict=True))

    def of(table: pd.DataFrame) -> np.ndarray:
        return np.array([by_meme[k] for k in table[WHAT_COUNTS].itertuples(index=False, name=None)])

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


def read_submission(path: str, data: LabelledData) -> Evaluated:
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


def ensemble_of(models: Sequence[Evaluated]) -> Evaluated:
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


def _note_selection(
    path: str,
    spec: str,
    validation: tuple[str, Split] | None,
    config: Mapping[str, Any],
    data: LabelledData,
) -> None:
    if validation is None:
        data.notes.append(
            f"{path}: this data has no labelled validation split ({spec}), so no threshold is "
            "chosen."
        )
        return
    name = validation[0]
    trained_on = data.validation(validation_of(config))
    if data.select_on and trained_on and trained_on[0] != data.select_on:
        data.notes.append(
            f"{path}: its checkpoint was chosen on {trained_on[0]}, not on {data.select_on}, so "
            "this is not quite the papers' protocol. Train with "
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

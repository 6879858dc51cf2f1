"""How good a submission is, where the labels are known."""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmf_hm_concat.data.annotations import read_json_lines
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.submission import ID, SHOWN, read_rows, values_of
from mmf_hm_concat.training.metrics import accuracy_at, auroc, macro_f1_at, value_of
from mmf_hm_concat.utils.files import open_regular
from mmf_hm_concat.utils.text import first_and_more


def read_truth(path: str | Path) -> pd.DataFrame:
    """Labels of a test split: a csv with `id` and `label`, or a jsonl as the dataset has them.

    Returns:
        Columns ``number`` and ``label``, both int64.

    Raises:
        InputError: cannot be read, or not of that form; an id is no whole number or there twice,
            a label is not 0 or 1. The first such line is named.
    """
    path = Path(path)
    labels: dict[int, int] = {}
    for line, row in _csv_rows(path) if path.suffix == ".csv" else _jsonl_rows(path):
        # As text, so that neither 0.7 nor true passes for a whole number.
        given, label = str(row.get("id", "missing")), str(row.get("label", "missing"))
        if not ID.fullmatch(given):
            wrong = f"id is {given[:40]}: write a whole number"
        elif label not in ("0", "1"):
            wrong = f"label is {label[:40]}: write 0 or 1"
        elif int(given) in labels:
            wrong = f"id {given} is there twice: take one of them out"
        else:
            labels[int(given)] = int(label)
            continue
        raise InputError(f"{path}, line {line}: each meme needs an id and a label, once; {wrong}.")
    if not labels:
        raise InputError(f"{path}: it has no memes. Each line needs an id and a label.")
    return pd.DataFrame({"number": labels.keys(), "label": labels.values()}, dtype="int64")


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with open_regular(path) as file:
            rows = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
            for row in rows:
                yield rows.line_num, row
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}).") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: this is not a CSV in UTF-8 ({error}).") from None


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    lines, rows, problems = read_json_lines(path)
    if problems:
        raise InputError("\n".join(first_and_more(problems, SHOWN)))
    return zip(lines, rows, strict=True)


def score(path: str | Path, truth: pd.DataFrame) -> dict[str, float | None]:
    """AUROC (None when its memes have one class only), accuracy and macro-F1 of a submission.

    Accuracy and macro-F1 are those of its column `label`, whatever the threshold was.

    Args:
        truth: columns ``number`` and ``label``, as `read_truth` gives them; more memes than the
            submission has are fine.

    Raises:
        InputError: the file is no submission, or the truth lacks some of its memes.
    """
    rows, problems = read_rows(Path(path))
    ids, probabilities = values_of(rows)
    labels = dict(zip(truth["number"].tolist(), truth["label"].tolist(), strict=True))
    lacking = [row[0] for row, number in zip(rows, ids, strict=True) if number not in labels]
    if lacking:
        problems.append(f"The truth has no label for: {', '.join(first_and_more(lacking, SHOWN))}.")
    if not rows or any(value is None or not 0 <= value <= 1 for value in probabilities):
        problems.append("It has no rows, or a proba that is not a number from 0 to 1.")
    if problems:
        raise InputError(f"{path}: cannot be scored. {problems[0]}")
    true = np.array([labels[number] for number in ids])
    given = np.array([row[2] == "1" for row in rows], float)
    area = value_of(auroc, true, np.array(probabilities, float))
    return {
        "auroc": None if math.isnan(area) else area,
        "accuracy": value_of(accuracy_at(0.5), true, given),
        "macro_f1": value_of(macro_f1_at(0.5), true, given),
    }

"""How good a submission is, where the labels are known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.submission import SHOWN, read_rows, values_of


def read_truth(path: str | Path) -> pd.DataFrame:
    """Labels of a test split: a csv with `id` and `label`, or a jsonl as the dataset has them.

    Returns:
        Columns ``number`` and ``label``, both int64.

    Raises:
        InputError: cannot be read, or not of that form.
    """
    path = Path(path)
    try:
        if path.suffix == ".csv":
            table = pd.read_csv(path, dtype=str, encoding="utf-8-sig")
        else:
            # Not splitlines: it also splits at U+2028, which JSON lets stand within a text.
            lines = path.read_text("utf-8-sig").split("\n")
            table = pd.DataFrame([json.loads(line) for line in lines if line.strip()])
        truth = pd.DataFrame({"number": table["id"], "label": table["label"]}).astype("int64")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}).") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: each meme needs an id and a label ({error}).") from None
    wrong = truth[~truth["label"].isin([0, 1]) | truth["number"].duplicated()]
    if len(wrong):
        raise InputError(
            f"{path}: id {wrong['number'].iloc[0]} is there twice, or its label is not 0 or 1."
        )
    return truth


def score(path: str | Path, truth: pd.DataFrame) -> dict[str, float | None]:
    """AUROC (None when its memes have one class only) and accuracy of a submission.

    Args:
        truth: columns ``number`` and ``label``, as `read_truth` gives them; more memes than the
            submission has are fine.

    Raises:
        InputError: the file is no submission, or the truth lacks some of its memes.
    """
    from sklearn.metrics import roc_auc_score  # takes seconds to import

    rows, problems = read_rows(Path(path))
    ids, probabilities = values_of(rows)
    labels = dict(zip(truth["number"].tolist(), truth["label"].tolist(), strict=True))
    lacking = [row[0] for row, number in zip(rows, ids, strict=True) if number not in labels]
    if lacking:
        problems.append(f"The truth has no label for: {', '.join(lacking[:SHOWN])}.")
    if not rows or any(value is None or not 0 <= value <= 1 for value in probabilities):
        problems.append("It has no rows, or a proba that is not a number from 0 to 1.")
    if problems:
        raise InputError(f"{path}: cannot be scored. {problems[0]}")
    true = [labels[number] for number in ids]
    given = [int(row[2] == "1") for row in rows]
    return {
        "auroc": float(roc_auc_score(true, probabilities)) if len({*true}) == 2 else None,
        "accuracy": float(np.mean(np.equal(true, given))),
    }

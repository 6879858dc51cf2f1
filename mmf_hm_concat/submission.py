"""The competition's CSV, `id,proba,label`: written checked, and checked before an upload."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.files import replacing

HEADER = ["id", "proba", "label"]
# As many ids or lines of one kind of problem as a person reads.
SHOWN = 5


@dataclass(frozen=True)
class Summary:
    """What a submission says as a whole; `str` gives it as log lines.

    Attributes:
        rows: number of memes.
        share_hateful: share of them labelled hateful, in [0, 1].
        mean_hateful, mean_benign: mean P(hateful) of those labelled so; None where there are none.
    """

    path: Path
    rows: int
    share_hateful: float
    mean_hateful: float | None
    mean_benign: float | None

    def __str__(self) -> str:
        means = [
            f"mean proba of the {name} {value:.3f}"
            for name, value in (("hateful", self.mean_hateful), ("benign", self.mean_benign))
            if value is not None
        ]
        return (
            f"Wrote {self.path}: {self.rows} memes, {self.share_hateful:.1%} labelled hateful, "
            f"{', '.join(means)}."
        )


def write_submission(
    path: str | Path,
    memes: pd.DataFrame,
    probabilities: np.ndarray,
    *,
    threshold: float = 0.5,
    id_format: str = "number",
) -> Summary:
    """Write P(hateful) of a test split; a wrong file never takes the place of an older one.

    Args:
        memes: the split in the order of its file (columns: memes.py).
        probabilities: float (N,), in [0, 1]; written so that reading gives the same number back.
        threshold: label is 1 from this probability on.
        id_format: "number" (1236, what the competition expects) or "padded" (01236).

    Raises:
        InputError: no memes, another number of probabilities, one that is not in [0, 1], a
            repeated id, another `id_format`, a threshold outside (0, 1], or an unwritable path.
    """
    path, probabilities = Path(path), np.asarray(probabilities, dtype=np.float64)
    if id_format not in ("number", "padded"):
        raise InputError(f"evaluation.id_format: {id_format!r} is neither number nor padded.")
    if not 0 < threshold <= 1:
        raise InputError(f"evaluation.threshold: {threshold!r} is not in (0, 1].")
    if len(memes) == 0:
        raise InputError(f"{path}: the test split has no memes, so there is nothing to submit.")
    if probabilities.shape != (len(memes),):
        raise InputError(
            f"{path}: {probabilities.shape} probabilities for {len(memes)} memes; there must be "
            "one for each."
        )
    numbers = [int(number) for number in memes["number"]]
    ids = [str(n) if id_format == "number" else f"{n:05d}" for n in numbers]
    labels = (probabilities >= threshold).astype(int)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(zip(ids, map(repr, probabilities.tolist()), labels.tolist(), strict=True))
    try:
        with replacing(path) as temporary:
            temporary.write_text(text.getvalue(), "utf-8", newline="")
            problems = check_submission(temporary, numbers, threshold=threshold, judge_spread=False)
            if problems:
                raise InputError(f"{path}: not written, the predictions are wrong. {problems[0]}")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error}).") from None
    hateful = labels == 1
    return Summary(
        path,
        len(memes),
        float(hateful.mean()),
        float(probabilities[hateful].mean()) if hateful.any() else None,
        float(probabilities[~hateful].mean()) if not hateful.all() else None,
    )


def check_submission(
    path: str | Path,
    expected: Sequence[int],
    *,
    threshold: float = 0.5,
    judge_spread: bool = True,
) -> list[str]:
    """What is wrong with a submission, each problem a sentence with what it means; [] if nothing.

    Args:
        expected: the test file's ids as numbers, in its order.
        threshold: what the labels were made with.
        judge_spread: also object to probabilities that are all the same.

    Raises:
        InputError: there is no such file.
    """
    lines, problem = _lines(Path(path))
    if problem:
        return [problem]
    header, rows = lines[0], lines[1:]
    if header != HEADER:
        return [
            f"Line 1: the header is {','.join(header)[:60]!r}, it must be 'id,proba,label': the "
            "upload is refused."
        ]
    problems = [
        f"Line {at}: {len(row)} fields instead of 3: the upload is refused."
        for at, row in enumerate(rows, 2)
        if len(row) != 3
    ][:SHOWN]
    if problems:
        return problems
    ids = [_number(row[0], int) for row in rows]
    probabilities = [_number(row[1], float) for row in rows]
    problems += _id_problems(ids, [int(number) for number in expected], rows)
    bad = [
        (at, row[1])
        for at, (row, value) in enumerate(zip(rows, probabilities, strict=True), 2)
        if value is None or not 0 <= value <= 1
    ]
    if bad:
        problems.append(
            f"proba is not a number from 0 to 1 {_where(bad)}: the upload is refused or scored wrong."
        )
    bad = [(at, row[2]) for at, row in enumerate(rows, 2) if row[2] not in ("0", "1")]
    if bad:
        problems.append(f"label is neither 0 nor 1 {_where(bad)}: the upload is refused.")
    contrary = [
        (at, f"{row[1]} with label {row[2]}")
        for at, (row, value) in enumerate(zip(rows, probabilities, strict=True), 2)
        if value is not None and row[2] in ("0", "1") and (value >= threshold) != (row[2] == "1")
    ]
    if contrary:
        problems.append(
            f"label contradicts proba at the threshold {threshold} {_where(contrary)}: accuracy "
            "and AUROC then judge different predictions."
        )
    if judge_spread and len(rows) > 1 and len({row[1] for row in rows}) == 1:
        problems.append(
            f"All probabilities are {rows[0][1]}: AUROC will be 0.5, as if by chance. The model was "
            "not trained, or not loaded."
        )
    return problems


def _lines(path: Path) -> tuple[list[list[str]], str | None]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}).") from None
    if not content.strip():
        return [], "The file is empty: the upload is refused."
    if content.startswith(b"\xef\xbb\xbf"):
        return [], "The file begins with a byte order mark: save it as plain UTF-8, without BOM."
    try:
        lines = list(csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        return [], f"This is not a CSV in UTF-8 ({error}): the upload is refused."
    if not lines or (len(lines[0]) == 1 and lines[0] != ["id"]):
        return [], "Line 1: there are no commas. Separate the fields by commas: id,proba,label."
    return lines, None


def _id_problems(ids: list[int | None], expected: list[int], rows: list[list[str]]) -> list[str]:
    problems = []
    bad = [(at, row[0]) for at, (i, row) in enumerate(zip(ids, rows, strict=True), 2) if i is None]
    if bad:
        problems.append(f"id is not a number {_where(bad)}: the upload is refused.")
    given, wanted = Counter(i for i in ids if i is not None), set(expected)
    repeated = [i for i, count in given.items() if count > 1]
    for what, found in (
        ("missing", [i for i in expected if i not in given]),
        ("not in the test file", [i for i in given if i not in wanted]),
        ("there more than once", repeated),
    ):
        if found:
            some = ", ".join(map(str, found[:SHOWN])) + (", ..." if len(found) > SHOWN else "")
            problems.append(f"{len(found)} ids are {what} ({some}): the upload is refused.")
    if not problems and ids != expected:
        at = next(i for i, (a, b) in enumerate(zip(ids, expected, strict=True)) if a != b)
        problems.append(
            f"The ids are not in the test file's order (first at line {at + 2}: {ids[at]} instead "
            f"of {expected[at]}): harmless if the site joins by id, else every score is wrong."
        )
    return problems


def _where(bad: list[tuple[int, str]]) -> str:
    """In how many lines, and the first of them."""
    at, value = bad[0]
    return f"in {len(bad)} lines (first line {at}: {value[:40]!r})"


def _number(text: str, kind: type) -> float | int | None:
    try:
        value = kind(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None
    return None if value is None or not math.isfinite(value) else value


def read_truth(path: str | Path) -> pd.DataFrame:
    """Labels of a test split: a csv with `id` and `label`, or a jsonl as the release has them.

    Returns:
        Columns ``number`` and ``label``, both int64.

    Raises:
        InputError: cannot be read, or not of that form.
    """
    path = Path(path)
    try:
        if path.suffix == ".csv":
            table = pd.read_csv(path, dtype={"id": str})
        else:
            lines = path.read_text("utf-8").splitlines()
            table = pd.DataFrame([json.loads(line) for line in lines if line.strip()])
        return pd.DataFrame(
            {"number": table["id"].astype("int64"), "label": table["label"].astype("int64")}
        )
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}).") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: each meme needs an id and a label of 0 or 1 ({error})."
        ) from None


def score(path: str | Path, truth: pd.DataFrame) -> dict[str, float | None]:
    """AUROC (None when the truth has one class only) and accuracy of a checked submission.

    Args:
        truth: columns ``number`` and ``label``, as `read_truth` gives them.

    Raises:
        InputError: the truth lacks memes of the submission.
    """
    from sklearn.metrics import roc_auc_score  # takes seconds to import

    joined = pd.read_csv(path).merge(truth, left_on="id", right_on="number", how="left")
    if joined["label_y"].isna().any():
        missing = joined.loc[joined["label_y"].isna(), "id"].head(SHOWN).tolist()
        raise InputError(f"The truth has no label for some memes of {path}, as {missing}.")
    both = joined["label_y"].nunique() == 2
    return {
        "auroc": float(roc_auc_score(joined["label_y"], joined["proba"])) if both else None,
        "accuracy": float((joined["label_x"] == joined["label_y"]).mean()),
    }

"""The competition's CSV, `id,proba,label`: written checked, and checked before an upload."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.files import atomic_write, open_regular
from mmf_hm_concat.utils.text import counted, first_and_more

HEADER = ["id", "proba", "label"]
# As many ids or lines of one kind of problem as a person reads.
SHOWN = 5
# Stricter than int() and float(), which let blanks, underscores and words as "nan" pass.
ID = re.compile(r"[0-9]{1,18}")
PROBA = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


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
            f"Wrote {self.path}: {counted(self.rows, 'meme')}, {self.share_hateful:.1%} labelled "
            f"hateful, {', '.join(means)}."
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
        memes: the split in the order of its file (columns: data/table.py).
        probabilities: float (N,), in [0, 1]; written so that reading gives the same number back.
        threshold: label is 1 from this probability on.
        id_format: "number" (1236, what the competition expects) or "padded" (01236).

    Raises:
        InputError: no memes, another number of probabilities, one that is not in [0, 1], a
            repeated id, another `id_format`, a threshold outside (0, 1], or an unwritable path.
    """
    path, probabilities = Path(path), np.asarray(probabilities, dtype=np.float64)
    if not 0 < threshold <= 1 or id_format not in ("number", "padded"):
        raise InputError(
            f"threshold {threshold}, id_format {id_format!r}: give a threshold above 0 and up to "
            "1, and number or padded."
        )
    if len(memes) == 0:
        raise InputError(f"{path}: the test split has no memes, so there is nothing to submit.")
    if probabilities.shape != (len(memes),):
        raise InputError(
            f"{path}: {probabilities.shape} probabilities for {len(memes)} memes; there must be "
            "one for each."
        )
    numbers = [int(number) for number in memes["number"]]
    ids = [str(n) if id_format == "number" else f"{n:05d}" for n in numbers]
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(csv_of(ids, probabilities, threshold), "utf-8", newline="")
            problems = check_submission(temporary, numbers, threshold=threshold, judge_spread=False)
            if problems:
                raise InputError(f"{path}: not written, the predictions are wrong. {problems[0]}")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error}).") from None
    return summary_of(path, probabilities, threshold)


def csv_of(ids: Sequence[str], probabilities: np.ndarray, threshold: float) -> str:
    """The CSV of predictions, float64 (N,), its label 1 from ``threshold`` on."""
    labels = (probabilities >= threshold).astype(int)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(zip(ids, map(repr, probabilities.tolist()), labels.tolist(), strict=True))
    return text.getvalue()


def summary_of(path: Path, probabilities: np.ndarray, threshold: float) -> Summary:
    """What is said of a CSV of predictions, float64 (N,) with N > 0."""
    hateful = probabilities >= threshold
    return Summary(
        path,
        len(probabilities),
        float(hateful.mean()),
        float(probabilities[hateful].mean()) if hateful.any() else None,
        float(probabilities[~hateful].mean()) if not hateful.all() else None,
    )


def check_submission(
    path: str | Path,
    expected: Sequence[int],
    *,
    threshold: float | None = 0.5,
    judge_spread: bool = True,
) -> list[str]:
    """What is wrong with a submission, each problem a sentence with what it means; [] if nothing.

    Args:
        expected: the test file's ids as numbers, in its order.
        threshold: what the labels were made with; None: whatever it was, they may contradict.
        judge_spread: also object to probabilities that are all the same.

    Raises:
        InputError: there is no such file.
    """
    rows, problems = read_rows(Path(path))
    if problems:
        return problems
    ids, probabilities = values_of(rows)
    problems = _id_problems(rows, ids, [int(number) for number in expected])
    bad = [i for i, value in enumerate(probabilities) if value is None or not 0 <= value <= 1]
    if bad:
        problems.append(
            f"proba is not a number from 0 to 1 {_where(rows, bad)}: the upload is refused, or "
            "scored wrong."
        )
    bad = [i for i, row in enumerate(rows) if row[2] not in ("0", "1")]
    if bad:
        problems.append(f"label is neither 0 nor 1 {_where(rows, bad)}: the upload is refused.")
    contrary = [
        i
        for i, (row, value) in enumerate(zip(rows, probabilities, strict=True))
        if threshold is not None and value is not None and row[2] in ("0", "1")
        if (value >= threshold) != (row[2] == "1")
    ]
    if contrary:
        problems.append(
            f"label contradicts proba at the threshold {threshold} {_where(rows, contrary)}: "
            "accuracy and AUROC will judge different predictions."
        )
    if judge_spread and len(rows) > 1 and None not in probabilities and len({*probabilities}) == 1:
        problems.append(
            f"All probabilities are {rows[0][1]}: AUROC will be 0.5, as by chance. The model was "
            "not trained, or not loaded."
        )
    return problems


def spread_hint(path: str | Path) -> str | None:
    """What an upload that can be made may still cost: labels in place of probabilities."""
    _, probabilities = values_of(read_rows(Path(path))[0])
    if {*probabilities} != {0.0, 1.0}:
        return None
    return (
        "Hint: all probabilities are 0 or 1. AUROC ranks the memes by them and so sees two ranks "
        "only: upload P(hateful) rather than labels."
    )


def read_rows(path: Path) -> tuple[list[list[str]], list[str]]:
    """The rows below the header, three fields each; or none, and what is wrong with the file."""
    try:
        with open_regular(path) as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}).") from None
    if not content.strip():
        return [], ["The file is empty: the upload is refused."]
    if content.startswith(b"\xef\xbb\xbf"):
        return [], [
            "The file begins with a byte order mark, so its first column is not called id: the "
            "upload is refused. Save it as plain UTF-8, without BOM."
        ]
    try:
        lines = list(csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        return [], [f"This is not a CSV in UTF-8 ({error}): the upload is refused."]
    header, rows = lines[0], lines[1:]
    if header != HEADER:
        hint = " Separate the fields by commas." if len(header) == 1 else ""
        return [], [
            f"Line 1: the header is {','.join(header)[:60]!r}, it must be 'id,proba,label': the "
            f"upload is refused.{hint}"
        ]
    bad = [(line, len(row)) for line, row in enumerate(rows, 2) if len(row) != 3]
    problems = [
        f"Line {line}: {counted(fields, 'field')} instead of 3: the upload is refused."
        for line, fields in bad
    ]
    return [] if bad else rows, first_and_more(problems, SHOWN)


def values_of(rows: list[list[str]]) -> tuple[list[int | None], list[float | None]]:
    """Ids and probabilities as numbers; None for what is none."""
    return (
        [int(row[0]) if ID.fullmatch(row[0]) else None for row in rows],
        [float(row[1]) if PROBA.fullmatch(row[1]) else None for row in rows],
    )


def _id_problems(rows: list[list[str]], ids: list[int | None], expected: list[int]) -> list[str]:
    problems = []
    bad = [i for i, number in enumerate(ids) if number is None]
    if bad:
        problems.append(f"id is not a number {_where(rows, bad)}: the upload is refused.")
    given, wanted = Counter(i for i in ids if i is not None), set(expected)
    for what, found, meaning in (
        ("missing", [i for i in expected if i not in given], "the upload is refused"),
        (
            "not in the test file",
            [i for i in given if i not in wanted],
            "the upload is refused; the predictions may be of another split",
        ),
        (
            "there more than once",
            [i for i, count in given.items() if count > 1],
            "the upload is refused, or one of the predictions counts, by chance",
        ),
    ):
        if found:
            some = ", ".join(first_and_more(found, SHOWN))
            verb = "is" if len(found) == 1 else "are"
            problems.append(f"{counted(len(found), 'id')} {verb} {what} ({some}): {meaning}.")
    if not problems and ids != expected:
        at = next(i for i, (a, b) in enumerate(zip(ids, expected, strict=True)) if a != b)
        problems.append(
            f"The ids are not in the test file's order (first at line {at + 2}: {ids[at]} instead "
            f"of {expected[at]}): harmless if the site joins by id, else every score is wrong."
        )
    return problems


def _where(rows: list[list[str]], bad: list[int]) -> str:
    """In how many rows, and the first of them."""
    row = [field[:40] for field in rows[bad[0]]]
    lines = counted(len(bad), "line")
    return f"in {lines} ({'first: ' if len(bad) > 1 else ''}line {bad[0] + 2}, {','.join(row)!r})"

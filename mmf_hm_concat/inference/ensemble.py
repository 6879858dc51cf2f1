"""Several submissions as one: the mean of their probabilities, or of their ranks."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.submission import check_submission, read_rows, values_of

logger = logging.getLogger("mmf_hm_concat")

WAYS = ("probability", "rank")


def combine(
    members: Sequence[str | Path], expected: Sequence[int], by: str = "probability"
) -> np.ndarray:
    """The mean of several submissions of one test file.

    Args:
        members: submissions, or folders of runs in which mmf_predict has left a submission.csv.
        expected: the test file's ids as numbers, in its order.
        by: "probability", or "rank": each member's probabilities are first replaced by the share
            of memes below them (half of those level with them included), so that members who
            are surer than others have no more to say. Then the mean is no probability, and half
            of the memes are above 0.5.

    Returns:
        float64 (N,), in [0, 1].

    Raises:
        InputError: fewer than two members, another ``by``, or a member that `check_submission`
            finds fault with (but for labels made with another threshold).
    """
    if by not in WAYS:
        raise InputError(f"An ensemble is made by {' or '.join(WAYS)}, not by {by!r}.")
    if len(members) < 2:
        raise InputError("An ensemble needs two or more runs or submissions.")
    paths = [submission_of(member) for member in members]
    for path, times in Counter(path.resolve() for path in paths).items():
        if times > 1:
            logger.warning("%s is given %d times and counts as often.", path, times)
    columns = [_probabilities(path, expected) for path in paths]
    if by == "rank":
        columns = [(pd.Series(each).rank() - 0.5) / len(each) for each in columns]
    return np.mean(columns, axis=0)


def submission_of(member: str | Path) -> Path:
    """The submission that a member of an ensemble stands for: itself, or a run's."""
    member = Path(member)
    if not member.is_dir():
        return member
    path = member / "submission.csv"
    if not path.is_file():
        raise InputError(
            f"{member}: the run has no submission.csv yet. Make it: mmf_predict with its config= "
            f"and env.save_dir={member}."
        )
    return path


def _probabilities(path: Path, expected: Sequence[int]) -> list[float]:
    problems = check_submission(path, expected, threshold=None)
    if problems:
        raise InputError(f"{path}: cannot be combined with others. {problems[0]}")
    _, probabilities = values_of(read_rows(path)[0])
    return [each for each in probabilities if each is not None]  # none is: see problems

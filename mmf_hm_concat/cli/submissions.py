"""Commands on submissions: `check`, `show`, `ensemble`."""

import argparse
import json
from pathlib import Path

from mmf_hm_concat.cli.shared import (
    Commands,
    add_data_options,
    add_json,
    print_lines,
    read_test_memes,
    refuse_to_overwrite,
)
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.text import counted


def add_check(commands: Commands) -> None:
    add = commands.add_parser("check", help="check a submission before it is uploaded")
    add.add_argument("submission", type=Path, metavar="SUBMISSION.csv")
    add_data_options(add)
    add.add_argument("--threshold", type=float, default=0.5)
    add.add_argument("--truth", type=Path, metavar="FILE", help="labels (csv or jsonl): score it")
    add_json(add)
    add.set_defaults(run=check)


def check(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.inference.scoring import read_truth, score
    from mmf_hm_concat.inference.submission import check_submission, spread_hint

    memes = read_test_memes(chosen)
    problems = check_submission(chosen.submission, memes.number, threshold=chosen.threshold)
    hint = None if problems else spread_hint(chosen.submission)
    scores = None
    if chosen.truth and not problems:
        scores = score(chosen.submission, read_truth(chosen.truth))
    if chosen.json:
        found = {"submission": str(chosen.submission), "memes": len(memes), "problems": problems}
        print_lines(json.dumps({**found, "hint": hint, "scores": scores}, indent=2))
        return 1 if problems else 0
    for problem in problems:
        print_lines(problem)
    if problems:
        return 1
    print_lines(
        f"{chosen.submission}: {len(memes)} rows, one for each test meme, in order. Fit to upload."
    )
    if hint:
        print_lines(hint)
    if scores:
        auroc = scores["auroc"]
        said = "not defined (one class only)" if auroc is None else f"{auroc:.4f}"
        print_lines(
            f"Against the truth: AUROC {said} (0.5 is chance, 1 is perfect), accuracy "
            f"{scores['accuracy']:.4f}, macro-F1 {scores['macro_f1']:.4f}."
        )
    return 0


def add_show(commands: Commands) -> None:
    add = commands.add_parser("show", help="draw the first memes of a submission into one PNG")
    add.add_argument("submission", type=Path, metavar="SUBMISSION.csv")
    add.add_argument("out", type=Path, metavar="OUT.png")
    add_data_options(add)
    add.add_argument("--truth", type=Path, metavar="FILE", help="labels (csv or jsonl): mark hits")
    add.add_argument("--memes", type=int, default=8, help="how many (8)")
    add.set_defaults(run=show)


def show(chosen: argparse.Namespace) -> int:
    import pandas as pd

    from mmf_hm_concat.inference.scoring import read_truth
    from mmf_hm_concat.inference.submission import check_submission
    from mmf_hm_concat.reports.contact_sheet import contact_sheet

    if chosen.out.suffix.lower() != ".png":
        raise InputError(f"{chosen.out}: the image is a PNG: give a name that ends in .png.")
    memes = read_test_memes(chosen)
    if problems := check_submission(chosen.submission, memes.number, judge_spread=False):
        raise InputError("\n".join(problems))
    refuse_to_overwrite(chosen.out, chosen.submission, chosen.truth, *memes.path)
    memes = memes.assign(proba=pd.read_csv(chosen.submission)["proba"]).head(chosen.memes)
    truth = {}
    if chosen.truth:
        table = read_truth(chosen.truth)
        truth = dict(zip(table["number"].tolist(), table["label"].tolist(), strict=True))
    contact_sheet(
        [
            (meme.id, meme.path, meme.text, meme.proba, truth.get(meme.number))
            for meme in memes.itertuples()
        ],
        chosen.out,
    )
    print_lines(f"Drew {counted(len(memes), 'meme')} into {chosen.out}.")
    return 0


def add_ensemble(commands: Commands) -> None:
    add = commands.add_parser("ensemble", help="make one submission of several")
    add.add_argument(
        "members",
        nargs="+",
        metavar="RUN_OR_CSV",
        help="submissions, or folders of runs that hold a submission.csv",
    )
    add.add_argument("--out", type=Path, required=True, metavar="OUT.csv")
    add_data_options(add)
    add.add_argument(
        "--by",
        choices=("probability", "rank"),
        default="probability",
        help="take the mean of the probabilities (default), or of their ranks",
    )
    add.add_argument("--threshold", type=float, default=0.5)
    add.set_defaults(run=ensemble)


def ensemble(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.inference.ensemble import combine, submission_of
    from mmf_hm_concat.inference.submission import write_submission

    refuse_to_overwrite(chosen.out, *map(submission_of, chosen.members))
    memes = read_test_memes(chosen)
    mean = combine(chosen.members, memes.number, chosen.by)
    print_lines(str(write_submission(chosen.out, memes, mean, threshold=chosen.threshold)))
    return 0

"""The command `hm_concat`: everything around a run that needs no MMF.

Each command imports what it uses only when it is called, so that the others start at once.
"""

import argparse
import logging
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mmf_hm_concat.errors import InputError, printable
from mmf_hm_concat.utils.text import counted

if TYPE_CHECKING:
    import pandas as pd

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

PROJECTS = Path(__file__).parent / "projects"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 1 for wrong input, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="hm_concat", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_command in (
        *(_add_sample, _add_config, _add_check_data, _add_explore, _add_repeat, _add_runs),
        *(_add_report, _add_evaluate, _add_check, _add_show, _add_predict, _add_ensemble),
        _add_export,
    ):
        add_command(commands)
    chosen, rest = parser.parse_known_args(arguments)
    if rest:
        # argparse takes no more positional arguments once an option has come.
        if not hasattr(chosen, "options_anywhere") or any("=" not in each for each in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        chosen.options_anywhere += rest
    logging.basicConfig(format="%(message)s")
    logging.getLogger("mmf_hm_concat").setLevel(logging.INFO)  # what others log is not for users
    for handler in logging.getLogger().handlers:
        handler.addFilter(_make_printable)
    try:
        return chosen.run(chosen)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)  # a new line: the terminal has written ^C
        return 130


class _ShowVersion(argparse.Action):
    def __call__(self, *_: Any) -> None:
        print(f"hm_concat {metadata.version('mmf_hm_concat')}")
        sys.exit(0)


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True


def _add_sample(commands: Commands) -> None:
    add = commands.add_parser("sample", help="make a sample of memes to try everything with")
    add.add_argument("out", type=Path, metavar="OUT", help="folder to make it in")
    add.add_argument("--memes", type=int, default=None, help="about how many in all (1000)")
    add.add_argument("--seed", type=int, default=0)
    add.set_defaults(run=sample)


def _add_config(commands: Commands) -> None:
    add = commands.add_parser(
        "config", help="print where a project's YAML is; a config as it will run; or all keys"
    )
    add.add_argument(
        "name",
        nargs="?",
        help="as concat/defaults; left out: list all. Or `show CONFIG [key=value ...] [--changed] "
        "[--json]`: the merged config, checked. Or `keys`: what each key means",
    )
    add.add_argument("options", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    add.set_defaults(run=config)


def _add_check_data(commands: Commands) -> None:
    add = commands.add_parser("check-data", help="check the dataset files, or memes of your own")
    add.add_argument("data", metavar="DIR", help="what data_dir would be")
    add.add_argument(
        "--features",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="what features_file would be: check these, too",
    )
    add.set_defaults(run=check_data)


def _add_repeat(commands: Commands) -> None:
    add = commands.add_parser("repeat", help="train over several seeds and settings, and evaluate")
    add.add_argument("config", metavar="CONFIG", help="a YAML file, or a name: concat/defaults")
    add.add_argument(
        "options_anywhere", nargs="*", metavar="KEY=VALUE", help="as for mmf_run", default=[]
    )
    add.add_argument("--seeds", type=int, default=1, metavar="N", help="how many seeds (1)")
    add.add_argument(
        "--grid",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=A,B",
        help="train every combination of these values",
    )
    add.add_argument(
        "--optuna",
        type=int,
        metavar="N",
        help="search --grid, which may hold KEY=LOW..HIGH, in N trials instead",
    )
    add.set_defaults(run=repeat)


def _add_explore(commands: Commands) -> None:
    add = commands.add_parser("explore", help="show what is in a data set: numbers, plots, memes")
    add.add_argument("data", metavar="DATA_DIR", help="what data_dir would be")
    add.add_argument(
        "--out", type=Path, default=Path("explore"), help="folder of the page (./explore)"
    )
    _add_unblur(add)
    add.set_defaults(run=explore)


def _add_report(commands: Commands) -> None:
    add = commands.add_parser(
        "report", help="show how a run went, what it gets right, and what it goes by"
    )
    add.add_argument("run_folder", type=Path, metavar="RUN", help="the run's env.save_dir")
    add.add_argument(
        "--split", default="val", help="val (default), train, test, or a file's name, as dev_seen"
    )
    add.add_argument("--data", metavar="DIR", help="the dataset files; default as in training")
    _add_unblur(add)
    add.set_defaults(run=report)


def _add_check(commands: Commands) -> None:
    add = commands.add_parser("check", help="check a submission before it is uploaded")
    add.add_argument("submission", type=Path, metavar="SUBMISSION.csv")
    _add_data_options(add)
    add.add_argument("--threshold", type=float, default=0.5)
    add.add_argument("--truth", type=Path, metavar="FILE", help="labels (csv or jsonl): score it")
    add.set_defaults(run=check)


def _add_show(commands: Commands) -> None:
    add = commands.add_parser("show", help="draw the first memes of a submission into one PNG")
    add.add_argument("submission", type=Path, metavar="SUBMISSION.csv")
    add.add_argument("out", type=Path, metavar="OUT.png")
    _add_data_options(add)
    add.add_argument("--truth", type=Path, metavar="FILE", help="labels (csv or jsonl): mark hits")
    add.add_argument("--memes", type=int, default=8, help="how many (8)")
    add.set_defaults(run=show)


def _add_predict(commands: Commands) -> None:
    add = commands.add_parser("predict", help="print the probability that one meme is hateful")
    add.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run; of several: the mean of them"
    )
    add.add_argument("image", metavar="IMAGE", help="an image file")
    add.add_argument("text", metavar="TEXT", help="the text on it, in quotes")
    add.set_defaults(run=predict)


def _add_evaluate(commands: Commands) -> None:
    add = commands.add_parser("evaluate", help="score runs on every labelled split, with intervals")
    add.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run; or a submission, with one split"
    )
    add.add_argument("--data", metavar="DIR", help="the dataset files; default as in training")
    add.add_argument(
        "--splits", nargs="+", metavar="SPLIT", help="as dev_seen train; default: all but train"
    )
    add.add_argument(
        "--protocol",
        choices=("papers",),
        help="select on dev_seen, report dev_seen, test_seen and test_unseen",
    )
    add.add_argument("--json", action="store_true", help="for programs")
    add.set_defaults(run=evaluate)


def _add_ensemble(commands: Commands) -> None:
    add = commands.add_parser("ensemble", help="make one submission of several")
    add.add_argument(
        "members",
        nargs="+",
        metavar="RUN_OR_CSV",
        help="submissions, or folders of runs that hold a submission.csv",
    )
    add.add_argument("--out", type=Path, required=True, metavar="OUT.csv")
    _add_data_options(add)
    add.add_argument(
        "--by",
        choices=("probability", "rank"),
        default="probability",
        help="take the mean of the probabilities (default), or of their ranks",
    )
    add.add_argument("--threshold", type=float, default=0.5)
    add.set_defaults(run=ensemble)


def _add_runs(commands: Commands) -> None:
    add = commands.add_parser("runs", help="list runs: when, what, how good, how they differ")
    add.add_argument(
        "folder", type=Path, nargs="?", default=Path("save"), metavar="DIR",
        help="a folder that holds runs, at any depth (./save)",
    )  # fmt: skip
    add.add_argument("--json", action="store_true", help="for programs")
    add.set_defaults(run=runs)


def _add_export(commands: Commands) -> None:
    add = commands.add_parser("export", help="write a trained concat_vl as an ONNX file")
    add.add_argument("run_folder", type=Path, metavar="RUN", help="the run's env.save_dir")
    add.add_argument("out", type=Path, metavar="OUT.onnx")
    add.set_defaults(run=export)


def _add_unblur(add: argparse.ArgumentParser) -> None:
    add.add_argument("--unblur", action="store_true", help="show hateful material from the start")


def _add_data_options(add: argparse.ArgumentParser) -> None:
    add.add_argument("--data", type=Path, required=True, metavar="DIR", help="the dataset files")
    add.add_argument("--split", help="its test files, as test_seen; default as in training")


def sample(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.data.synthetic import make_sample

    counts = {} if chosen.memes is None else {"memes": chosen.memes}
    make_sample(chosen.out, seed=chosen.seed, **counts)
    return 0


def config(chosen: argparse.Namespace) -> int:
    if chosen.name == "show":
        from mmf_hm_concat.mmf_plugin.show_config import show_config

        return show_config(chosen.options)
    if chosen.name == "keys":
        from mmf_hm_concat.config.reference import listing

        print(listing())
        return 0
    names = sorted(
        p.relative_to(PROJECTS).with_suffix("").as_posix() for p in PROJECTS.rglob("*.yaml")
    )
    if chosen.name is None:
        print("\n".join(names))
        return 0
    if chosen.name.removesuffix(".yaml") not in names:
        raise InputError(
            f"There is no project config {chosen.name!r}. There are: {', '.join(names)}"
        )
    print(PROJECTS / f"{chosen.name.removesuffix('.yaml')}.yaml")
    return 0


def export(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.inference.export import export as export_run

    print(export_run(chosen.run_folder, chosen.out))
    return 0


def runs(chosen: argparse.Namespace) -> int:
    import json

    from mmf_hm_concat.reports.runs import describe_runs, table

    found = describe_runs(chosen.folder)
    print(json.dumps(found, indent=2) if chosen.json else printable(table(found, chosen.folder)))
    return 0


def check_data(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.reports.data_check import check_data as check

    def log(lines: str) -> None:
        print(printable(lines))

    passed = check(chosen.data, cache_dir=_cache_dir(), features=chosen.features, log=log)
    return 0 if passed else 1


def repeat(chosen: argparse.Namespace) -> int:
    try:
        from mmf_hm_concat.mmf_plugin.repeat import repeat as repeat_training
        from mmf_hm_concat.mmf_plugin.search import search
    except ImportError as error:
        raise InputError(f"hm_concat repeat needs MMF, as training does ({error}).") from None
    given, series = (chosen.config, chosen.options_anywhere), (chosen.seeds, chosen.grid)
    if chosen.optuna is None:
        return repeat_training(*given, *series, _cache_dir())
    return search(*given, chosen.optuna, *series, _cache_dir())


def explore(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.reports.explore import explore as explore_data

    def log(lines: str) -> None:
        print(printable(lines))

    page = explore_data(
        chosen.data, chosen.out, cache_dir=_cache_dir(), unblur=chosen.unblur, log=log
    )
    log(f"The page is {page}; its plots lie beside it.")
    return 0


def report(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.reports.report import write_report

    def log(lines: str) -> None:
        print(printable(lines))

    page = write_report(
        chosen.run_folder,
        split=chosen.split,
        data_dir=chosen.data,
        cache_dir=_cache_dir(),
        unblur=chosen.unblur,
        log=log,
    )
    log(f"The page is {page}; its plots and report.json lie beside it.")
    return 0


def check(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.inference.scoring import read_truth, score
    from mmf_hm_concat.inference.submission import check_submission, spread_hint

    memes = _test_memes(chosen)
    problems = check_submission(chosen.submission, memes.number, threshold=chosen.threshold)
    for problem in problems:
        print(printable(problem))
    if problems:
        return 1
    print(
        f"{chosen.submission}: {len(memes)} rows, one for each test meme, in order. Fit to upload."
    )
    if hint := spread_hint(chosen.submission):
        print(hint)
    if chosen.truth:
        result = score(chosen.submission, read_truth(chosen.truth))
        auroc = (
            "not defined (one class only)" if result["auroc"] is None else f"{result['auroc']:.4f}"
        )
        print(
            f"Against the truth: AUROC {auroc} (0.5 is chance, 1 is perfect), accuracy "
            f"{result['accuracy']:.4f}, macro-F1 {result['macro_f1']:.4f}."
        )
    return 0


def show(chosen: argparse.Namespace) -> int:
    import pandas as pd

    from mmf_hm_concat.inference.scoring import read_truth
    from mmf_hm_concat.inference.submission import check_submission
    from mmf_hm_concat.reports.contact_sheet import contact_sheet

    if chosen.out.suffix.lower() != ".png":
        raise InputError(f"{chosen.out}: the image is a PNG: give a name that ends in .png.")
    memes = _test_memes(chosen)
    if problems := check_submission(chosen.submission, memes.number, judge_spread=False):
        raise InputError("\n".join(problems))
    _refuse_to_overwrite(chosen.out, chosen.submission, chosen.truth, *memes.path)
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
    print(f"Drew {counted(len(memes), 'meme')} into {chosen.out}.")
    return 0


def predict(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.inference.classifier import MemeClassifier

    print(MemeClassifier.load(*chosen.runs)(chosen.image, chosen.text))
    return 0


def evaluate(chosen: argparse.Namespace) -> int:
    import json

    from mmf_hm_concat.reports.evaluation import evaluate as evaluate_runs
    from mmf_hm_concat.reports.evaluation_text import as_text

    report = evaluate_runs(
        chosen.runs,
        data=chosen.data,
        splits=chosen.splits,
        protocol=chosen.protocol,
        cache_dir=_cache_dir(),
    )
    print(json.dumps(report, indent=2) if chosen.json else printable(as_text(report)))
    return 0


def ensemble(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.inference.ensemble import combine, submission_of
    from mmf_hm_concat.inference.submission import write_submission

    _refuse_to_overwrite(chosen.out, *map(submission_of, chosen.members))
    memes = _test_memes(chosen)
    mean = combine(chosen.members, memes.number, chosen.by)
    print(write_submission(chosen.out, memes, mean, threshold=chosen.threshold))
    return 0


def _refuse_to_overwrite(out: Path, *inputs: Path | str | None) -> None:
    if any(path and Path(path).resolve() == out.resolve() for path in inputs):
        raise InputError(f"{out} is one of the inputs and would be overwritten: name another file.")


def _test_memes(chosen: argparse.Namespace) -> "pd.DataFrame":
    """The test split of `--data` and `--split`; columns: data/table.py."""
    from mmf_hm_concat.data.layout import DEFAULT_SPLITS, find_layout
    from mmf_hm_concat.data.table import read_splits

    splits = {"test": chosen.split or DEFAULT_SPLITS["test"]}
    layout = find_layout(chosen.data, splits, cache_dir=_cache_dir(), needed=("test",))
    return read_splits(layout)["test"]


def _cache_dir() -> Path:
    """The same folder that training uses by default (MMF's env.cache_dir), without torch."""
    home = os.getenv("XDG_CACHE_HOME", "~/.cache")
    torch_home = os.getenv("TORCH_HOME", os.path.join(home, "torch"))  # noqa: PTH118
    mmf = os.getenv("MMF_CACHE_DIR", os.path.join(torch_home, "mmf"))  # noqa: PTH118
    return Path(mmf).expanduser() / "mmf_hm_concat"


if __name__ == "__main__":
    sys.exit(main())

"""Commands on runs: `repeat`, `runs`, `report`, `evaluate`."""

import argparse
from pathlib import Path

from mmf_hm_concat.cli.shared import Commands, add_json, add_unblur, cache_dir, print_lines
from mmf_hm_concat.errors import InputError, printable


def add_repeat(commands: Commands) -> None:
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


def repeat(chosen: argparse.Namespace) -> int:
    try:
        from mmf_hm_concat.mmf_plugin.repeat import repeat as repeat_training
        from mmf_hm_concat.mmf_plugin.search import search
    except ImportError as error:
        raise InputError(f"hm_concat repeat needs MMF, as training does ({error}).") from None
    given, series = (chosen.config, chosen.options_anywhere), (chosen.seeds, chosen.grid)
    if chosen.optuna is None:
        return repeat_training(*given, *series, cache_dir())
    return search(*given, chosen.optuna, *series, cache_dir())


def add_runs(commands: Commands) -> None:
    add = commands.add_parser("runs", help="list runs: when, what, how good, how they differ")
    add.add_argument(
        "folder", type=Path, nargs="?", default=Path("save"), metavar="DIR",
        help="a folder that holds runs, at any depth (./save)",
    )  # fmt: skip
    add_json(add)
    add.set_defaults(run=runs)


def runs(chosen: argparse.Namespace) -> int:
    import json

    from mmf_hm_concat.reports.runs import describe_runs, table

    found = describe_runs(chosen.folder)
    print(json.dumps(found, indent=2) if chosen.json else printable(table(found, chosen.folder)))
    return 0


def add_report(commands: Commands) -> None:
    add = commands.add_parser(
        "report", help="show how a run went, what it gets right, and what it goes by"
    )
    add.add_argument("run_folder", type=Path, metavar="RUN", help="the run's env.save_dir")
    add.add_argument(
        "--split", default="val", help="val (default), train, test, or a file's name, as dev_seen"
    )
    add.add_argument("--data", metavar="DIR", help="the dataset files; default as in training")
    add_unblur(add)
    add.set_defaults(run=report)


def report(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.reports.report import write_report

    page = write_report(
        chosen.run_folder,
        split=chosen.split,
        data_dir=chosen.data,
        cache_dir=cache_dir(),
        unblur=chosen.unblur,
        log=print_lines,
    )
    print_lines(f"The page is {page}; its plots and report.json lie beside it.")
    return 0


def add_evaluate(commands: Commands) -> None:
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
    add_json(add)
    add.set_defaults(run=evaluate)


def evaluate(chosen: argparse.Namespace) -> int:
    import json

    from mmf_hm_concat.reports.evaluation import evaluate as evaluate_runs
    from mmf_hm_concat.reports.evaluation_text import as_text

    report = evaluate_runs(
        chosen.runs,
        data=chosen.data,
        splits=chosen.splits,
        protocol=chosen.protocol,
        cache_dir=cache_dir(),
    )
    print(json.dumps(report, indent=2) if chosen.json else printable(as_text(report)))
    return 0

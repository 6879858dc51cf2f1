"""Commands on data: `sample`, `check-data`, `explore`."""

import argparse
import json
from pathlib import Path

from mmf_hm_concat.cli.shared import Commands, add_json, add_unblur, cache_dir, print_lines


def add_sample(commands: Commands) -> None:
    add = commands.add_parser("sample", help="make a sample of memes to try everything with")
    add.add_argument("out", type=Path, metavar="OUT", help="folder to make it in")
    add.add_argument("--memes", type=int, default=None, help="about how many in all (1000)")
    add.add_argument("--seed", type=int, default=0)
    add.set_defaults(run=sample)


def sample(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.data.synthetic import make_sample

    counts = {} if chosen.memes is None else {"memes": chosen.memes}
    make_sample(chosen.out, seed=chosen.seed, **counts)
    return 0


def add_check_data(commands: Commands) -> None:
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
    add.add_argument(
        "--split",
        nargs="+",
        default=[],
        metavar="NAME",
        help="check only these: train, val, test, or a file's name, as dev_seen",
    )
    add_json(add)
    add.set_defaults(run=check_data)


def check_data(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.reports.data_check import check_data as check

    found = check(chosen.data, chosen.split, cache_dir=cache_dir(), features=chosen.features)
    print_lines(json.dumps(found.as_json(), indent=2) if chosen.json else str(found))
    return 1 if found.problems else 0


def add_explore(commands: Commands) -> None:
    add = commands.add_parser("explore", help="show what is in a data set: numbers, plots, memes")
    add.add_argument("data", metavar="DATA_DIR", help="what data_dir would be")
    add.add_argument(
        "--out", type=Path, default=Path("explore"), help="folder of the page (./explore)"
    )
    add_unblur(add)
    add.set_defaults(run=explore)


def explore(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.reports.explore import explore as explore_data

    page = explore_data(
        chosen.data, chosen.out, cache_dir=cache_dir(), unblur=chosen.unblur, log=print_lines
    )
    print_lines(f"The page is {page}; its plots lie beside it.")
    return 0

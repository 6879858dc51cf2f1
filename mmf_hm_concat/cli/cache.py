"""The command `cache`: what was decoded, computed and unpacked for later runs."""

import argparse
import json
from pathlib import Path

from mmf_hm_concat.cli.shared import Commands, add_json, cache_dir, print_lines


def add_cache(commands: Commands) -> None:
    add = commands.add_parser("cache", help="list what is kept for later runs, or remove it")
    add.add_argument(
        "--clear",
        nargs="+",
        metavar="NAME",
        default=[],
        help="remove these; old: all that nothing reads any more; all: everything",
    )
    add.add_argument(
        "--dir", type=Path, help="a run's dataset_config.hm_competition.cache_dir, if it has one"
    )
    add_json(add)
    add.set_defaults(run=cache)


def cache(chosen: argparse.Namespace) -> int:
    from mmf_hm_concat.reports.cache import clear_cache, cleared, list_cache, table

    folder = chosen.dir or cache_dir()
    removed, busy = clear_cache(folder, chosen.clear) if chosen.clear else ([], [])
    entries = list_cache(folder)
    if chosen.json:
        found = [{**vars(each), "paths": [str(path) for path in each.paths]} for each in entries]
        print_lines(json.dumps(found, indent=2, default=str))
    else:
        print_lines(cleared(removed, busy) if chosen.clear else table(folder, entries))
    return 1 if busy else 0

"""What several commands have in common: options, places, and how lines are printed."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mmf_hm_concat.errors import InputError, printable

if TYPE_CHECKING:
    import pandas as pd

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_unblur(add: argparse.ArgumentParser) -> None:
    add.add_argument("--unblur", action="store_true", help="show hateful material from the start")


def add_json(add: argparse.ArgumentParser) -> None:
    add.add_argument("--json", action="store_true", help="for programs")


def add_data_options(add: argparse.ArgumentParser) -> None:
    add.add_argument("--data", type=Path, required=True, metavar="DIR", help="the dataset files")
    add.add_argument("--split", help="its test files, as test_seen; default as in training")


def print_lines(lines: str) -> None:
    """Print what may name things of strangers: without their control characters."""
    print(printable(lines))


def refuse_to_overwrite(out: Path, *inputs: Path | str | None) -> None:
    if any(path and Path(path).resolve() == out.resolve() for path in inputs):
        raise InputError(f"{out} is one of the inputs and would be overwritten: name another file.")


def read_test_memes(chosen: argparse.Namespace) -> "pd.DataFrame":
    """The test split of `--data` and `--split`; columns: data/table.py."""
    from mmf_hm_concat.data.layout import DEFAULT_SPLITS, find_layout
    from mmf_hm_concat.data.table import read_splits

    splits = {"test": chosen.split or DEFAULT_SPLITS["test"]}
    layout = find_layout(chosen.data, splits, cache_dir=cache_dir(), needed=("test",))
    return read_splits(layout)["test"]


def cache_dir() -> Path:
    """The same folder that training uses by default (MMF's env.cache_dir), without torch."""
    home = os.getenv("XDG_CACHE_HOME", "~/.cache")
    torch_home = os.getenv("TORCH_HOME", os.path.join(home, "torch"))  # noqa: PTH118
    mmf = os.getenv("MMF_CACHE_DIR", os.path.join(torch_home, "mmf"))  # noqa: PTH118
    return Path(mmf).expanduser() / "mmf_hm_concat"

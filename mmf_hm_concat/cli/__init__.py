"""The command `hm_concat`: everything around a run that needs no MMF.

Each command imports what it uses only when it is called, so that the others start at once.
"""

import argparse
import logging
import os
import sys
from importlib import metadata
from typing import Any

from mmf_hm_concat.cli import cache, configs, data, models, runs, submissions
from mmf_hm_concat.errors import InputError, printable

# In the order of --help: from the data to the upload.
ADD_COMMANDS = (
    *(data.add_sample, configs.add_config, data.add_check_data, data.add_explore),
    *(runs.add_repeat, runs.add_runs, runs.add_report, runs.add_evaluate),
    *(submissions.add_check, submissions.add_show, models.add_predict),
    *(submissions.add_ensemble, models.add_export, cache.add_cache),
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 1 for wrong input, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="hm_concat", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_command in ADD_COMMANDS:
        add_command(commands)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions, at every press of the key
        import argcomplete

        argcomplete.autocomplete(parser)
    chosen, rest = parser.parse_known_args(arguments)
    if rest:
        # argparse takes no more positional arguments once an option has come.
        if not hasattr(chosen, "options_anywhere") or any("=" not in each for each in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        chosen.options_anywhere += rest
    _share_cores()
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


def _share_cores() -> None:
    """Let torch, which reads this when it is loaded, and what we start not wait by keeping a core.

    Else all is many times slower while another process computes; alone, this costs a twentieth
    (benchmarks/busy_cores.py). The variables are libgomp's:
    gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


class _ShowVersion(argparse.Action):
    def __call__(self, *_: Any) -> None:
        print(f"hm_concat {metadata.version('mmf_hm_concat')}")
        sys.exit(0)


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True

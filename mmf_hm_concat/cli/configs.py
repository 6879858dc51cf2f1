"""The command `config`: where the projects are, a config as it will run, and all keys."""

import argparse
from pathlib import Path

from mmf_hm_concat.cli.shared import Commands
from mmf_hm_concat.errors import InputError

PROJECTS = Path(__file__).parent.parent / "projects"


def add_config(commands: Commands) -> None:
    add = commands.add_parser(
        "config", help="print where a project's YAML is; a config as it will run; or all keys"
    )
    name = add.add_argument(
        "name",
        nargs="?",
        help="as concat/defaults; left out: list all. Or `show CONFIG [key=value ...] [--changed] "
        "[--json]`: the merged config, checked. Or `keys`: what each key means",
    )
    name.completer = lambda **_: ["show", "keys", *_names()]  # type: ignore[attr-defined]
    add.add_argument("options", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    add.set_defaults(run=config)


def config(chosen: argparse.Namespace) -> int:
    if chosen.name == "show":
        from mmf_hm_concat.mmf_plugin.show_config import show_config

        return show_config(chosen.options)
    if chosen.name == "keys":
        from mmf_hm_concat.config.reference import listing

        print(listing())
        return 0
    names = _names()
    if chosen.name is None:
        print("\n".join(names))
        return 0
    if chosen.name.removesuffix(".yaml") not in names:
        raise InputError(
            f"There is no project config {chosen.name!r}. There are: {', '.join(names)}"
        )
    print(PROJECTS / f"{chosen.name.removesuffix('.yaml')}.yaml")
    return 0


def _names() -> list[str]:
    files = PROJECTS.rglob("*.yaml")
    return sorted(each.relative_to(PROJECTS).with_suffix("").as_posix() for each in files)

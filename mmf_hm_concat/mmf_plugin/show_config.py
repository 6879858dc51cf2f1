"""`hm_concat config show`: the merged config as it will run, checked, without running it."""

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mmf_hm_concat.errors import InputError

PROJECTS = Path(__file__).parent.parent / "projects"


def show_config(arguments: list[str]) -> int:
    """Print what ``arguments`` (CONFIG key=value ... --changed --json) come to; exit code 0.

    Raises:
        InputError: the config cannot run; all its problems in one message.
    """
    parser = argparse.ArgumentParser(
        prog="hm_concat config show", description=__doc__.splitlines()[0]
    )
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or a name: concat/defaults")
    parser.add_argument("options", nargs="*", metavar="key=value", help="as for mmf_run")
    parser.add_argument("--changed", action="store_true", help="only what is not the default")
    parser.add_argument("--json", action="store_true", help="for programs")
    chosen = parser.parse_intermixed_args(arguments)
    project = PROJECTS / f"{chosen.config.removesuffix('.yaml')}.yaml"
    file = chosen.config if Path(chosen.config).exists() or not project.exists() else project
    with contextlib.redirect_stdout(sys.stderr):  # MMF prints what it overrides
        values, defaults = build_config([f"config={file}", *chosen.options])
    if chosen.changed:
        values = changed(values, defaults)
    print(json.dumps(values, indent=2) if chosen.json else _yaml(values), end="")
    return 0


def build_config(options: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config that `mmf_run` would run with ``options``, and the defaults beneath it."""
    try:
        from mmf.utils.configuration import Configuration
        from mmf.utils.env import setup_imports
    except ImportError as error:
        raise InputError(f"hm_concat config show needs MMF, as training does ({error}).") from None
    from omegaconf import OmegaConf

    from mmf_hm_concat.mmf_plugin import install

    setup_imports()
    install()  # the package is imported already, so MMF does not load it
    built = Configuration(argparse.Namespace(opts=options, config_override=None))
    values = OmegaConf.to_container(built.get_config(), resolve=True)
    defaults = getattr(built, "defaults", None)  # absent where the plug-in is not loaded
    return values, OmegaConf.to_container(defaults, resolve=True) if defaults else {}


def changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``values`` that differs from ``defaults``."""
    found = {}
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            if below := changed(value, default):
                found[key] = below
        elif key not in defaults or value != default:
            found[key] = value
    return found


def _yaml(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)

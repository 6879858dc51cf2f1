"""The options of a command, key=value, as MMF merges them into the config."""

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

import yaml
from mmf.utils.configuration import Configuration
from omegaconf import DictConfig, OmegaConf

from mmf_hm_concat.config.check import Problems, unknown
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.config_tree import child, first_line

# YAML 1.1, which MMF's YAML files are read as: yaml.org/type/bool and yaml.org/type/null.
YAML_WORDS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("null", "~"), None),
}

_merge_with_dotlist = Configuration._merge_with_dotlist
_decode_value = Configuration._decode_value


def pairs_of(opts: list[str] | None) -> list[tuple[str, str]]:
    """Key and value of each option, in either of MMF's forms: key=value ..., key value ..."""
    if not opts:
        return []
    if "=" not in opts[0]:
        if len(opts) % 2:
            raise InputError(f"Command line: {opts[-1]!r} has no value; options are key=value.")
        return list(zip(opts[0::2], opts[1::2], strict=True))
    for option in opts:
        if "=" not in option:
            raise InputError(f"Command line: {option!r} is not of the form key=value")
    return [(option.partition("=")[0], option.partition("=")[2]) for option in opts]


def merge_option(
    self: Configuration, config: DictConfig, key: str, value: str, problems: Problems
) -> None:
    *above, name = key.split(".")
    parent = functools.reduce(child, above, config)
    node = child(parent, name)
    try:
        if not isinstance(node, Mapping):
            with contextlib.redirect_stdout(None):  # MMF says again what was typed
                _merge_with_dotlist(self, config, [key, value])
        elif (decoded := decode_value(self, value)) is None:
            parent[name] = None
        elif isinstance(decoded, Mapping):
            parent[name] = OmegaConf.merge(node, decoded)
        else:
            problems[key] = (
                f"{key}={value[:60]}: {key} is a group of keys ({', '.join(node)}). Give one of "
                f"them, as {key}.{next(iter(node), 'key')}=..., or {key}=null."
            )
    except AttributeError:  # MMF's, for a key that is not there
        problems[key] = _why_unknown(config, key)
    except (Exception, RecursionError) as error:
        problems[key] = f"{value[:60]!r} cannot be a value: {first_line(error)}."


def _why_unknown(config: Any, key: str) -> str:
    node, above = config, ""
    for part in ("datasets" if key == "dataset" else key).split("."):
        name = part.split("[")[0]
        if not isinstance(node, Mapping):
            return f"{above} is {'null' if node is None else node}, so it has no keys."
        if name not in node:
            return unknown("key", name, node, above)
        node, above = node[name], f"{above}.{name}" if above else name
    return f"{above} is {node}, so it has no such place."


def decode_value(self: Configuration, value: Any) -> Any:
    """MMF's reading of a value of the command line, but bare words, {...} and [...] as in YAML.

    MMF took them for strings, so that `standardize_text=false` was as good as true.
    """
    if isinstance(value, str) and value.lower() in YAML_WORDS:
        return YAML_WORDS[value.lower()]
    decoded = _decode_value(self, value)
    if isinstance(decoded, str) and decoded.startswith(("{", "[")):
        try:
            return yaml.safe_load(decoded)
        except yaml.YAMLError:
            return decoded
    return decoded

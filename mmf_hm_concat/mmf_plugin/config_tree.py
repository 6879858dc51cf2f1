"""A config of omegaconf 2.0, read: plain values, what a ${...} stands for, foreign keys."""

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from mmf_hm_concat.config.check import UNLISTED, Problems, unknown
from mmf_hm_concat.config.model_and_data import BRANCHES_OF_MMF

# Groups whose keys a user invents: parameters handed to a class by name.
OPEN_GROUPS = ("params", "processors", "optimizer", "scheduler")

# Which no model of MMF has in its defaults; given_features.py reads it.
FEATURES_FILE_OF_MMF = rf"model_config\.\w+\.({'|'.join(BRANCHES_OF_MMF)})\.features_file"


def plain_values(config: DictConfig, above: str, problems: Problems) -> dict[str, Any]:
    """``config`` as dicts, lists and values; a ${...} that stands for nothing is a problem."""
    values = {}
    for key in config:
        name = f"{above}.{key}" if above else str(key)
        try:
            value = config[key]
            if isinstance(value, DictConfig):
                value = plain_values(value, name, problems)
            elif isinstance(value, ListConfig):
                value = OmegaConf.to_container(value, resolve=True)
        except (Exception, RecursionError) as error:
            problems[name] = f"cannot be read: {first_line(error)}."
            continue
        values[key] = value
    return values


def stands_for(config: DictConfig, key: str) -> str | None:
    """The key at the end of the interpolations that ``key`` begins; None in a circle."""
    seen = [key]
    while other := refers_to(config, seen[-1]):
        if other in seen:
            return None
        seen.append(other)
    return seen[-1] if len(seen) > 1 else None


def refers_to(config: DictConfig, key: str) -> str | None:
    """The key that ``key`` is an interpolation of."""
    match = re.fullmatch(r"\$\{([\w.]+)\}", str(as_written(config, key)))
    return match and match[1]


def as_written(config: Any, key: str) -> Any:
    """The value as it is written, ${...} and all."""
    *above, last = key.split(".")
    for part in above:
        config = config.get(part) if isinstance(config, DictConfig) else None
    node = config._get_node(last) if isinstance(config, DictConfig) else None
    return node._value() if node is not None else None


def unknown_keys(given: Mapping, known: Mapping, above: str) -> Problems:
    """Keys of ``given`` that ``known`` lacks."""
    problems: Problems = {}
    for key, value in given.items():
        name = f"{above}.{key}" if above else str(key)
        if key in UNLISTED or re.fullmatch(FEATURES_FILE_OF_MMF, name):
            continue
        if key not in known:
            # Keys of a model or data set that this run does not use are nobody's mistake.
            if above not in ("model_config", "dataset_config"):
                problems[name] = unknown("key", key, known, above)
        elif key in OPEN_GROUPS:
            continue
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping):
            problems |= unknown_keys(value, known[key], name)
    return problems


def child(node: Any, name: str) -> Any:
    return node.get(name) if isinstance(node, Mapping) else None


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

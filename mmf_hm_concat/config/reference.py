"""All keys in a list: docs/config.md, and what `hm_concat config keys` prints."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mmf_hm_concat.config.check import lookup, over, shown
from mmf_hm_concat.config.description import KEYS, Key
from mmf_hm_concat.config.kinds import GROUP, in_words

PACKAGE = Path(__file__).parent.parent
# Later ones over earlier ones. The last has what no default of MMF or ours has: the optimizer, say.
DEFAULTS = (
    "configs/concat_trainer.yaml",
    "configs/models/concat_vl.yaml",
    "configs/datasets/hm_competition.yaml",
    "projects/concat/defaults.yaml",
)
HEAD = """# Keys of the config

Made from `mmf_hm_concat/config/description.py` by `make docs`; `hm_concat config keys` prints the
same. Each key can be given in the YAML and on the command line (`training.max_epochs=3`). What is
not allowed is said at the start, with the place that gave it. Defaults are those of
`projects/concat/defaults.yaml`, with what it leaves to MMF and to `configs/`."""


def defaults() -> dict[str, Any]:
    """The default config as it is written, of MMF (where it is installed) and of ours."""
    files = [PACKAGE / file for file in DEFAULTS]
    spec = importlib.util.find_spec("mmf")
    if spec and spec.origin:
        files.insert(0, Path(spec.origin).parent / "configs" / "defaults.yaml")
    merged: dict[str, Any] = {}
    for file in files:
        merged = over(merged, yaml.safe_load(file.read_text("utf-8")))
    return merged


def markdown() -> str:
    """docs/config.md."""
    lines, section, given = [HEAD], None, defaults()
    for name, key in _keys():
        if (above := _section(name)) != section:
            section = above
            title = f"`{section}`" if section else "The run"
            lines += [f"\n## {title}\n", "| key | default | allowed | |", "|---|---|---|---|"]
        short = name.removeprefix(f"{section}.") if section else name
        default = f"`{_default(given, name)}`" if _has(given, name) else ""
        cells = [f"`{short}`", default, in_words(key.kind), key.help]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def listing() -> str:
    """For the terminal: a key, what it allows, its default, and what it means, in two lines."""
    lines, given = [], defaults()
    for name, key in _keys():
        default = f"; default {_default(given, name)}" if _has(given, name) else ""
        lines.append(f"{name}: {in_words(key.kind)}{default}\n    {key.help}")
    return "\n".join(lines)


def _keys() -> list[tuple[str, Key]]:
    """In sections, and without the groups that say nothing themselves."""
    named = [(name, key) for name, key in KEYS.items() if key.kind is not GROUP]
    sections = list(dict.fromkeys(_section(name) for name, _ in named))
    return sorted(named, key=lambda item: sections.index(_section(item[0])))


def _section(name: str) -> str:
    parts = name.split(".")
    deep = parts[0] in ("model_config", "dataset_config")
    return ".".join(parts[: 2 if deep else min(1, len(parts) - 1)])


def _default(config: Mapping[str, Any], name: str) -> str:
    value = lookup(config, name)
    return value if isinstance(value, str) else shown(value)


def _has(config: Mapping[str, Any], name: str) -> bool:
    above, _, last = name.rpartition(".")
    parent = lookup(config, above)
    return isinstance(parent, Mapping) and not isinstance(parent.get(last), dict) and last in parent

"""The members of `hm_concat repeat`: the same training over seeds and settings, a folder each.

A member's folder holds its run and `member.json`: the config it is trained with, and whether it is
finished. So the same command goes on where it was stopped, and another config is refused.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.checkpoints import differences
from mmf_hm_concat.utils.files import atomic_write
from mmf_hm_concat.utils.text import first_and_more

STATE = "member.json"
# Where a run reads and writes, and how it is started, is not what it comes to.
PLACES = ("env", "config", "checkpoint", "distributed", "start_rank", "device_id")
PLACES_OF_DATA = ("data_dir", "cache_dir", "image_cache")


@dataclass(frozen=True)
class Member:
    """One training of the series.

    Attributes:
        folder: its `env.save_dir`.
        setting: what it has of the grid, as "lr=1e-3,dropout=0.2"; "" without a grid.
        seed: its `training.seed`.
        options: key=value, as `mmf_run` takes them.
    """

    folder: Path
    setting: str
    seed: int
    options: tuple[str, ...]


def make_members(
    save_dir: Path,
    options: Sequence[str],
    settings: Sequence[Mapping[str, str]],
    seeds: int,
    first_seeds: Mapping[str, int],
) -> list[Member]:
    """A member for each setting and seed, all seeds of a setting one after the other.

    Args:
        options: of all of them.
        settings: key -> value for each; [{}] for seeds alone.
        seeds: how many.
        first_seeds: the keys that are counted up from member to member, and where they begin;
            `training.seed` first.

    Raises:
        InputError: two settings would share a folder.
    """
    names = _names_of([key for setting in settings for key in setting])
    members = []
    for setting in settings:
        name = ",".join(f"{names[key]}={value}" for key, value in setting.items())
        folder = save_dir / re.sub(r"[^\w.,=+-]+", "_", name)
        for count in range(seeds):
            own = [f"{key}={value}" for key, value in setting.items()]
            own += [f"{key}={first + count}" for key, first in first_seeds.items()]
            seed = next(iter(first_seeds.values())) + count
            path = folder / f"seed={seed}"
            own += [f"env.save_dir={path}", "checkpoint.resume=true"]
            members.append(Member(path, name, seed, (*options, *own)))
    if len({member.folder for member in members}) < len(members):
        raise InputError("--grid: two of its settings are the same. Leave one of them out.")
    return members


def _names_of(keys: Sequence[str]) -> dict[str, str]:
    """Each key's last word, or the whole key where several end alike."""
    last = {key: key.rpartition(".")[2] for key in keys}
    return {
        key: name if list(last.values()).count(name) == 1 else key for key, name in last.items()
    }


def parse_grid(items: Sequence[str]) -> dict[str, list[str]]:
    """ "key=a,b" -> key and its values; a comma within brackets parts nothing.

    Raises:
        InputError: an item is not of that form, or a key is there twice.
    """
    grid: dict[str, list[str]] = {}
    for item in items:
        key, _, values = item.partition("=")
        split = _split(values)
        if not key or not all(split):
            raise InputError(f"--grid: {item!r} is not of the form key=value,value.")
        if key in grid:
            raise InputError(f"--grid: {key} is there twice. Put its values into one list.")
        grid[key] = split
    return grid


def _split(values: str) -> list[str]:
    found, depth = [""], 0
    for char in values:
        depth += (char in "[{(") - (char in ")}]")
        if char == "," and depth == 0:
            found.append("")
        else:
            found[-1] += char
    return found


def all_settings(grid: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination of a grid's values; [{}] of an empty grid."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def is_finished(member: Member, config: Mapping[str, Any]) -> bool:
    """Whether an earlier command has trained this member to its end, with this config.

    Raises:
        InputError: it was begun with another config, or its folder holds another run.
    """
    path = member.folder / STATE
    try:
        state = json.loads(path.read_text("utf-8"))
        old, finished = state["config"], bool(state["finished"])
    except FileNotFoundError:
        if any(member.folder.glob("*.ckpt")):
            raise InputError(
                f"{member.folder}: holds a run that hm_concat repeat did not make. Give another "
                "env.save_dir."
            ) from None
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Remove {member.folder}.") from None
    if found := differences(bearing_on_result(old), bearing_on_result(config)):
        shown = ", ".join(first_and_more(found, 5))
        raise InputError(
            f"{member.folder}: was trained with another config: {shown}. Give another "
            "env.save_dir, or remove that folder."
        )
    return finished


def note(member: Member, config: Mapping[str, Any], finished: bool) -> None:
    """Write the member's state.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with atomic_write(member.folder / STATE) as temporary:
            state = {"finished": finished, "options": member.options, "config": config}
            temporary.write_text(json.dumps(state, indent=1, default=str) + "\n", "utf-8")
    except OSError as error:
        raise InputError(f"{member.folder / STATE}: cannot be written ({error}).") from None


def bearing_on_result(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's config on which its result depends, as JSON has it."""
    kept = {key: value for key, value in config.items() if key not in PLACES}
    datasets = kept.get("dataset_config") or {}
    kept["dataset_config"] = {
        name: {key: value for key, value in each.items() if key not in PLACES_OF_DATA}
        if isinstance(each, Mapping)
        else each
        for name, each in datasets.items()
    }
    return json.loads(json.dumps(kept, default=str))

"""`hm_concat runs`: the runs in a folder side by side: when, what, how good, how they differ."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mmf_hm_concat.config.yaml_files import read_lines
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.checkpoints import BEST, CONFIG, CURRENT, EPOCHS
from mmf_hm_concat.training.metrics_log import METRICS, RESULTS, read_metrics, read_results

# Where a run is and what it says about itself: no difference in what it does.
NOT_COMPARED = ("env", "config", "model", "datasets", "run_type", "training.tensorboard")
MAX_DEPTH = 6  # of folders below the one given
LONGEST = 60  # characters of a value


def find_runs(folder: Path) -> list[Path]:
    """The folders under ``folder`` (itself included) that hold a checkpoint, oldest first.

    Raises:
        InputError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Give one that holds runs (env.save_dir).")
    found = []
    for place, folders, files in os.walk(folder):
        path = Path(place)
        folders[:] = [each for each in folders if not each.startswith(".") and each != EPOCHS]
        if len(path.relative_to(folder).parts) >= MAX_DEPTH:
            folders.clear()
        if BEST in files or CURRENT in files:
            found.append(path)
    if not found:
        raise InputError(f"{folder}: there are no runs in it (folders with a {BEST}).")
    return sorted(found, key=lambda path: (_saved(path), path))


def describe_runs(folder: Path) -> list[dict[str, Any]]:
    """What each run is, as JSON values.

    Returns:
        For each run, oldest first: "run" (its folder), "when" (its last checkpoint, ISO 8601),
        "model", "data" (the folder), "epochs", "criterion", "best", "best_epoch" (None where the
        run does not say), "is_finished", and "differs" (key -> value, of the config's keys in which
        the runs are not all alike).

    Raises:
        InputError: see `find_runs`; or a config is damaged.
    """
    runs = find_runs(folder)
    configs = [_flat(_config(run)) for run in runs]
    differing = _differing(configs)
    return [
        {
            "run": str(run),
            "when": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(_saved(run))),
            "model": config.get("model"),
            "data": _data(config),
            **_metrics(run, config),
            "differs": {key: config[key] for key in differing if key in config},
        }
        for run, config in zip(runs, configs, strict=True)
    ]


def table(runs: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """The same for people: one line a run, and what differs beneath."""
    rows = [
        {
            "run": os.path.relpath(run["run"], folder),
            "when": run["when"].replace("T", " ")[:16],
            "model": run["model"] or "?",
            "data": run["data"] or "?",
            "epochs": run["epochs"] if run["is_finished"] else f"{run['epochs']}, unfinished",
            "best": "?"
            if run["best"] is None
            else f"{run['criterion'].rpartition('/')[2]} {run['best']:.4f}"
            + (f" (epoch {run['best_epoch']})" if run["best_epoch"] else ""),
        }
        for run in runs
    ]
    lines = pd.DataFrame(rows).to_string(index=False).splitlines()
    told = [
        f"  {row['run']}: " + ", ".join(f"{k}={_short(v)}" for k, v in run["differs"].items())
        for row, run in zip(rows, runs, strict=True)
        if run["differs"]
    ]
    return "\n".join([*lines, *(["", "What differs in their configs:", *told] if told else [])])


def _saved(run: Path) -> float:
    return max((run / name).stat().st_mtime for name in (BEST, CURRENT) if (run / name).exists())


def _config(run: Path) -> dict[str, Any]:
    path = run / CONFIG
    if not path.is_file():
        return {}
    if problem := read_lines(str(path.resolve()), Path())[1]:
        raise InputError(problem)
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{above}.{key}" if above else str(key)
        found |= _flat(value, name) if isinstance(value, Mapping) and value else {name: value}
    return found


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys in which the runs are not all alike; those that have no config do not count."""
    with_config = [config for config in configs if config]
    keys = dict.fromkeys(key for config in with_config for key in config)
    used = {name for config in with_config for name in (config.get("model"), *_datasets(config))}
    return [
        key
        for key in keys
        if not any(key == each or key.startswith(f"{each}.") for each in NOT_COMPARED)
        and not key.endswith(("data_dir", "cache_dir"))
        and (
            key.split(".")[0] not in ("model_config", "dataset_config") or key.split(".")[1] in used
        )
        and any(config.get(key) != with_config[0].get(key) for config in with_config)
    ]


def _datasets(config: Mapping[str, Any]) -> list[str]:
    return str(config.get("datasets") or "").split(",")


def _data(config: Mapping[str, Any]) -> str | None:
    found = [config.get(f"dataset_config.{name}.data_dir") for name in _datasets(config)]
    return ", ".join(map(str, found)) if any(found) else None


def _metrics(run: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    records = read_metrics(run / METRICS)
    results = read_results(run / RESULTS)
    if results is not None:
        kept = ("criterion", "best", "best_epoch", "epochs")
        return {**{key: results.get(key) for key in kept}, "is_finished": True}
    criterion = str(config.get("training.early_stop.criteria") or "")
    best: dict[str, Any] = next((each for each in reversed(records) if each.get("best")), {})
    return {
        "criterion": criterion,
        "best": best.get("val", {}).get(criterion),
        "best_epoch": best.get("epoch"),
        "epochs": len(records),
        "is_finished": False,
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."

"""The config inside a checkpoint, checked before a network is built from it."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mmf_hm_concat.config.check import (
    Problems,
    check_values,
    keys_of_run,
    lookup,
    over,
    raise_problems,
)
from mmf_hm_concat.config.description import OUR_DATASET, OUR_MODEL, Key
from mmf_hm_concat.config.kinds import text

CONFIGS = Path(__file__).parent.parent / "configs"
# What is built from; the rest of an old or foreign config does not matter.
READ = (OUR_MODEL, f"{OUR_DATASET}.processors", "training.precision")


def checked_config(state: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The config of the checkpoint ``state``, of which a classifier can be built.

    What an older release did not have yet is filled in from our defaults; a config of another
    model or data set is returned as it is.

    Raises:
        InputError: names ``path`` and each key that is missing or not what it may be.
    """
    config = state.get("config")
    given: dict[str, Any] = dict(config) if isinstance(config, Mapping) else {}
    groups = ("model_config", "dataset_config")
    problems: Problems = {
        key: "is missing, or no group of keys: not a checkpoint of a run of concat_trainer."
        for key in (*groups, "training")
        if not isinstance(given.get(key), dict)
    }
    raise_problems(problems, given, lambda key: None, str(path))
    if given.get("model") != "concat_vl" or "hm_competition" not in given["dataset_config"]:
        return given
    if not isinstance(lookup(given, OUR_DATASET), dict):
        problems[OUR_DATASET] = "is no group of keys."
        raise_problems(problems, given, lambda key: None, str(path))
    for file in ("models/concat_vl.yaml", "datasets/hm_competition.yaml"):
        defaults = yaml.safe_load((CONFIGS / file).read_text("utf-8"))
        given = over(defaults, given)
    keys = keys_of_run({**given, "datasets": "hm_competition"})
    keys = {name: key for name, key in keys.items() if name.startswith(READ)}
    keys["training.device"] = Key(text("a device"), "Where it was trained.")
    values = copy.deepcopy(given)
    found = check_values(values, keys)
    problems = {key: text for key, text in found.items() if not text.startswith("there is no key")}
    if not problems:
        problems = _lacking(values, state)
    raise_problems(problems, given, lambda key: None, str(path))
    return values


def _lacking(config: Mapping[str, Any], state: Mapping[str, Any]) -> Problems:
    """What the branches of the model need and is not there."""
    language, vision = (lookup(config, f"{OUR_MODEL}.{name}") for name in ("language", "vision"))
    processors = lookup(config, f"{OUR_DATASET}.processors")
    problems = {
        key: "is missing."
        for key in ("training.device", "training.precision")
        if lookup(config, key) is None
    }
    if language and not language.get("features_file"):
        if not processors.get("text_processor"):
            problems[f"{OUR_DATASET}.processors.text_processor"] = "is missing, for language."
        if not isinstance(state.get("text_model"), str) and not language.get("mmf_encoder"):
            problems["text_model"] = "the checkpoint does not say which text model it needs."
    if vision and vision.get("features_file"):
        vision = None  # which needs nothing more
    size = f"{OUR_DATASET}.processors.image_processor.params.size"
    if vision and not state.get("image_preprocessing"):
        problems["image_preprocessing"] = "the checkpoint does not say how images are normalised."
    if vision and processors.get("image_processor", {"type": None}) is None:
        problems[f"{OUR_DATASET}.processors.image_processor"] = "is missing, for vision."
    elif vision and not lookup(config, size):
        problems[size] = "is missing."
    return problems

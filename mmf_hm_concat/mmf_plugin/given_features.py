"""`features_file` in a run: the vectors of its memes, read once, and checked to be there."""

import logging
from typing import Any

from mmf.utils.distributed import is_master
from omegaconf import OmegaConf

from mmf_hm_concat.config.check import lookup
from mmf_hm_concat.config.model_and_data import BRANCHES, BRANCHES_OF_MMF
from mmf_hm_concat.data.features_file import FeaturesFile, read_features, say_lacking
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.processors import _own_config
from mmf_hm_concat.mmf_plugin.shared import shared

logger = logging.getLogger("mmf_hm_concat")


def given_features() -> dict[str, FeaturesFile]:
    """By branch ("language", "vision"), the vectors of all memes that this run reads.

    Raises:
        InputError: a file cannot be used, or lacks a meme.
    """
    run = shared()
    if run.given_features is None:
        files = _files(run.config)
        run.given_features = {branch: _read(*named) for branch, named in files.items()}
        if files and "train" in run.memes and is_master():
            keys = [key for key, _ in files.values()]
            logger.warning(
                "This run cannot score new memes without their vectors: make them with the same "
                "encoder, and name the file to mmf_predict: %s. hm_concat predict and export take "
                "no vectors, so they do not work with this run.",
                " ".join(f"{key}=FILE" for key in keys),
            )
        if run.config.model != "concat_vl":
            _check_widths_of_mmf(run.given_features, run.config)
    return run.given_features


def _files(config: Any) -> dict[str, tuple[str, str]]:
    """By branch, the key that names a features file, and the file."""
    own = OmegaConf.to_container(_own_config(config), resolve=True)
    places = BRANCHES if config.model == "concat_vl" else BRANCHES_OF_MMF
    found = {}
    for branch, place in zip(BRANCHES, places, strict=True):
        encoder = own.get(place)
        if isinstance(encoder, dict) and encoder.get("features_file"):
            key = f"model_config.{config.model}.{place}.features_file"
            found[branch] = key, encoder["features_file"]
    return found


def _check_widths_of_mmf(found: dict[str, FeaturesFile], config: Any) -> None:
    """MMF's models size their layers by their config, and fail in the first batch."""
    own = OmegaConf.to_container(_own_config(config), resolve=True)
    keys = {"language": "text_hidden_size", "vision": "modal_hidden_size"}
    if lookup(own, "modal_encoder.type") == "projection":
        keys["vision"] = "modal_encoder.params.in_dim"
    for branch, file in found.items():
        if (given := lookup(own, keys[branch])) != file.width:
            raise InputError(
                f"model_config.{config.model}.{keys[branch]} = {given}: {file.path} has vectors of "
                f"{file.width:,} numbers. Make the two the same."
            )


def _read(key: str, path: str) -> FeaturesFile:
    run = shared()
    try:
        file = read_features(path, [n for memes in run.memes.values() for n in memes.number])
    except InputError as error:
        raise InputError(f"{key}: {error}") from None
    for split, memes in run.memes.items():
        if lacking := file.lacking(memes.number):
            told = say_lacking(file.path, lacking, len(memes), split)
            raise InputError(
                f"{key}: {told}. Add the vectors, or name a file that has them: "
                f"{key}=FILE on the command line."
            )
    logger.info("%s: %s.", key, file)
    return file

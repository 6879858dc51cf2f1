"""From the settings of `model_config.concat_vl` to the fusion network, without MMF."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from mmf_hm_concat.encoders.base import InFloat32, ProjectedEncoder
from mmf_hm_concat.encoders.torchvision_networks import VisionEncoder
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.models.fusion import LanguageAndVisionConcat, Standardize

NONE: Mapping[str, nn.Module] = MappingProxyType({})


def build_network(
    config: Mapping[str, Any], mmf_encoders: Mapping[str, nn.Module] = NONE
) -> LanguageAndVisionConcat:
    """Build the network that ``config`` (keys: configs/models/concat_vl.yaml) describes.

    Args:
        mmf_encoders: what MMF built for the branches ("language", "vision") that have a
            `mmf_encoder`.

    Raises:
        InputError: when both branches are left out, an encoder cannot be built, or one of MMF is
            not given.
    """
    language, vision = config["language"], config["vision"]
    if not language and not vision:
        raise InputError(
            "model_config.concat_vl: language and vision are both null; keep at least one."
        )
    language_module = vision_module = None
    if language and language.get("mmf_encoder"):
        language_module = _projected("language", language, mmf_encoders)
    elif language:
        project = nn.Linear(language["in_features"], language["out_features"])
        first = (
            Standardize(language["in_features"]) if config["standardize_text"] else nn.Identity()
        )
        language_module = InFloat32(first, project)
    if vision and vision.get("mmf_encoder"):
        vision_module = _projected("vision", vision, mmf_encoders)
    elif vision:
        vision_module = VisionEncoder(
            vision["name"], vision["weights"], vision["out_features"], vision["freeze"]
        )
    return LanguageAndVisionConcat(
        language_module,
        vision_module,
        language_dim=language["out_features"] if language else 0,
        vision_dim=vision["out_features"] if vision else 0,
        fusion_dim=config["fusion_features"],
        dropout=config["dropout"],
    )


def _projected(
    branch: str, settings: Mapping[str, Any], mmf_encoders: Mapping[str, nn.Module]
) -> ProjectedEncoder:
    if branch not in mmf_encoders:
        raise InputError(
            f"model_config.concat_vl.{branch}.mmf_encoder: this model has an encoder of MMF, which "
            "only MMF can build: use mmf_predict."
        )
    return ProjectedEncoder(
        branch,
        mmf_encoders[branch],
        settings["in_features"],
        settings["out_features"],
        settings["freeze"],
    )

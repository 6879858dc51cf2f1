"""From the settings of `model_config.concat_vl` to the fusion network, without MMF."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.fusion import LanguageAndVisionConcat, Standardize
from mmf_hm_concat.vision import VisionEncoder


def build_network(config: Mapping[str, Any]) -> LanguageAndVisionConcat:
    """Build the network that ``config`` (keys: configs/models/concat_vl.yaml) describes.

    Raises:
        InputError: when both branches are left out, or the image encoder cannot be built.
    """
    language, vision = config["language"], config["vision"]
    if not language and not vision:
        raise InputError(
            "model_config.concat_vl: language and vision are both null; keep at least one."
        )
    language_module = vision_module = None
    if language:
        project = nn.Linear(language["in_features"], language["out_features"])
        first = (
            Standardize(language["in_features"]) if config["standardize_text"] else nn.Identity()
        )
        language_module = nn.Sequential(first, project)
    if vision:
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

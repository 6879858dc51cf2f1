"""From the keys of `model_config.concat_vl` to the network, without MMF."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mmf_hm_concat.encoders.base import ProjectedEncoder
from mmf_hm_concat.encoders.image_preprocessing import IMAGENET, ImagePreprocessing
from mmf_hm_concat.encoders.sentence_vectors import SentenceVectorEncoder
from mmf_hm_concat.encoders.torchvision_networks import TorchvisionEncoder
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.models.fusions import FUSIONS
from mmf_hm_concat.models.network import FusionNetwork, MLPHead

NONE: Mapping[str, nn.Module] = MappingProxyType({})
# By `language.encoder`, made from (in_features, out_features, standardize_text).
TEXT_ENCODERS = {"sentence_vector": SentenceVectorEncoder}
# By `vision.encoder`, made from (name, weights, out_features, freeze).
IMAGE_ENCODERS = {"torchvision": TorchvisionEncoder}


def build_network(
    config: Mapping[str, Any], mmf_encoders: Mapping[str, nn.Module] = NONE
) -> FusionNetwork:
    """Build the network that ``config`` (keys: configs/models/concat_vl.yaml) describes.

    Args:
        mmf_encoders: what MMF built for the branches ("language", "vision") that have a
            `mmf_encoder`.

    Raises:
        InputError: when both branches are left out, a key's value is unknown or out of range, an
            encoder or fusion cannot be built, or an encoder of MMF is not given.
    """
    language, vision = config["language"], config["vision"]
    if not language and not vision:
        raise InputError(
            "model_config.concat_vl: language and vision are both null; keep at least one."
        )
    _check_numbers(config)
    fusion_class = _chosen("fusion", config["fusion"], FUSIONS)
    language_module: nn.Module | None = None
    vision_module: nn.Module | None = None
    if language and language.get("mmf_encoder"):
        language_module = _projected("language", language, mmf_encoders)
    elif language:
        encoder = _chosen("language.encoder", language["encoder"], TEXT_ENCODERS)
        language_module = encoder(
            language["in_features"], language["out_features"], config["standardize_text"]
        )
    if vision and vision.get("mmf_encoder"):
        vision_module = _projected("vision", vision, mmf_encoders)
    elif vision:
        encoder = _chosen("vision.encoder", vision["encoder"], IMAGE_ENCODERS)
        vision_module = encoder(
            vision["name"], vision["weights"], vision["out_features"], vision["freeze"]
        )
    fusion = fusion_class([branch["out_features"] for branch in (language, vision) if branch])
    head = MLPHead(
        fusion.out_features,
        config["fusion_features"],
        num_layers=config["head_layers"],
        dropout=config["dropout"],
        input_dropout=config["fusion_dropout"],
        num_classes=config["num_classes"],
    )
    return FusionNetwork(language_module, vision_module, fusion, head, config["projection_dropout"])


class NoMemory(TorchFunctionMode):
    """A context in which layers are made without memory: for shapes that are yet to be checked.

    Not `torch.device("meta")`: some networks of torchvision compute their widths with tensors, and
    only weights are made by `torch.empty`.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return func(*args, **(kwargs | {"device": "meta"} if func is torch.empty else kwargs))


def image_preprocessing(config: Mapping[str, Any]) -> ImagePreprocessing:
    """What the image encoder that ``config`` describes wants, before anything is built.

    Raises:
        InputError: there is no such encoder.
    """
    vision = config["vision"]
    if not vision or vision.get("mmf_encoder"):
        return ProjectedEncoder.preprocessing if vision else IMAGENET
    encoder = _chosen("vision.encoder", vision["encoder"], IMAGE_ENCODERS)
    return encoder.preprocessing_of(vision["name"], vision["weights"])


def _chosen(key: str, name: Any, choices: Mapping[str, Any]) -> Any:
    if name not in choices:
        raise InputError(
            f"model_config.concat_vl.{key}: {name!r} is not one of {', '.join(choices)}."
        )
    return choices[name]


def _check_numbers(config: Mapping[str, Any]) -> None:
    for key, least in (("head_layers", 0), ("num_classes", 2)):
        value = config[key]
        if type(value) is not int or value < least:
            raise InputError(
                f"model_config.concat_vl.{key} = {value!r}: give a whole number from {least} on."
            )
    for key in ("dropout", "fusion_dropout", "projection_dropout"):
        value = config[key]
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise InputError(
                f"model_config.concat_vl.{key} = {value!r}: give a number from 0 to below 1."
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

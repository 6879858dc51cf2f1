"""From the keys of `model_config.concat_vl` to the network, without MMF."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mmf_hm_concat.config.check import encoder_and_name
from mmf_hm_concat.encoders.base import ProjectedEncoder, TextPreparation
from mmf_hm_concat.encoders.clip_towers import ClipImageEncoder, ClipTextEncoder
from mmf_hm_concat.encoders.given_features import GivenFeatures
from mmf_hm_concat.encoders.image_preprocessing import IMAGENET, ImagePreprocessing
from mmf_hm_concat.encoders.sentence_vectors import SentenceVectorEncoder
from mmf_hm_concat.encoders.static_vectors import StaticEncoder
from mmf_hm_concat.encoders.timm_networks import TimmEncoder
from mmf_hm_concat.encoders.torchvision_networks import TorchvisionEncoder
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.models.fusions import FUSIONS
from mmf_hm_concat.models.network import FusionNetwork, MLPHead

NONE: Mapping[str, nn.Module] = MappingProxyType({})
# By what `language.name` begins with, else `language.encoder`; made with
# `from_config(name, language, standardize_text)`.
TEXT_ENCODERS: dict[str, Any] = {
    "sentence_vector": SentenceVectorEncoder,
    "wordllama": StaticEncoder,
    "open_clip": ClipTextEncoder,
}
# By what `vision.name` begins with, else `vision.encoder`; made from (name, weights, out_features,
# freeze).
IMAGE_ENCODERS: dict[str, Any] = {
    "torchvision": TorchvisionEncoder,
    "timm": TimmEncoder,
    "open_clip": ClipImageEncoder,
}


def build_network(
    config: Mapping[str, Any], mmf_encoders: Mapping[str, nn.Module] = NONE
) -> FusionNetwork:
    """Build the network that ``config`` (keys: configs/models/concat_vl.yaml) describes.

    Args:
        config: of a branch with a `features_file`, ``in_features`` is the width of its vectors.
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
    fusion_class = _chosen("fusion", config["fusion"], FUSIONS)
    language_module: nn.Module | None = None
    vision_module: nn.Module | None = None
    if language and language.get("features_file"):
        language_module = GivenFeatures("language", language, config["standardize_text"])
    elif language and language.get("mmf_encoder"):
        language_module = _projected("language", language, mmf_encoders)
    elif language:
        kind, name = encoder_and_name(language, TEXT_ENCODERS)
        encoder = _chosen("language.encoder", kind, TEXT_ENCODERS)
        language_module = encoder.from_config(name, language, config["standardize_text"])
    if vision and vision.get("features_file"):
        vision_module = GivenFeatures("vision", vision, True)
    elif vision and vision.get("mmf_encoder"):
        vision_module = _projected("vision", vision, mmf_encoders)
    elif vision:
        kind, name = encoder_and_name(vision, IMAGE_ENCODERS)
        encoder = _chosen("vision.encoder", kind, IMAGE_ENCODERS)
        vision_module = encoder(name, vision["weights"], vision["out_features"], vision["freeze"])
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
        if func is torch.Tensor.to and args[0].is_meta:  # open_clip moves what it has built
            return args[0]
        return func(*args, **(kwargs | {"device": "meta"} if func is torch.empty else kwargs))


def image_preprocessing(config: Mapping[str, Any]) -> ImagePreprocessing:
    """What the image encoder that ``config`` describes wants, before anything is built.

    Raises:
        InputError: there is no such encoder.
    """
    vision = config["vision"]
    if not vision or vision.get("mmf_encoder") or vision.get("features_file"):
        return ProjectedEncoder.preprocessing if vision else IMAGENET
    kind, name = encoder_and_name(vision, IMAGE_ENCODERS)
    encoder = _chosen("vision.encoder", kind, IMAGE_ENCODERS)
    return encoder.preprocessing_of(name, vision["weights"])


def text_preparation(config: Mapping[str, Any]) -> TextPreparation | None:
    """How texts become what the text encoder that ``config`` describes reads.

    None when the data set's text processor does that, there is no text branch, or its vectors are
    given.

    Raises:
        InputError: there is no such encoder, or its library is not installed.
    """
    language = config["language"]
    if not language or language.get("mmf_encoder") or language.get("features_file"):
        return None
    kind, name = encoder_and_name(language, TEXT_ENCODERS)
    return _chosen("language.encoder", kind, TEXT_ENCODERS).preparation_of(name)


def _chosen(key: str, name: Any, choices: Mapping[str, Any]) -> Any:
    if name not in choices:
        raise InputError(
            f"model_config.concat_vl.{key}: {name!r} is not one of {', '.join(choices)}."
        )
    return choices[name]


def _projected(
    branch: str, config: Mapping[str, Any], mmf_encoders: Mapping[str, nn.Module]
) -> ProjectedEncoder:
    if branch not in mmf_encoders:
        raise InputError(
            f"model_config.concat_vl.{branch}.mmf_encoder: this model has an encoder of MMF, which "
            "only MMF can build: use mmf_predict."
        )
    return ProjectedEncoder(
        branch,
        mmf_encoders[branch],
        config["in_features"],
        config["out_features"],
        config["freeze"],
    )

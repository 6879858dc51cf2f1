"""The MMF model `concat_vl`: builds the fusion network from YAML and feeds it a SampleList."""

from typing import Any

import torch
from mmf.common.registry import registry
from mmf.models.base_model import BaseModel
from mmf.utils.build import build_image_encoder, build_text_encoder
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from mmf_hm_concat.encoders.base import Encoder, TextPreparation
from mmf_hm_concat.encoders.given_features import GivenFeatures
from mmf_hm_concat.encoders.image_preprocessing import ImagePreprocessing
from mmf_hm_concat.encoders.sentence_vectors import SentenceVectorEncoder
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.configuration import CONFIGS
from mmf_hm_concat.mmf_plugin.processors import image_preprocessing
from mmf_hm_concat.mmf_plugin.shared import shared
from mmf_hm_concat.models import build as network_builder


@registry.register_model("concat_vl")
class ConcatVL(BaseModel):
    """Mid-level concat fusion; keys of its config are in configs/models/concat_vl.yaml."""

    def __init__(self, config: DictConfig):
        super().__init__(config)

    @classmethod
    def config_path(cls) -> str:
        return str(CONFIGS / "models" / "concat_vl.yaml")

    @classmethod
    def image_preprocessing(cls, config: DictConfig) -> ImagePreprocessing:
        """What the image encoder in ``config`` wants; see `processors.image_preprocessing`."""
        return network_builder.image_preprocessing(OmegaConf.to_container(config, resolve=True))

    @classmethod
    def text_preparation(cls, config: DictConfig) -> TextPreparation | None:
        """What the text encoder in ``config`` wants; see `processors.text_preparation`."""
        return network_builder.text_preparation(OmegaConf.to_container(config, resolve=True))

    def build(self) -> None:
        """Build the network; raises InputError when keys, weights or dimensions do not fit."""
        config = OmegaConf.to_container(self.config, resolve=True)
        branches = [branch for branch in (config["language"], config["vision"]) if branch]
        # A checkpoint is about to replace the weights: do not ask for pretrained ones.
        config_of_run = registry.get("config")
        trains = "train" in config_of_run.run_type and not config_of_run.evaluation.predict
        if not trains:
            for branch in branches:
                branch["weights"] = "none"
                given = branch.get("mmf_encoder") or {}
                if "pretrained" in given.get("params", {}):
                    given["params"]["pretrained"] = False
        given = shared().given_features or {}
        for branch, file in given.items():
            config[branch]["in_features"] = file.width
        self.network = network_builder.build_network(config, _mmf_encoders(config))
        if config["vision"] and "vision" not in given:
            # Weights that a checkpoint brings want what they were trained with.
            self.network.vision_module.preprocessing = image_preprocessing()
        text_encoder = self.network.language_module
        statistics = shared().text_statistics
        if isinstance(text_encoder, SentenceVectorEncoder) and statistics:
            text_encoder.set_statistics(*map(torch.from_numpy, statistics))
        for branch, of_branch in shared().feature_statistics.items():
            module = getattr(self.network, f"{branch}_module")
            module.set_statistics(*map(torch.from_numpy, of_branch))

    def frozen_weights(self) -> dict[str, Tensor]:
        """Those that a checkpoint names by their checksum alone; see `FusionNetwork`."""
        return {f"network.{key}": w for key, w in self.network.frozen_weights().items()}

    @property
    def preprocessing(self) -> ImagePreprocessing | None:
        """What the image encoder wants; None without one. A checkpoint keeps it."""
        return getattr(self.network.vision_module, "preprocessing", None)

    def get_optimizer_parameters(self, config: DictConfig) -> list[dict[str, Any]]:
        """Two groups: the pretrained networks at their own learning rate, and all the rest."""
        lr = config.optimizer.params.lr
        encoders = (self.network.language_module, self.network.vision_module)
        pretrained = [
            parameter
            for encoder in encoders
            if isinstance(encoder, Encoder)
            for parameter in encoder.pretrained_parameters()
        ]
        held = {id(parameter) for parameter in pretrained}
        rest = [p for p in self.parameters() if id(p) not in held]
        groups = [{"params": [p for p in rest if p.requires_grad], "lr": lr}]
        trained = [p for p in pretrained if p.requires_grad]
        if trained:
            groups.append({"params": trained, "lr": lr * self.config.pretrained_lr_scale})
        return groups

    def forward(self, sample_list: Any) -> dict[str, Tensor]:
        """``text`` (B, L) and ``image`` (B, 3, H, W) in; ``scores``: logits, float (B, 2).

        In place of either, features that are known beforehand: ``language_features`` and
        ``vision_features``, float32 (B, ...).

        A text encoder of MMF reads ``input_ids``, ``input_mask`` and ``segment_ids`` (B, T) where
        the text processor gives them.
        """
        kept = {
            branch: sample_list[f"{branch}_features"]
            for branch in ("language", "vision")
            if f"{branch}_features" in sample_list
        }
        language, image = self.network.language_module, sample_list.get("image")
        text = None
        if language is not None and "language" not in kept:
            text = language.read(sample_list)
        if isinstance(self.network.vision_module, GivenFeatures) and "vision" not in kept:
            self.network.vision_module.read(sample_list)
        if image is None and self.network.vision_module is not None and "vision" not in kept:
            raise InputError(
                "The model reads images, but the data set gives none. Set its "
                "dataset_config's use_images=true, or model_config.concat_vl.vision=null."
            )
        return {"scores": self.network(text, image, kept)}


def _mmf_encoders(config: dict[str, Any]) -> dict[str, nn.Module]:
    """The encoders of MMF that ``config`` asks for, by branch."""
    encoders = {}
    for branch, build in (("language", build_text_encoder), ("vision", build_image_encoder)):
        encoder = (config[branch] or {}).get("mmf_encoder")
        if not encoder or config[branch].get("features_file"):
            continue
        try:
            encoders[branch] = build(OmegaConf.create(encoder))
        except Exception as error:  # whatever MMF, transformers or torch has to say about them
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"model_config.concat_vl.{branch}.mmf_encoder: MMF cannot build {encoder} "
                f"({reason}). It is {{type: ..., params: ...}} as MMF's own models have it; a "
                "transformer needs a local folder, or a network, for its bert_model_name."
            ) from None
    return encoders

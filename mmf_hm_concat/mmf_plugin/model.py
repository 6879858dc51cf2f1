"""The MMF model `concat_vl`: builds the fusion network from YAML and feeds it a SampleList."""

from typing import Any

import torch
from mmf.common.registry import registry
from mmf.models.base_model import BaseModel
from mmf.utils.build import build_image_encoder, build_text_encoder
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from mmf_hm_concat.encoders.base import Encoder
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.configuration import CONFIGS
from mmf_hm_concat.models.build import build_network

# What MMF's tokenizers call the tensors that a transformer takes, in the order it takes them.
OF_TOKENIZER = ("input_ids", "input_mask", "segment_ids")


@registry.register_model("concat_vl")
class ConcatVL(BaseModel):
    """Mid-level concat fusion; keys of its config are in configs/models/concat_vl.yaml."""

    def __init__(self, config: DictConfig):
        super().__init__(config)

    @classmethod
    def config_path(cls) -> str:
        return str(CONFIGS / "models" / "concat_vl.yaml")

    def build(self) -> None:
        """Build the network; raises InputError when keys, weights or dimensions do not fit."""
        config = OmegaConf.to_container(self.config, resolve=True)
        vision = config["vision"] or {}
        # A checkpoint is about to replace the weights: do not ask for pretrained ones.
        settings = registry.get("config")
        trains = "train" in settings.run_type and not settings.evaluation.predict
        if not trains and vision:
            vision["weights"] = "none"
            if vision["mmf_encoder"] and "pretrained" in vision["mmf_encoder"].get("params", {}):
                vision["mmf_encoder"]["params"]["pretrained"] = False
        self.network = build_network(config, _mmf_encoders(config))
        self.has_text_encoder = bool(config["language"] and config["language"]["mmf_encoder"])
        statistics = registry.get("text_statistics", no_warning=True)
        standardizes = (
            config["standardize_text"] and config["language"] and not self.has_text_encoder
        )
        if standardizes and statistics:
            mean, std = statistics
            self._check_text(len(mean))
            standardize = self.network.language_module[0]
            standardize.set_statistics(torch.from_numpy(mean), torch.from_numpy(std))

    def _check_text(self, given: int) -> None:
        wanted = self.config.language.in_features
        if given != wanted:
            raise InputError(
                f"The text processor gives sentence vectors of {given} numbers, the model "
                f"expects {wanted}. Make processors.text_processor.params.dim (or the "
                "model_file) and model_config.concat_vl.language.in_features the same."
            )

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

        A text encoder of MMF reads ``input_ids``, ``input_mask`` and ``segment_ids`` (B, T) where
        the text processor gives them.
        """
        text, image = sample_list.get("text"), sample_list.get("image")
        if self.has_text_encoder and "input_ids" in sample_list:
            text = tuple(sample_list[name] for name in OF_TOKENIZER)
        elif self.network.language_module is not None:
            if not isinstance(text, Tensor):
                raise InputError(
                    "The model reads sentence vectors, but the data set gives "
                    f"{'no text' if text is None else 'words'}. Use the text processor "
                    "fasttext_sentence_vector, a model_config.concat_vl.language.mmf_encoder that "
                    "reads what yours gives, or model_config.concat_vl.language=null."
                )
            if not self.has_text_encoder:
                self._check_text(text.shape[-1])
        if image is None and self.network.vision_module is not None:
            raise InputError(
                "The model reads images, but the data set gives none. Set its "
                "dataset_config's use_images=true, or model_config.concat_vl.vision=null."
            )
        return {"scores": self.network(text, image)}


def _mmf_encoders(config: dict[str, Any]) -> dict[str, nn.Module]:
    """The encoders of MMF that ``config`` asks for, by branch."""
    encoders = {}
    for branch, build in (("language", build_text_encoder), ("vision", build_image_encoder)):
        settings = (config[branch] or {}).get("mmf_encoder")
        if not settings:
            continue
        try:
            encoders[branch] = build(OmegaConf.create(settings))
        except Exception as error:  # whatever MMF, transformers or torch has to say about them
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"model_config.concat_vl.{branch}.mmf_encoder: MMF cannot build {settings} "
                f"({reason}). It is {{type: ..., params: ...}} as MMF's own models have it; a "
                "transformer needs a local folder, or a network, for its bert_model_name."
            ) from None
    return encoders

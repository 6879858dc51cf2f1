"""The MMF model `concat_vl`: builds the fusion network from YAML and feeds it a SampleList."""

from typing import Any

import torch
from mmf.common.registry import registry
from mmf.models.base_model import BaseModel
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.network import build_network
from mmf_hm_concat.plugin.changes import CONFIGS


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
        # A checkpoint is about to replace the weights: do not ask for pretrained ones.
        settings = registry.get("config")
        trains = "train" in settings.run_type and not settings.evaluation.predict
        if not trains and config["vision"]:
            config["vision"]["weights"] = "none"
        self.network = build_network(config)
        statistics = registry.get("text_statistics", no_warning=True)
        if config["language"] and config["standardize_text"] and statistics:
            mean, std = statistics
            wanted = config["language"]["in_features"]
            if len(mean) != wanted:
                raise InputError(
                    f"The text processor gives sentence vectors of {len(mean)} numbers, the model "
                    f"expects {wanted}. Make processors.text_processor.params.dim (or the "
                    "model_file) and model_config.concat_vl.language.in_features the same."
                )
            standardize = self.network.language_module[0]
            standardize.set_statistics(torch.from_numpy(mean), torch.from_numpy(std))

    def get_optimizer_parameters(self, config: DictConfig) -> list[dict[str, Any]]:
        """Two groups: the pretrained network at its own learning rate, and all the rest."""
        lr = config.optimizer.params.lr
        encoder = self.network.vision_module
        pretrained = encoder.pretrained_parameters() if encoder is not None else []
        held = {id(parameter) for parameter in pretrained}
        rest = [p for p in self.parameters() if id(p) not in held]
        groups = [{"params": [p for p in rest if p.requires_grad], "lr": lr}]
        trained = [p for p in pretrained if p.requires_grad]
        if trained:
            groups.append({"params": trained, "lr": lr * self.config.pretrained_lr_scale})
        return groups

    def forward(self, sample_list: Any) -> dict[str, Tensor]:
        """``text`` (B, L) and ``image`` (B, 3, H, W) in; ``scores``: logits, float (B, 2)."""
        text, image = sample_list.get("text"), sample_list.get("image")
        if image is None and self.network.vision_module is not None:
            raise InputError(
                "The data set gives no pictures (use_images: false), but the model looks at them. "
                "Set use_images to true, or in the YAML model_config.concat_vl.vision: null."
            )
        return {"scores": self.network(text, image)}

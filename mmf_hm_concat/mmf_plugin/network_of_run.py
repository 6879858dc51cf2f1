"""What a run trains: its config's model, the optimizer, and the network that the ranks share."""

import copy
from typing import Any

import torch
from mmf.utils.build import build_model, build_optimizer
from mmf.utils.distributed import get_world_size
from omegaconf import DictConfig, open_dict
from torch import nn

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.distributed import mean_in_rank_order


def model_of_run(config: DictConfig, device: torch.device) -> nn.Module:
    """The model that ``config.model`` names, on ``device``, channels last.

    Raises:
        InputError: it cannot be built; mostly, weights are missing or of other sizes.
    """
    attributes = config.model_config[config.model]
    if isinstance(attributes, str):  # MMF: the config of another model
        attributes = config.model_config[attributes]
    with open_dict(attributes):
        attributes.model = config.model
    try:
        model = build_model(attributes)
    except (OSError, RuntimeError) as error:
        reason = "\n".join(str(error).strip().splitlines()[:3])
        raise InputError(
            f"model_config.{config.model}: the model cannot be built: {reason}\nCompare "
            f"the keys under model_config.{config.model} with the weights they name."
        ) from None
    return model.to(device, memory_format=torch.channels_last)


def fused_optimizer(model: nn.Module, config: DictConfig) -> torch.optim.Optimizer:
    """The optimizer of the config, in one kernel where torch has that."""
    config = copy.deepcopy(config)  # how it is computed does not belong to the run's
    params = config.optimizer.params
    if config.optimizer.type in ("Adam", "AdamW", "SGD"):
        with open_dict(params):
            if not params.get("foreach"):  # which excludes fused kernels
                params.setdefault("fused", True)
    return build_optimizer(model, config)


def parallel_network(
    model: nn.Module, training: DictConfig, device: torch.device
) -> tuple[nn.Module, Any]:
    """The model, its batch norms synchronised if asked for, and what is called to train it.

    Raises:
        InputError: batch norms are to be synchronised on CPUs.
    """
    several = get_world_size() > 1
    if several and training.sync_batch_norm:
        if device.type == "cpu":
            raise InputError("training.sync_batch_norm: torch has it for GPUs only.")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    network: Any = torch.compile(model) if training.compile else model
    if several:
        network = nn.parallel.DistributedDataParallel(
            network, find_unused_parameters=training.find_unused_parameters
        )
        if device.type == "cpu":
            network.register_comm_hook(None, mean_in_rank_order)
    return model, network

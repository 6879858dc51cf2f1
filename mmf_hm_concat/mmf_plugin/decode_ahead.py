"""Whether the images of a run are decoded while the network computes, or all before."""

from mmf.common.registry import registry
from mmf.utils.distributed import get_world_size
from omegaconf import DictConfig


def decodes_ahead(config: DictConfig) -> bool:
    """Whether images are taken once, in order, by one process, for a GPU.

    So are those of a prediction and of a frozen encoder. On a CPU, decoding and computing would
    wait for the same cores. Workers of a loader could not see what this process has decoded.

    Args:
        config: MMF's, of the run.
    """
    if config.training.trainer != "concat_trainer" or get_world_size() > 1:
        return False
    vision = config.model_config.concat_vl.vision if config.model == "concat_vl" else None
    is_frozen = vision is not None and vision.freeze == "all"
    return (
        (config.evaluation.predict or is_frozen)
        and config.training.num_workers in ("auto", 0)
        and on_gpu()
    )


def on_gpu() -> bool:
    """Whether the trainer of this run has chosen a GPU."""
    device = registry.get("current_device", None, no_warning=True)
    return device is not None and device.type == "cuda"

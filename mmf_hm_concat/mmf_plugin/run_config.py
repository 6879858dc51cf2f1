"""The config of a run: written beside its checkpoints, and compared with that of another run."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training import checkpoints
from mmf_hm_concat.utils.files import atomic_write


def config_of_run(config: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """The whole config as `config=` takes it: without what MMF adds at run time."""
    found = OmegaConf.to_container(config, resolve=resolve)
    for key in ("start_rank", "device_id", "distributed"):
        found.pop(key, None)
    model = found["model_config"].get(found["model"])
    if isinstance(model, dict):
        model.pop("model", None)
    return found


def save_config(config: DictConfig, save_dir: Path) -> None:
    """Write the run's config beside its checkpoints; raises InputError where that fails."""
    path = save_dir / checkpoints.CONFIG
    config = OmegaConf.create(config_of_run(config, resolve=False))
    for dataset in config.dataset_config.values():  # so that it works from any folder
        if (place := dataset and dataset.get("data_dir")) and Path(place).exists():
            dataset.data_dir = str(Path(place).absolute())
    for branch in config.model_config.get(config.model, {}).values():
        file = branch.get("features_file") if isinstance(branch, DictConfig) else None
        if file and Path(file).exists():
            branch.features_file = str(Path(file).absolute())
    try:
        with atomic_write(path) as temporary:
            OmegaConf.save(config, temporary)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error}). Free some space.") from None


def changes(old: dict[str, Any], config: DictConfig, predicting: bool) -> list[str]:
    """Where ``config`` bears on the result and differs from ``old``, a checkpoint's config.

    Each as "training.seed 42 (now 7)".
    """
    old, new = (_bearing_on_result(each, predicting) for each in (old, config_of_run(config)))
    return checkpoints.differences(old, new)


def _bearing_on_result(config: dict[str, Any], predicting: bool) -> dict[str, Any]:
    """The part on which the predictions depend, or, when training, the next updates."""
    names = (config.get("datasets") or "").split(",")
    datasets = {name: config.get("dataset_config", {}).get(name) or {} for name in names}
    model = config.get("model")
    own = config.get("model_config", {}).get(model)
    if isinstance(own, dict):  # where a file lies is of no matter, but whether there is one
        own = {
            key: {**each, "features_file": "FILE"}
            if isinstance(each, dict) and each.get("features_file")
            else each
            for key, each in own.items()
        }
    found = {"model_config": {model: own}}
    if predicting:
        kept = ("image_size", "use_images", "processors")
        kept_of = {n: {k: d.get(k) for k in kept} for n, d in datasets.items()}
        return {**found, "dataset_config": kept_of}
    places = ("data_dir", "cache_dir", "image_cache")
    kept_of = {n: {k: v for k, v in d.items() if k not in places} for n, d in datasets.items()}
    training = config.get("training", {})
    keys = ("seed", "batch_size", "update_frequency", "clip_gradients", "max_grad_l2_norm")
    found |= {"dataset_config": kept_of, "training": {key: training.get(key) for key in keys}}
    return found | {key: config.get(key) for key in ("optimizer", "scheduler")}

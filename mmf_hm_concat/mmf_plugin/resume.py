"""Where a run starts from, and what it saves: the trainer's side of the checkpoints."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmf.common.registry import registry
from mmf.utils.distributed import get_rank, get_world_size, is_master
from omegaconf import DictConfig, OmegaConf

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.distributed import on_every_rank, on_first_rank
from mmf_hm_concat.training import checkpoints, random_state
from mmf_hm_concat.utils.files import atomic_write, remove_leftovers
from mmf_hm_concat.utils.text import first_and_more

if TYPE_CHECKING:
    from mmf_hm_concat.mmf_plugin.trainer import ConcatTrainer


def find_checkpoint(config: DictConfig, save_dir: Path) -> Path | None:
    """The checkpoint a run starts from, or None for a fresh training.

    Prediction takes `checkpoint.resume_file`, else the best of the run. Training takes
    `checkpoint.resume_file`; with `checkpoint.resume` the newest of the run (`resume_best`: the
    best).

    Raises:
        InputError: the file named is missing; or there is nothing to predict with.
    """
    settings = config.checkpoint
    best, current = save_dir / checkpoints.BEST, save_dir / checkpoints.CURRENT
    if settings.resume and not config.evaluation.predict:
        first, second = (best, current) if settings.resume_best else (current, best)
        if first.is_file() or second.is_file():
            return first if first.is_file() else second
    if settings.resume_file:
        if not Path(settings.resume_file).is_file():
            raise InputError(f"checkpoint.resume_file: {settings.resume_file} does not exist.")
        return Path(settings.resume_file)
    if config.evaluation.predict or "train" not in config.run_type:
        if best.is_file():
            return best
        raise InputError(
            f"No checkpoint to predict with: {best} does not exist. Train first with "
            f"mmf_run config={config.config} run_type=train_val, or name a checkpoint with "
            "checkpoint.resume_file=, or the run's folder with env.save_dir=."
        )
    return None


def load_for_prediction(trainer: "ConcatTrainer", path: Path | None) -> None:
    """Fill the model from a checkpoint, and refuse one that belongs to another text model."""
    assert path is not None  # find_checkpoint raises when there is nothing to predict with
    state, path = _load_on_all_ranks(trainer, path)
    _check_text_model(state, path)
    _compare_settings(trainer, state, path)
    checkpoints.load_weights(trainer.model, state["model"], path)
    trainer.log(f"Using the checkpoint {path} (epoch {state.get('current_epoch', '?')}).")


def _check_text_model(state: dict[str, Any], path: Path) -> None:
    wanted, found = state.get("text_model"), registry.get("text_model_checksum", no_warning=True)
    if wanted and found and wanted != found:
        raise InputError(
            f"{path} was trained with the text model {wanted[:12]}, but {found[:12]} is in use: "
            "its sentence vectors mean something else. Use the text_model.bin that lies beside "
            "that checkpoint."
        )


def start_run(trainer: "ConcatTrainer") -> None:
    """Resume as `checkpoint` says, or start afresh in a folder without old checkpoints."""
    settings = trainer.config.checkpoint
    path = trainer.start
    own = path is not None and trainer.save_dir.resolve() in path.resolve().parents
    on_first_rank(lambda: _clear_folder(trainer, own))
    if path is None:
        return
    state, path = _load_on_all_ranks(trainer, path, mend=own)
    if settings.resume_pretrained and settings.pretrained_state_mapping:
        _load_mapped(trainer, state["model"], settings.pretrained_state_mapping)
        return
    _check_text_model(state, path)
    checkpoints.load_weights(trainer.model, state["model"], path)
    if settings.reset.all or "run" not in state or settings.resume_pretrained:
        trainer.log(f"Starting from the weights of {path}.")
        return
    _compare_settings(trainer, state, path)
    if not settings.reset.optimizer:
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.scaler.load_state_dict(state["scaler"])
        if trainer.lr_scheduler is not None and state["scheduler"]:
            trainer.lr_scheduler.load_state_dict(state["scheduler"])
    if not settings.reset.counts:
        trainer.run = state["run"] if own else trainer.run
        trainer.current_epoch = state["current_epoch"]
        trainer.num_updates = state["num_updates"]
        trainer.done_batches = state["done_batches"]
        # It is the sum over the ranks of then: one of now takes it.
        trainer.epoch_loss = state["epoch_loss"].to(trainer.device) * is_master()
        trainer.epoch_memes = state["epoch_memes"]
        trainer.early_stop.load_state_dict(state["early_stop"])
        trainer.best_figures = state.get("best_figures", {})
        states = state["random"]
        if len(states) == get_world_size():
            random_state.restore(states[get_rank()])
    if not on_first_rank(lambda: _has_own_best(trainer)):
        trainer.early_stop.forget_best()  # or nothing might ever be better and saved as best
    trainer.log(f"Resuming {path}: epoch {trainer.current_epoch}, update {trainer.num_updates}.")


def _clear_folder(trainer: "ConcatTrainer", own: bool) -> None:
    """Remove what a kill has left; set aside an earlier run's checkpoints, unless it goes on."""
    remove_leftovers(trainer.save_dir, "*.ckpt")
    if not own and (moved := checkpoints.set_aside(trainer.save_dir)):
        trainer.log(
            f"{trainer.save_dir} holds an earlier run: its {', '.join(moved)} moved to "
            f"{trainer.save_dir / checkpoints.PREVIOUS}. (To go on with it instead: "
            "checkpoint.resume=true.)",
            "warning",
        )


def _load_on_all_ranks(
    trainer: "ConcatTrainer", path: Path, mend: bool = False
) -> tuple[dict[str, Any], Path]:
    """The same checkpoint on every rank, the one that the first rank finds whole, and its path.

    Args:
        mend: put it in the place of a torn current one.
    """
    state = None

    def find() -> Path:
        nonlocal state
        state, found = load_or_fall_back(path, trainer.log)
        if mend and found != path and path.name == checkpoints.CURRENT:
            checkpoints.copy_checkpoint(found, path)
        return found

    found = on_first_rank(find)
    return on_every_rank(lambda: state or checkpoints.load_checkpoint(found)), found


def load_or_fall_back(path: Path, log: Callable[[str, str], None]) -> tuple[dict[str, Any], Path]:
    """A checkpoint and its path. A torn current one gives way to the best, or the best to it."""
    other = path.with_name(
        checkpoints.BEST if path.name == checkpoints.CURRENT else checkpoints.CURRENT
    )
    try:
        return checkpoints.load_checkpoint(path), path
    except InputError as error:
        if path.name not in (checkpoints.BEST, checkpoints.CURRENT) or not other.is_file():
            raise
        log(f"{error} Going back to {other}.", "warning")
        return checkpoints.load_checkpoint(other), other


def _has_own_best(trainer: "ConcatTrainer") -> bool:
    """Whether best.ckpt is there, whole and this run's; another one is set aside."""
    best = trainer.save_dir / checkpoints.BEST
    if not best.is_file():
        return False
    try:
        if checkpoints.load_checkpoint(best).get("run") == trainer.run:
            return True
        problem = f"{best} is of another run."
    except InputError as error:
        problem = str(error)
    checkpoints.set_aside(trainer.save_dir, (checkpoints.BEST,))
    trainer.log(f"{problem} Moved to {trainer.save_dir / checkpoints.PREVIOUS}.", "warning")
    return False


def _compare_settings(trainer: "ConcatTrainer", state: dict[str, Any], path: Path) -> None:
    """Warn when the checkpoint was made with other settings that bear on the result."""
    old, new = (
        _bearing_on_result(config, trainer.predicting)
        for config in (state.get("config", {}), settings_of_run(trainer.config))
    )
    if found := checkpoints.differences(old, new):
        trainer.log(
            f"{path} was made with other settings: {', '.join(first_and_more(found, 10))}.",
            "warning",
        )


def _bearing_on_result(config: dict[str, Any], predicting: bool) -> dict[str, Any]:
    """The settings on which the predictions depend, or, when training, the next updates."""
    names = (config.get("datasets") or "").split(",")
    datasets = {name: config.get("dataset_config", {}).get(name) or {} for name in names}
    model = config.get("model")
    found = {"model_config": {model: config.get("model_config", {}).get(model)}}
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


def settings_of_run(config: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """All settings as `config=` takes them: without what MMF adds at run time."""
    settings = OmegaConf.to_container(config, resolve=resolve)
    for key in ("start_rank", "device_id", "distributed"):
        settings.pop(key, None)
    model = settings["model_config"].get(settings["model"])
    if isinstance(model, dict):
        model.pop("model", None)
    return settings


def save_config(trainer: "ConcatTrainer") -> None:
    """Write the run's settings beside its checkpoints."""
    path = trainer.save_dir / checkpoints.CONFIG
    config = OmegaConf.create(settings_of_run(trainer.config, resolve=False))
    try:
        with atomic_write(path) as temporary:
            OmegaConf.save(config, temporary)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error}). Free some space.") from None


def _load_mapped(trainer: "ConcatTrainer", state: dict[str, Any], mapping: DictConfig) -> None:
    """MMF's `pretrained_state_mapping`: copy the parameters under some names to others."""
    own = trainer.model.state_dict()
    taken = {}
    for target, source in mapping.items():
        for key, value in state.items():
            if key.startswith(f"{source}."):
                taken[f"{target}.{key[len(source) + 1 :]}"] = value
    wrong = [k for k, v in taken.items() if k not in own or own[k].shape != v.shape]
    if wrong or not taken:
        raise InputError(
            "checkpoint.pretrained_state_mapping: "
            + (
                f"these do not fit the model: {', '.join(first_and_more(wrong, 10))}"
                if wrong
                else "nothing found"
            )
        )
    trainer.model.load_state_dict(own | taken)
    trainer.log(f"Took over {len(taken)} parameters from the checkpoint.")


def save(trainer: "ConcatTrainer", *names: str) -> None:
    """Begin to save the whole state of the run, under the names MMF uses where it has one.

    Args:
        names: of the files in `env.save_dir`. Best before current: a run that goes on from the
            current one relies on the best.
    """
    states: list[Any] = [random_state.capture()]
    if get_world_size() > 1:
        states = [None] * get_world_size()
        torch.distributed.all_gather_object(states, random_state.capture())
    epoch_loss = trainer.epoch_loss_of_all_ranks().cpu()
    if not is_master():
        return
    stop = trainer.early_stop
    preprocessing = getattr(trainer.model, "preprocessing", None)  # MMF's models have none
    trainer.checkpoint_writer.save(
        {
            "format_version": checkpoints.FORMAT_VERSION,
            "model": trainer.model.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "scheduler": trainer.lr_scheduler.state_dict() if trainer.lr_scheduler else None,
            "scaler": trainer.scaler.state_dict(),
            "current_epoch": trainer.current_epoch,
            "num_updates": trainer.num_updates,
            "done_batches": trainer.done_batches,
            "epoch_loss": epoch_loss,
            "epoch_memes": trainer.epoch_memes,
            "early_stop": stop.state_dict(),
            "best_update": stop.best_update,
            "best_metric_value": stop.best,
            "best_figures": trainer.best_figures,
            "random": states,
            "run": trainer.run,
            "text_model": registry.get("text_model_checksum", no_warning=True),
            "image_preprocessing": preprocessing and asdict(preprocessing),
            "config": settings_of_run(trainer.config),
        },
        *(trainer.save_dir / name for name in names),
    )


def keep_last(trainer: "ConcatTrainer") -> None:
    """`checkpoint.keep_last`: the newest epochs' checkpoints in models/, older ones deleted."""
    count = trainer.config.checkpoint.keep_last
    if not count or not is_master():
        return
    trainer.checkpoint_writer.wait()
    folder = trainer.save_dir / checkpoints.EPOCHS
    folder.mkdir(exist_ok=True)
    target = folder / f"epoch_{trainer.current_epoch:04d}.ckpt"
    target.unlink(missing_ok=True)
    target.hardlink_to(trainer.save_dir / checkpoints.CURRENT)
    for old in sorted(folder.glob("epoch_*.ckpt"))[:-count]:
        old.unlink()

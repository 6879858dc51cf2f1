"""Saves and restores the state of a run: what that is, the objects that hold it say themselves."""

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from mmf.utils.distributed import is_master
from omegaconf import DictConfig
from torch import Tensor, nn

from mmf_hm_concat.encoders.base import checksum
from mmf_hm_concat.encoders.given_features import width_in
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.distributed import on_first_rank
from mmf_hm_concat.mmf_plugin.run_config import changes, config_of_run, save_config
from mmf_hm_concat.mmf_plugin.shared import shared
from mmf_hm_concat.mmf_plugin.starting_point import load_on_all_ranks, may_fall_back
from mmf_hm_concat.training import checkpoints, run_folder
from mmf_hm_concat.training.data_fingerprint import changes as changes_of_data
from mmf_hm_concat.training.data_fingerprint import fingerprint
from mmf_hm_concat.training.frozen_weights import all_weights, write_frozen
from mmf_hm_concat.utils.text import first_and_more

# Those that bear on what a resumed run comes to.
DATA_SPLITS = ("train", "val")


class Stateful(Protocol):
    """What a resume needs: on every rank, `state_dict` gives tensors and plain values."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Checkpointer:
    """The checkpoints of one training.

    Args:
        model: its state is the checkpoint's "model".
        optimization: what `checkpoint.reset.optimizer` leaves as it is; by the checkpoint's key.
        counts: what `checkpoint.reset.counts` leaves as it is.
        log: takes a message and its level.

    Attributes:
        run: id of the run: a new one, or that of the run in the folder when it is resumed.
        has_best: whether this run's own best checkpoint is there, once `writer` has ended.
    """

    def __init__(
        self,
        config: DictConfig,
        save_dir: Path,
        model: nn.Module,
        optimization: Mapping[str, Stateful],
        counts: Mapping[str, Stateful],
        log: Callable[..., None],
    ):
        self.config, self.save_dir, self.log = config, save_dir, log
        self.model, self.optimization, self.counts = model, optimization, counts
        self.run = uuid.uuid4().hex
        # They share the model's memory. MMF's models have none.
        self.frozen: dict[str, Tensor] = getattr(model, "frozen_weights", dict)()
        self.has_best = self.goes_on = self.has_folder = self.has_saved = False
        self.writer = checkpoints.CheckpointWriter()
        tables = shared().memes
        self.data = {split: fingerprint(tables[split]) for split in DATA_SPLITS if split in tables}

    def start(self, path: Path | None) -> None:
        """Resume from a checkpoint as `checkpoint` says; None: start afresh."""
        wanted = self.config.checkpoint
        if path is None:
            return
        own = self.save_dir.resolve() in path.resolve().parents
        state, path = load_on_all_ranks(path, self.log, own and may_fall_back(self.config))
        if wanted.resume_pretrained and wanted.pretrained_state_mapping:
            weights = all_weights(state, path)
            load_mapped(self.model, weights, wanted.pretrained_state_mapping, self.log)
            return
        _check_text_model(state, path)
        _check_width(state, path)
        checkpoints.load_weights(self.model, all_weights(state, path), path)
        if wanted.reset.all or "run" not in state or wanted.resume_pretrained:
            self.log(f"Starting from the weights of {path}.")
            return
        with _damage_told(path):
            _warn_of_changes(state, path, self.config, self.log)
            self._warn_of_changed_data(state, path)
            owners = {} if wanted.reset.optimizer else dict(self.optimization)
            if not wanted.reset.counts:
                owners |= self.counts
                self.goes_on = own
                self.run = state["run"] if own else self.run
            for key, owner in owners.items():
                if state.get(key) is not None:
                    owner.load_state_dict(state[key])
            epoch, updates = state["current_epoch"], state["num_updates"]
        self.log(f"Resuming {path}: epoch {epoch}, update {updates}.")
        self.has_best = self.goes_on and on_first_rank(self._has_own_best)

    def check_room(self) -> None:
        """InputError, before any training, where the disk has no room for the checkpoints."""
        model = list(self.model.state_dict().values())
        size = sum(each.nbytes for each in model)
        if isinstance(self.optimization["optimizer"], torch.optim.Adam | torch.optim.AdamW):
            # Two moments of each weight. What others keep is not known before their first step.
            size += 2 * sum(each.nbytes for each in self.model.parameters() if each.requires_grad)
        copies = 3 + self.config.checkpoint.keep_last
        if self.goes_on:
            there = (checkpoints.BEST, checkpoints.CURRENT, f"{checkpoints.EPOCHS}/epoch_*.ckpt")
            copies -= sum(len(list(self.save_dir.glob(name))) for name in there)
        on_first_rank(lambda: checkpoints.check_room(self.save_dir, size, max(copies, 1)))

    def _warn_of_changed_data(self, state: Mapping[str, Any], path: Path) -> None:
        for split, old in state.get("data", {}).items():  # older checkpoints have none
            if split in self.data and (found := changes_of_data(old, self.data[split])):
                self.log(
                    f"{path} was made with other data, {split} split: {'; '.join(found)}.",
                    "warning",
                )

    def take_over(self) -> None:
        """Before the first record or checkpoint of this run: an earlier one's files move away."""
        if not self.has_folder:
            self.has_folder = True
            on_first_rank(self._take_over)

    def _take_over(self) -> None:
        if moved := run_folder.take_over(self.save_dir, self.goes_on):
            what = "what was made from its checkpoints" if self.goes_on else "it"
            self.log(
                f"{self.save_dir} holds an earlier run: {what} has moved to {moved}.", "warning"
            )
        if self.frozen and not (self.save_dir / checkpoints.FROZEN).exists():
            write_frozen(self.frozen, self.save_dir)
        save_config(self.config, self.save_dir)

    def save(self, *names: str) -> None:
        """Begin to save the whole state. All ranks call it, and the first one writes.

        Args:
            names: of the files in `env.save_dir`. Best before current: a run that goes on from
                the current one relies on the best.
        """
        self.take_over()
        owners = {"model": self.model, **self.optimization, **self.counts}
        state = {key: owner.state_dict() for key, owner in owners.items()}
        state["model"] = {k: v for k, v in state["model"].items() if k not in self.frozen}
        if is_master():
            self.writer.save({**self._header(state), **state}, *(self.save_dir / n for n in names))
            if not self.has_saved:
                self.writer.wait()
                run_folder.commit(self.save_dir)
        self.has_saved = True
        self.has_best |= checkpoints.BEST in names

    def keep_last(self, epoch: int) -> None:
        """`checkpoint.keep_last`: the newest epochs' checkpoints in models/, older ones deleted."""
        count = self.config.checkpoint.keep_last
        if not count or not is_master():
            return
        self.writer.wait()
        folder = self.save_dir / checkpoints.EPOCHS
        folder.mkdir(exist_ok=True)
        target = folder / f"epoch_{epoch:04d}.ckpt"
        target.unlink(missing_ok=True)
        target.hardlink_to(self.save_dir / checkpoints.CURRENT)
        for old in sorted(folder.glob("epoch_*.ckpt"))[:-count]:
            old.unlink()

    def load_best(self) -> None:
        """Fill the model from the best checkpoint of this training, once all is written."""
        path = self.save_dir / checkpoints.BEST
        state, path = load_on_all_ranks(path, self.log)
        checkpoints.load_weights(self.model, {**self.frozen, **state["model"]}, path)

    @cached_property
    def frozen_checksum(self) -> str | None:
        """Of the frozen weights, once `start` has loaded them."""
        return checksum(self.frozen) if self.frozen else None

    def _header(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """What says what this checkpoint is, beside the state."""
        preprocessing = getattr(self.model, "preprocessing", None)  # MMF's models have none
        return {
            "format_version": checkpoints.FORMAT_VERSION,
            "run": self.run,
            "text_model": shared().text_model_checksum,
            "frozen": self.frozen_checksum,
            "image_preprocessing": preprocessing and asdict(preprocessing),
            "config": config_of_run(self.config),
            "data": self.data,
            # As MMF names them, for its tools and for people; a resume reads their owners' state.
            "current_epoch": state["position"]["epoch"],
            "num_updates": state["position"]["num_updates"],
            "best_update": state["early_stop"]["best_update"],
            "best_metric_value": state["early_stop"]["best"],
        }

    def _has_own_best(self) -> bool:
        """Whether best.ckpt is there, whole and this run's; another one is set aside."""
        best = self.save_dir / checkpoints.BEST
        if not best.is_file():
            return False
        try:
            if checkpoints.load_checkpoint(best).get("run") == self.run:
                return True
            problem = f"{best} is of another run."
        except checkpoints.TornCheckpoint as error:
            problem = str(error)
        moved = run_folder.set_aside(self.save_dir, (checkpoints.BEST,))
        self.log(f"{problem} Moved to {moved}.", "warning")
        return False


def load_for_prediction(
    model: nn.Module, path: Path, config: DictConfig, log: Callable[..., None]
) -> None:
    """Fill the model from a checkpoint; InputError for one that belongs to another text model."""
    state, path = load_on_all_ranks(path, log)
    _check_text_model(state, path)
    _check_width(state, path)
    with _damage_told(path):
        _warn_of_changes(state, path, config, log)
    checkpoints.load_weights(model, all_weights(state, path), path)
    log(f"Using the checkpoint {path} (epoch {state.get('current_epoch', '?')}).")


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """What a checkpoint holds besides weights may be damaged, or made by anybody."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: what it holds besides the weights is damaged, or of another kind of run "
            f"({type(error).__name__}: {reason[:100]}). Take another checkpoint, or its weights "
            "alone: checkpoint.reset.all=true, or to predict, `hm_concat predict`."
        ) from None


def _check_text_model(state: Mapping[str, Any], path: Path) -> None:
    wanted, found = state.get("text_model"), shared().text_model_checksum
    if wanted and found and wanted != found:
        raise InputError(
            f"{path} was trained with the text model {wanted[:12]}, but {found[:12]} is in use: "
            "its sentence vectors mean something else. Use the text_model.bin that lies beside "
            "that checkpoint."
        )


def _check_width(state: Mapping[str, Any], path: Path) -> None:
    """InputError for a `features_file` whose vectors are of another length than in training."""
    for branch, file in (shared().given_features or {}).items():
        if (width := width_in(state["model"], branch)) not in (None, file.width):
            raise InputError(
                f"{file.path} has vectors of {file.width:,} numbers, but {path} was trained with "
                f"{width:,}. Make them with the encoder that made those of the training."
            )


def _warn_of_changes(
    state: Mapping[str, Any], path: Path, config: DictConfig, log: Callable[..., None]
) -> None:
    predicting = config.evaluation.predict
    if found := changes(state.get("config", {}), config, predicting):
        log(
            f"{path} was made with another config: {', '.join(first_and_more(found, 10))}.",
            "warning",
        )


def load_mapped(
    model: nn.Module, state: Mapping[str, Any], mapping: DictConfig, log: Callable[..., None]
) -> None:
    """MMF's `pretrained_state_mapping`: copy the parameters under some names to others."""
    own = model.state_dict()
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
    model.load_state_dict(own | taken)
    log(f"Took over {len(taken)} parameters from the checkpoint.")

"""Checkpoints that cannot be half written, half loaded, or taken for another run's.

A checkpoint is a dict of tensors and plain Python values, saved with `torch.save`. Keys: "model"
(state dict, without the weights of frozen encoders: frozen_weights.py), "frozen" (the checksum of
those, or None), "config" (the run's whole config), "run" (id of the run), "text_model" (SHA-256 of
the text model, or None), "image_preprocessing" (the fields of the `ImagePreprocessing` that the
image encoder was trained with, or None), and the `state_dict` of each object that a resume needs:
"position", "early_stop", "random", "optimizer", "scaler", "scheduler".
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmf_hm_concat.encoders.image_preprocessing import IMAGENET
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.checkpoint_checks import (
    NotACheckpoint,
    check_file,
    check_state,
    header_problem,
    is_of_file,
)
from mmf_hm_concat.utils.files import atomic_write, open_regular
from mmf_hm_concat.utils.text import first_and_more

# Of the checkpoints written today. 1 (release 0.1.0) had no version in it, 2 no "position", 3 the
# weights of frozen encoders, too.
FORMAT_VERSION = 4
# What a run leaves in `env.save_dir`: prediction needs nothing else.
BEST, CURRENT, TEXT_MODEL = "best.ckpt", "current.ckpt", "text_model.bin"
# The weights of its frozen encoders, which do not change: frozen_weights.py.
FROZEN = "frozen.ckpt"
# The whole config of the run, in the form that `config=` takes.
CONFIG = "config.yaml"
# The folder of the checkpoints that checkpoint.keep_last keeps.
EPOCHS = "models"
# Where earlier runs of the same folder are, see run_folder.py.
PREVIOUS = "previous"


class TornCheckpoint(InputError):
    """The file itself is damaged, so that another checkpoint has to do."""


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write ``state`` so that ``path`` always holds a whole checkpoint, the old or the new one."""
    with _checkpoint_errors(path), atomic_write(path) as temporary:
        torch.save(dict(state), temporary)


@contextmanager
def _checkpoint_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise InputError(
            f"{path}: the checkpoint could not be written ({str(error).splitlines()[0]}). The "
            "last one is untouched. Free some space and go on with checkpoint.resume=true."
        ) from None


class CheckpointWriter:
    """Writes checkpoints while the training goes on: one after the other, each as a whole.

    A context manager: at its end everything is written.

    Raises:
        InputError: a checkpoint could not be written; by whichever comes first of `save`, `check`,
            `wait` and the end of the block.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *error: Any) -> None:
        self._thread.shutdown()
        self.wait()

    def save(self, state: Mapping[str, Any], *paths: Path) -> None:
        """Copy ``state`` now, and begin to write it to each of ``paths``, in their order."""
        self.wait()
        self._writing = self._thread.submit(_save_to_all, _copied(state), paths)

    def check(self) -> None:
        """Raise now if what was saved could not be written; else go on without waiting."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return when what was saved is on the disk."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()


def _copied(state: Any) -> Any:
    """``state`` with its tensors copied to the CPU, so that the training may change its own."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_copied(value) for value in state)
    return state


def _save_to_all(state: Mapping[str, Any], paths: Sequence[Path]) -> None:
    save_checkpoint(state, paths[0])
    for path in paths[1:]:
        copy_checkpoint(paths[0], path)


def check_room(folder: Path, size: int, copies: int) -> None:
    """Raise InputError where a disk has no room for checkpoints.

    Args:
        size: bytes of one.
        copies: how many more there will be at once.
    """
    try:
        total, _, free = shutil.disk_usage(folder)
    except OSError:  # whatever it is, the first checkpoint tells
        return
    if total and free < size * copies:  # some file systems of a network tell nothing: 0
        raise InputError(
            f"env.save_dir: {folder} has {free / 1e6:,.0f} MB free, and the run's checkpoints need "
            f"{size * copies / 1e6:,.0f} MB (the best, the current, those of checkpoint.keep_last, "
            "and one while it is written). Free some space, or use another env.save_dir."
        )


def copy_checkpoint(source: Path, path: Path) -> None:
    """As `save_checkpoint`. Not a link: whatever tears the one file must leave the other."""
    with _checkpoint_errors(path), atomic_write(path) as temporary:
        shutil.copyfile(source, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without running any code that it may contain.

    Raises:
        InputError: no such file, a torn one, one with a flipped bit, a pickle with more than plain
            tensors and values, or one without model weights.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint.")
    try:
        with open_regular(path) as file:
            check_file(file)
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
        check_state(state)
    except NotACheckpoint as problem:
        raise _torn(path, str(problem)) from None
    except Exception as error:  # of a damaged archive or pickle, any
        if not is_of_file(error):
            reason = getattr(error, "strerror", None) or "not enough memory"
            raise InputError(f"{path}: cannot be read just now ({reason}).") from None
        # What torch says goes on to tell how to load it unsafely.
        raise _torn(path, "its tensors and values do not fit together") from None
    try:
        _upgrade(state)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a checkpoint of ours, or a damaged one (of its state, {error} is missing "
            "or of another kind)."
        ) from None
    if wrong := header_problem(state):
        raise InputError(f"{path}: {wrong}")
    return state


def _torn(path: Path, why: str) -> TornCheckpoint:
    return TornCheckpoint(
        f"{path}: not a checkpoint that can be loaded safely: {why}. Take a whole copy of it, or "
        "another checkpoint of the run."
    )


def _upgrade(state: dict[str, Any]) -> None:
    """Bring a checkpoint of an older release to today's format, `FORMAT_VERSION`."""
    for key in [key for key in state["model"] if key.startswith(_DROPPED)]:
        del state["model"][key]
    version = state.get("format_version", 1)
    if version < 2:
        _upgrade_to_2(state)
    if version < 3 and "early_stop" in state:
        position = ("num_updates", "done_batches", "epoch_memes", "epoch_loss")
        state["position"] = {"epoch": state["current_epoch"], **{k: state[k] for k in position}}
        state["random"] = {"ranks": state["random"]}
        state["early_stop"]["best_metrics"] = state.get("best_figures", {})


def _upgrade_to_2(state: dict[str, Any]) -> None:
    if "early_stop" in state:
        state["early_stop"]["num_bad_epochs"] = state["early_stop"].pop("waited")
    state["image_preprocessing"] = asdict(IMAGENET)  # of all networks, whatever their weights want
    config = state.get("config", {})
    if config.get("model") != "concat_vl":
        return
    for old, new in _RENAMED_IN_2.items():
        for key in [key for key in state["model"] if key.startswith(old)]:
            state["model"][key.replace(old, new, 1)] = state["model"].pop(key)
    model = config["model_config"]["concat_vl"]
    for keys, defaults in (
        (model, _NEW_IN_2),
        (model.get("language"), {"encoder": "sentence_vector"}),
        (model.get("vision"), {"encoder": "torchvision"}),
    ):
        if keys:
            keys.update({**defaults, **keys})


# The auxiliary heads of GoogLeNet and Inception, which nothing used.
_DROPPED = tuple(f"network.vision_module.network.{name}." for name in ("aux1", "aux2", "AuxLogits"))
_RENAMED_IN_2 = {
    "network.fusion.": "network.head.hidden.0.",
    "network.classifier.": "network.head.classifier.",
}
# Keys of model_config.concat_vl that 1 did not have, with what it did.
_NEW_IN_2 = {
    "fusion": "concat",
    "head_layers": 1,
    "num_classes": 2,
    "projection_dropout": 0.0,
    "fusion_dropout": 0.0,
}


def load_weights(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Fill ``model`` from a state dict, all of it and nothing else.

    Args:
        model: one without memory (on torch's device "meta") takes the tensors themselves.

    Raises:
        InputError: lists the keys that are missing, unexpected, or of another shape or dtype.
    """
    own = model.state_dict()
    problems = [f"missing {key}" for key in own if key not in state]
    problems += [f"unexpected {key}" for key in state if key not in own]
    problems += [
        f"{key} is {tuple(state[key].shape)}, the model's {tuple(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    problems += [
        f"{key} is {state[key].dtype}, the model's {own[key].dtype}"
        for key in own
        if key in state and own[key].dtype != state[key].dtype
    ]
    if problems:
        raise InputError(
            f"{source}: these are the weights of another model.\n  "
            + "\n  ".join(first_and_more(problems, 10))
            + "\nUse the model_config of the run that made it (config.yaml beside it)."
        )
    model.load_state_dict(state, assign=any(value.is_meta for value in own.values()))


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Where two configs differ, each as "training.seed 42 (now 7)"."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(name for name in new if name not in old)]
        pairs = [(f"{key}.{k}" if key else str(k), old.get(k), new.get(k)) for k in keys]
        return [line for name, a, b in pairs for line in differences(a, b, name)]
    return [] if old == new else [f"{key} {old!r} (now {new!r})"]


def folder_of_run(path: Path) -> Path:
    """The `env.save_dir` that a checkpoint belongs to, which may lie in a folder of it."""
    return path.parent.parent if path.parent.name in (EPOCHS, PREVIOUS) else path.parent

"""Files of pretrained weights: read without running any code that they may contain."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmf_hm_concat.encoders.libraries import library
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.files import open_regular
from mmf_hm_concat.utils.text import first_and_more

# What `weights: local-dir:FOLDER` begins with, as in timm and open_clip.
LOCAL_FOLDER = "local-dir:"
# Under one of these a checkpoint of a training often has its state dict.
NESTED = ("state_dict", "model")


def read_weights(path: str | Path, key: str) -> dict[str, Tensor]:
    """A state dict from a safetensors file, or from one saved with `torch.save`.

    Args:
        key: of the config, for the messages.

    Raises:
        InputError: no such file, TorchScript, anything but tensors in it, or a damaged one.
    """
    path = Path(path)
    try:
        with open_regular(path):
            pass
        if path.suffix == ".safetensors":
            return library("safetensors.torch", key).load_file(path)
        if _is_torchscript(path):
            raise InputError(
                f"{path}: TorchScript, which is code and not only weights; it is not run. OpenAI's "
                "CLIP models come as .pt files of this kind: take the same model's safetensors "
                "file, or export a state dict (torch.save(model.state_dict(), ...))."
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # a damaged file or a foreign pickle can fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: neither a safetensors file nor a state dict saved with torch.save ({reason})."
        ) from None
    if isinstance(state, Mapping):
        state = next((state[name] for name in NESTED if isinstance(state.get(name), dict)), state)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path}: not a state dict (names to tensors).")
    if state and all(name.startswith("module.") for name in state):  # DistributedDataParallel's
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def check_file(weights: str, tags: Sequence[str], key: str) -> None:
    """Raise InputError if ``weights`` is no file; ``tags`` are what it might have been."""
    if not Path(weights).is_file():
        raise InputError(
            f"{key}: {weights!r} is neither a file nor one of {', '.join([*tags, 'DEFAULT'])} or "
            "none."
        )


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_weights(network: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Fill ``network`` from ``state``, which must have its names and shapes, all of them.

    Raises:
        InputError: lists some that differ.
    """
    own = network.state_dict()
    problems = [f"{key} is missing" for key in own if key not in state]
    problems += [f"{key} is not the network's" for key in state if key not in own]
    problems += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if problems:
        raise InputError(
            f"{source}: not the weights of this network: {'; '.join(first_and_more(problems, 5))}."
        )
    network.load_state_dict(state)


def local_folder(weights: str, key: str, config_name: str) -> tuple[dict[str, Any], Path]:
    """The config (JSON) and the weights file in the folder that ``local-dir:FOLDER`` names.

    Raises:
        InputError: no folder, no config in it, or no weights.
    """
    folder = Path(weights.removeprefix(LOCAL_FOLDER))
    try:
        config = json.loads((folder / config_name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{key} = {weights!r}: {folder / config_name} cannot be read ({error}). Give the "
            f"folder as it was downloaded, with {config_name} and a .safetensors file."
        ) from None
    files = [
        path for end in ("safetensors", "bin", "pth") for path in sorted(folder.glob(f"*.{end}"))
    ]
    if not isinstance(config, dict) or not files:
        raise InputError(
            f"{key} = {weights!r}: {folder} has no "
            f"{'weights (*.safetensors, *.bin)' if not files else f'usable {config_name}'}."
        )
    return config, files[0]

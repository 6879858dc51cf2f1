"""Checkpoints whose config holds anything under any key: one message, soon, and little memory."""

import math
import random
import time

import pytest
import torch

from mmf_hm_concat import MemeClassifier
from mmf_hm_concat.config.description import KEYS
from mmf_hm_concat.config.of_checkpoint import READ
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training import checkpoints

MISSING, DEEP = object(), []
for _ in range(60):
    DEEP = [DEEP]
ODD = [
    *(MISSING, None, True, 5, 0, -1, 1.5, 2**31 - 1, 2**70, 1e308, math.nan, math.inf, 4096, 8192),
    *("", "nosuch", "x" * 10**6, "\x1b[2J\0\n", "\ud83d", "1e3", "nan", "${nosuch.key}", b"bytes"),
    *([], [1], (1, 2), DEEP, {}, {"a": 1}, {"type": "nosuch", "params": {}}, {1: 2}, {None: "x"}),
    *(torch.ones(3), torch.tensor(3), "/dev/zero"),
]
ABOVE = ("config", "text_model", "run", "data", "image_preprocessing", "image_preprocessing.std")
PLACES = [*ABOVE, "config.model", "config.training", "config.model_config", "config.dataset_config"]
PLACES += [f"config.{name}" for name in KEYS if name.startswith((*READ, "training.device"))]


@pytest.fixture(scope="module")
def header(build):
    """A checkpoint but for its weights."""
    from omegaconf import OmegaConf

    preprocessing = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "size": 32}
    return {
        "config": OmegaConf.to_container(build(), resolve=True),
        "text_model": "0" * 64,
        "run": "run",
        "image_preprocessing": preprocessing,
        "format_version": checkpoints.FORMAT_VERSION,
    }


def changed(state, place, value):
    """``state`` with ``value`` at a dotted place; what is not changed is shared."""
    first, _, rest = place.partition(".")
    state = dict(state) if isinstance(state, dict) else {}
    if rest:
        state[first] = changed(state.get(first), rest, value)
    elif value is MISSING:
        state.pop(first, None)
    else:
        state[first] = value
    return state


def test_any_value_under_any_key_is_one_message_at_once(header, tmp_path):
    draw, weights = random.Random(0), {"network.x": torch.ones(2)}  # which fit no network
    path = tmp_path / checkpoints.BEST
    for place in PLACES:
        for value in draw.sample(ODD, 4):
            checkpoints.save_checkpoint({**changed(header, place, value), "model": weights}, path)
            start = time.process_time()
            with pytest.raises(InputError) as error:
                MemeClassifier.load(tmp_path)
            case = f"{place} = {str(value)[:50]}: {error.value}"
            assert time.process_time() - start < 5, case
            assert str(error.value).startswith((f"{path}: ", "model_config.concat_vl.")), case
            assert len(str(error.value)) < 4000, case

"""Files of weights: what is read, and what is refused without being run."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmf_hm_concat.encoders.weights import load_weights, read_weights
from mmf_hm_concat.errors import InputError

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


@pytest.mark.parametrize(
    "wrapped",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE},
        {f"module.{name}": value for name, value in STATE.items()},
    ],
    ids=["plain", "state_dict", "model", "distributed"],
)
def test_state_dicts_are_found_where_trainings_put_them(tmp_path, wrapped):
    torch.save(wrapped, tmp_path / "weights.pth")
    found = read_weights(tmp_path / "weights.pth", "key")
    assert found.keys() == STATE.keys() and torch.equal(found["weight"], STATE["weight"])


def test_safetensors_are_read(tmp_path):
    save_file(STATE, tmp_path / "weights.safetensors")
    found = read_weights(tmp_path / "weights.safetensors", "key")
    assert torch.equal(found["bias"], STATE["bias"])


def test_torchscript_is_refused_with_advice(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "clip.pt")
    with pytest.raises(InputError, match=r"clip\.pt: TorchScript.*safetensors"):
        read_weights(tmp_path / "clip.pt", "key")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x02no pickle", b"\xff" * 64])
def test_a_damaged_file_is_one_message(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: neither a safetensors file nor a state dict"):
        read_weights(tmp_path / name, "key")


def test_what_holds_no_tensors_is_refused(tmp_path):
    torch.save({"weight": 5}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="not a state dict"):
        read_weights(tmp_path / "weights.pth", "key")


def test_weights_must_have_all_names_and_shapes():
    with pytest.raises(InputError, match=r"file: .*bias is missing; more is not the network's"):
        load_weights(nn.Linear(3, 2), {"weight": STATE["weight"], "more": STATE["bias"]}, "file")
    with pytest.raises(InputError, match=r"weight is \(2, 3\), not \(2, 4\)"):
        load_weights(nn.Linear(4, 2), STATE, "file")

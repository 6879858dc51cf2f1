"""Checkpoints from anywhere: any flipped bit and any odd tensor is one message, before any harm."""

import zipfile
from collections import OrderedDict

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training import checkpoints

STATE = {
    "model": OrderedDict(weight=torch.arange(48.0).reshape(6, 8), steps=torch.tensor(3)),
    "config": {"model": "concat_vl", "model_config": {"concat_vl": {"dropout": 0.1}}},
    "random": [(3, tuple(range(40)))],
    "format_version": checkpoints.FORMAT_VERSION,
}


def same(one, other):
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a checkpoint, and which of them are the content of a record."""
    path = tmp_path_factory.mktemp("whole") / "best.ckpt"
    checkpoints.save_checkpoint(STATE, path)
    content, payload = path.read_bytes(), set()
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            name, extra = (
                int.from_bytes(content[record.header_offset + at :][:2], "little")
                for at in (26, 28)
            )
            start = record.header_offset + 30 + name + extra
            payload |= set(range(start, start + record.file_size))
    return content, payload


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_flipped_bit_is_noticed_or_changes_nothing(whole, tmp_path, data):
    content, payload = whole
    place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    damaged = bytearray(content)
    damaged[place] ^= 1 << bit
    path = tmp_path / "best.ckpt"
    path.write_bytes(damaged)
    try:
        state = checkpoints.load_checkpoint(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: not a checkpoint") and "\n" not in str(error)
    else:
        assert place not in payload and same(state, STATE)


class Odd:
    """Pickled as a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def deep():
    value = []
    for _ in range(150):
        value = [value]
    return value


def wide():
    value = [1] * 10
    for _ in range(12):
        value = [value] * 10
    return value


def circle():
    value = {}
    value["itself"] = value
    return value


ODD = {
    "sparse": (torch.eye(3).to_sparse(), "holds more than plain tensors"),
    "sparse rows": (torch.eye(3).to_sparse_csr(), "holds more than plain tensors"),
    "meta": (torch.empty(3, 10**9, device="meta"), "holds more than plain tensors"),
    "quantised": (
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "holds more than plain tensors",
    ),
    "complex": (torch.ones(3, dtype=torch.complex64), "holds more than plain tensors"),
    "memory for nothing": (Odd(bytearray, 10**12), "holds more than plain tensors"),
    "code": (Odd(print, "ran"), "holds more than plain tensors"),
    "a million in one": (torch.ones(1).expand(1000, 1000), "claims to be (1000, 1000)"),
    "no tensor": ("text", "under the key 'model'"),
    "none": (None, "under the key 'model'"),
    "a list": ([torch.ones(3)], "under the key 'model'"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_weights_are_one_message(tmp_path, capfd, kind):
    value, message = ODD[kind]
    torch.save({"model": {"weight": value}}, tmp_path / "best.ckpt")
    with pytest.raises(InputError) as error:
        checkpoints.load_checkpoint(tmp_path / "best.ckpt")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert "weights_only" not in str(error.value) and "ran" not in capfd.readouterr().out


@pytest.mark.parametrize("state", [deep(), wide(), circle()], ids=["deep", "wide", "circle"])
def test_values_that_never_end_are_one_message(tmp_path, state):
    torch.save({"model": {}, "config": state}, tmp_path / "best.ckpt")
    with pytest.raises(InputError, match="nested too deeply, or repeat without end"):
        checkpoints.load_checkpoint(tmp_path / "best.ckpt")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float64, torch.float16])
def test_weights_of_another_dtype_are_named(dtype):
    model = torch.nn.Linear(3, 2)
    state = {**model.state_dict(), "weight": torch.ones(2, 3, dtype=dtype)}
    with pytest.raises(InputError, match=f"weight is {dtype}, the model's torch.float32"):
        checkpoints.load_weights(model, state, "x")


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """The file again, with each record's content as ``change(name, content)`` has it."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, change(name, content))


def test_a_storage_smaller_than_its_tensor_is_one_message(tmp_path):
    path = tmp_path / "best.ckpt"
    torch.save({"model": {"weight": torch.ones(1000)}}, path)
    rewritten(path, lambda name, content: content[:8] if "/data/" in name else content)
    with pytest.raises(InputError, match="do not fit together"):
        checkpoints.load_checkpoint(path)


def test_a_record_that_is_marked_as_a_folder_is_refused(tmp_path):
    path = tmp_path / "best.ckpt"
    torch.save({"model": {"weight": torch.ones(1000)}}, path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"/data/0") - len(f"{path.stem}") - 46  # in the zip's directory
    assert content[entry : entry + 4] == b"PK\1\2"
    content[entry + 38] ^= 0x10  # of MS-DOS; torch then gives memory that nobody has written
    path.write_bytes(content)
    with pytest.raises(InputError, match="data/0 in it is marked as a folder"):
        checkpoints.load_checkpoint(path)


def test_compressed_records_are_refused(tmp_path):
    path = tmp_path / "best.ckpt"
    torch.save({"model": {"weight": torch.zeros(1_000_000)}}, path)
    rewritten(path, lambda name, content: content, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed"):
        checkpoints.load_checkpoint(path)


def test_a_file_from_before_torch_wrote_checksums_is_refused(tmp_path):
    path = tmp_path / "best.ckpt"
    torch.save({"model": {}}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="or of one before"):
        checkpoints.load_checkpoint(path)


def test_a_checkpoint_of_nothing_but_weights_loads(tmp_path):
    torch.save({"model": STATE["model"]}, tmp_path / "best.ckpt")
    assert same(checkpoints.load_checkpoint(tmp_path / "best.ckpt")["model"], STATE["model"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", "odd"),
        ("config", "\ud83d"),
        ("config", torch.ones(3)),
        ("image_preprocessing", {"mean": [0.5] * 3, "std": "\ud83d"}),
        ("run", 5),
        ("text_model", [1]),
        ("current_epoch", "1"),
        ("image_preprocessing", {"mean": [0.5] * 3}),
        ("image_preprocessing", {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 10**6}),
    ],
)
def test_a_header_of_another_kind_is_one_message(tmp_path, key, value):
    torch.save({**STATE, key: value}, tmp_path / "best.ckpt")
    with pytest.raises(InputError, match=f"its {key} is damaged"):
        checkpoints.load_checkpoint(tmp_path / "best.ckpt")

"""Whether a file is a whole checkpoint of plain tensors, before and after torch reads it.

A checkpoint comes from anywhere. `torch.load` does not compare the checksums (CRC-32) that
`torch.save` stores with each record, and knows more kinds of tensors than a network here can use.
"""

import errno
import io
import math
import pickletools
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import msgspec
from PIL import Image
from torch import Tensor

from mmf_hm_concat.config.check import shown
from mmf_hm_concat.encoders.image_preprocessing import ImagePreprocessing

# All that the pickle of a checkpoint may name; sparse, quantised and meta tensors need others.
GLOBALS = {
    "_codecs encode",  # of bytes
    "collections Counter",
    "collections OrderedDict",
    "torch Size",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in ("Double", "Float", "Half", "BFloat16", "Bool", "Byte")),
    *(f"torch {kind}Storage" for kind in ("Char", "Short", "Int", "Long")),
}
# Far more than the state of any run has; what the pickle repeats by reference counts again.
MAX_VALUES, MAX_DEPTH = 1_000_000, 100


class NotACheckpoint(Exception):
    """``str`` of it says why."""


def check_file(file: BinaryIO) -> None:
    """Compare all checksums of a file of `torch.save`, and look at what its pickle names.

    Nothing is built, and no record but the pickle is held as a whole.

    Raises:
        NotACheckpoint: not one bit of its records may differ from what was saved.
    """
    size = file.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            # torch never compresses: what is small in the file and large in memory is a bomb.
            if any(each.compress_type != zipfile.ZIP_STORED for each in records) or (
                sum(each.file_size for each in records) > size
            ):
                raise NotACheckpoint("its records are compressed, or overlap")
            # torch would leave the memory of what is marked as a folder as it is.
            if folders := [each.filename for each in records if each.external_attr & 0x10]:
                record = folders[0].partition("/")[2]
                raise NotACheckpoint(f"it is damaged: {record} in it is marked as a folder")
            if damaged := archive.testzip():
                record = damaged.partition("/")[2]
                raise NotACheckpoint(f"it is damaged, as the checksum of {record} in it says")
            pickles = [each for each in records if each.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise NotACheckpoint("it is no file of torch.save")
            named = _globals(archive.read(pickles[0]))
    except NotACheckpoint:
        raise
    except Exception as error:  # a damaged archive or pickle can fail in any way
        if not is_of_file(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NotACheckpoint(
            f"it is torn, or no file of torch.save, or of one before 1.6 ({reason[:80]})"
        ) from None
    if foreign := sorted(named - GLOBALS):
        names = ", ".join(each.replace(" ", ".") for each in foreign[:3])
        raise NotACheckpoint(f"it holds more than plain tensors and values ({names})")


def is_of_file(error: Exception) -> bool:
    """Whether what went wrong while reading is the file's own fault, which may be whole else."""
    if isinstance(error, OSError):
        return error.errno in (None, errno.EINVAL)  # EINVAL: it names a place before its beginning
    return not isinstance(error, MemoryError) and "allocate memory" not in str(error)


def _globals(pickle: bytes) -> set[str]:
    """What a pickle names as "module name"; torch refuses the other opcodes that can name."""
    return {
        argument
        for opcode, argument, _ in pickletools.genops(pickle)
        if opcode.name == "GLOBAL" and isinstance(argument, str)
    }


# What says what a checkpoint is; each may be absent, as in one of MMF's.
HEADER: dict[str, Any] = {
    "format_version": int,
    "run": str,
    "text_model": str | None,
    "frozen": str | None,
    "image_preprocessing": ImagePreprocessing | None,
    "config": dict | None,
    "current_epoch": int,
    "num_updates": int,
}
INTERPOLATIONS = [each.name.lower() for each in Image.Resampling]


def header_problem(state: Mapping[str, Any]) -> str | None:
    """What is wrong with the header of a checkpoint that is of today's format, as a sentence."""
    for key, kind in HEADER.items():
        try:
            found = msgspec.convert(state[key], kind) if key in state else None
        except Exception:  # msgspec's, or of a value that no JSON can hold
            found = NotACheckpoint
        if isinstance(found, ImagePreprocessing) and not _is_usable(found):
            found = NotACheckpoint
        if found is NotACheckpoint:
            return f"its {key} is damaged, or of another program ({shown(state[key])})."
    return None


def _is_usable(given: ImagePreprocessing) -> bool:
    scales = all(map(math.isfinite, (*given.mean, *given.std))) and min(given.std) > 0
    return scales and given.interpolation in INTERPOLATIONS and 1 <= given.size <= 4096


def check_state(state: Any) -> None:
    """Look at every value of a checkpoint that torch has read.

    Raises:
        NotACheckpoint: there are no weights under "model"; a tensor claims more numbers than it
            has memory, so that a copy of it could fill the machine; or it is nested in a circle.
    """
    model = state.get("model") if isinstance(state, dict) else None
    if not isinstance(model, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in model.items()
    ):
        raise NotACheckpoint("a checkpoint has the weights under the key 'model'; this has not")
    left, count = [("", state, 0)], 0
    while left:
        name, value, depth = left.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise NotACheckpoint("its values are nested too deeply, or repeat without end")
        if isinstance(value, Mapping):
            left += [
                (f"{name}.{key}" if name else str(key), v, depth + 1) for key, v in value.items()
            ]
        elif isinstance(value, list | tuple):
            left += [(name, each, depth + 1) for each in value]
        elif isinstance(value, Tensor):
            held = value.untyped_storage().nbytes()
            if value.numel() * value.element_size() > held:
                raise NotACheckpoint(
                    f"{name} claims to be {tuple(value.shape)}, but has {held:,} bytes only"
                )

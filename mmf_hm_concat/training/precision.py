"""In which number format the network computes, and why; and on how many threads."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from mmf_hm_concat.errors import InputError

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """The format for ``training.precision`` and the reason, in words.

    Args:
        wanted: "auto", "fp32", "bf16" or "fp16".

    Raises:
        InputError: another value, or fp16 on a CPU, where it is slower and loses range.
    """
    if wanted not in ("auto", *FORMATS):
        raise InputError(f"training.precision: {wanted!r} is not auto, fp32, bf16 or fp16.")
    if wanted != "auto":
        if wanted == "fp16" and device.type == "cpu":
            raise InputError("training.precision: fp16 is for GPUs; on a CPU use bf16 or fp32.")
        return wanted, "as training.precision asks"
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return "bf16", "the GPU computes it natively"
        return "fp16", "the GPU has no bfloat16"
    # Without these instructions bfloat16 is emulated, which is slower than fp32.
    if torch.cpu._is_amx_tile_supported():
        return "bf16", "the CPU has AMX"
    if torch.cpu._is_avx512_bf16_supported():
        return "bf16", "the CPU has AVX512_BF16"
    return "fp32", "the CPU has no bfloat16 instructions"


def autocast(precision: str, device: torch.device) -> Any:
    """A context in which matrix products and convolutions run in ``precision``."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, FORMATS[precision])


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """As many threads as mmf_predict uses: sums over another number of them round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Checks of single settings that MMF hands on as they were typed."""

from typing import Any

from mmf_hm_concat.errors import InputError


def whole_number(key: str, value: Any, least: int) -> int:
    """``value`` if it is an int of at least ``least``; else InputError that names ``key``."""
    if type(value) is not int or value < least:
        raise InputError(f"{key} = {value!r}: give a whole number from {least} on.")
    return value

"""Values for every described key, made from its kind: some to be refused, and some to run.

Written without the check's own library: what the two think of a value is compared.
"""

import math
import typing
from types import UnionType
from typing import Annotated, Any, Literal, Union

from hypothesis import strategies as st

from mmf_hm_concat.config.description import KEYS

# Read before anything can be checked, moved into the environment, or what the tests themselves set.
NOT_HERE = {"config", "env.user_dir", "dataset_config.hm_competition.zip_password"}


def alternatives(kind):
    if typing.get_origin(kind) in (Union, UnionType):
        return [a for each in typing.get_args(kind) for a in alternatives(each)]
    return [kind]


def plain_and_meta(kind):
    if typing.get_origin(kind) is Annotated:
        plain, meta = typing.get_args(kind)
        return plain, meta
    return kind, None


def is_group(kind):
    """Whether the values are groups of keys."""
    return all(
        plain_and_meta(each)[0] in (None, type(None)) or "dict" in str(plain_and_meta(each)[0])
        for each in alternatives(kind)
    )


def allows(kind, value):
    """Whether a value is of a kind, as a person would read it."""
    return any(_allows(*plain_and_meta(each), value) for each in alternatives(kind))


def _allows(plain, meta, value):
    if plain is Any:
        return True
    if plain in (None, type(None)):
        return value is None
    if plain is bool:
        return value in (True, False, "true", "false")
    if typing.get_origin(plain) is Literal:
        return value in typing.get_args(plain) or (value is False and "off" in str(plain))
    if plain in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            return False
        if plain is int and value != int(value):
            return False
        inside = meta.ge is None or value >= meta.ge
        inside &= (meta.gt is None or value > meta.gt) and (meta.le is None or value <= meta.le)
        return bool(inside and (meta.lt is None or value < meta.lt))
    if plain is str:
        return isinstance(value, str | int) and len(str(value)) >= ((meta and meta.min_length) or 0)
    origin = typing.get_origin(plain)
    return isinstance(value, dict if origin is dict else list)


def wrong_values(kind) -> list[Any]:
    """Values that a key of this kind must not have."""
    found: list[Any] = []
    for each in alternatives(kind):
        plain, meta = plain_and_meta(each)
        if typing.get_origin(plain) is Literal:
            found += [f"{word}x" for word in typing.get_args(plain) if isinstance(word, str)]
        elif plain in (int, float):
            found += [meta.ge - 1] if meta.ge is not None else [meta.gt, meta.gt - 1]
            found += [meta.le + 1] if meta.le is not None and meta.le < 1e300 else []
            found += [meta.lt, meta.lt + 1] if meta.lt is not None else []
            found += [1.5, math.nan]
    found += ["maybe", "", None, [[1]], 2.5, -7, "5,5"]
    return [value for value in found if not allows(kind, value)]


def right_values(kind, cap: float):
    """A strategy for values of a kind; numbers up to ``cap``."""
    return st.one_of(
        [
            found
            for each in alternatives(kind)
            if (found := _right(*plain_and_meta(each), cap)) is not None
        ]
    )


def _right(plain, meta, cap):
    if plain in (None, type(None)):
        return st.none()
    if plain is bool:
        return st.booleans()
    if typing.get_origin(plain) is Literal:
        return st.sampled_from(typing.get_args(plain))
    if plain is int:
        return st.integers(meta.ge, int(min(meta.le, cap)))
    if plain is float:
        low = meta.ge if meta.ge is not None else meta.gt
        high = min(cap, *(each for each in (meta.le, meta.lt) if each is not None))
        return st.floats(low, high, exclude_min=meta.gt is not None, exclude_max=high == meta.lt)
    return None


LEAVES = [name for name, key in KEYS.items() if name not in NOT_HERE and not is_group(key.kind)]
GROUPS = [name for name, key in KEYS.items() if name not in NOT_HERE and is_group(key.kind)]

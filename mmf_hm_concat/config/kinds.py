"""The types that config keys have, and how each is said in words."""

import types
import typing
from typing import Annotated, Any, Literal, Union

from msgspec import Meta

# A number that torch and NumPy take for a size or a count.
MOST = 2**31 - 1
# Leaves out infinity; not-a-number fails every bound.
FINITE = 1e300


def whole(least: int = 1, most: int = MOST, unit: str = "") -> Any:
    """The type of a whole number, ``unit`` in the plural."""
    return Annotated[int, Meta(ge=least, le=most, extra={"unit": unit})]


def number(
    least: float = -FINITE,
    most: float = FINITE,
    *,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """The type of a finite number within bounds; ``above`` and ``below`` leave out the bound."""
    bounds: dict[str, Any] = {"ge": least} if above is None else {"gt": above}
    bounds |= {"le": most} if below is None else {"lt": below}
    return Annotated[float, Meta(**bounds)]


def text(what: str = "text", pattern: str | None = None) -> Any:
    """The type of a text that is not empty; ``what`` says which."""
    return Annotated[str, Meta(min_length=1, pattern=pattern, extra={"what": what})]


# A type with its params, as MMF builds encoders, losses, processors, ...
BUILT = Annotated[dict[str, Any], Meta(extra={"what": "{type: ..., params: {...}}"})]
GROUP = Annotated[dict[str, Any], Meta(extra={"what": "a group of keys"})]


def in_words(kind: Any) -> str:
    """What values a type allows, as "a whole number from 1 on, or null"."""
    parts = [_one(each) for each in _alternatives(kind)]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, or {parts[-1]}"


def takes_text(kind: Any) -> bool:
    """Whether any text, not only a choice of words, is of the type."""
    return any(_plain(each) is str for each in _alternatives(kind))


def choices(kind: Any) -> tuple[Any, ...]:
    """The words that a type allows."""
    return tuple(
        word
        for each in _alternatives(kind)
        if typing.get_origin(each) is Literal
        for word in typing.get_args(each)
    )


def _alternatives(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (Union, types.UnionType):
        return tuple(a for each in typing.get_args(kind) for a in _alternatives(each))
    return (kind,)


def _plain(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _one(kind: Any) -> str:
    plain = _plain(kind)
    meta = kind.__metadata__[0] if typing.get_origin(kind) is Annotated else Meta()
    extra = meta.extra or {}
    if "what" in extra:
        return extra["what"]
    if plain in (None, type(None)):
        return "null"
    if plain is bool:
        return "true or false"
    if typing.get_origin(plain) is Literal:
        words = [str(each) for each in typing.get_args(plain)]
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    if plain in (int, float):
        name = "a whole number" if plain is int else "a number"
        unit = f" ({extra['unit']})" if extra.get("unit") else ""
        return f"{name}{_bounds(meta)}{unit}"
    one = in_words(typing.get_args(plain)[0])  # a list
    return f"a list{' with at least one' if meta.min_length else ''} of: {one}"


def _bounds(meta: Any) -> str:
    low = high = ""
    if meta.gt is not None:
        low = f" above {meta.gt:g}"
    elif meta.ge > -(2**63):
        low = f" from {meta.ge}"
    if meta.lt is not None:
        high = f"{' and' if low else ''} below {meta.lt:g}"
    elif meta.le not in (FINITE, MOST, 2**63 - 1):
        high = f" to {meta.le}" if " from" in low else f"{' and' if low else ''} up to {meta.le:g}"
    return low + (high or (" on" if " from" in low else ""))

"""Wording that many messages share."""

from collections.abc import Sequence
from typing import Any


def first_and_more(items: Sequence[Any], most: int) -> list[str]:
    """The first ``most`` items as text, and "and N more" in place of the others, if any."""
    shown = [str(item) for item in items[:most]]
    return [*shown, f"and {len(items) - most:,} more"] if len(items) > most else shown


def counted(number: int, thing: str) -> str:
    """ "1 meme", "2 memes", "1,000 memes"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"

"""Which memes of the training split are trained on, and how often.

| `balance` | what it does to the counts (tutorial's case: 3,019 hateful, 5,481 benign) |
|---|---|
| `none` | nothing: 3,019 and 5,481 |
| `undersample` | drops memes of the larger class, drawn by the seed: 3,019 and 3,019 |
| `oversample` | repeats memes of the smaller class in turn, drawn by the seed: 5,481 and 5,481 |
| `weights` | nothing; the loss weighs the classes by `class_weights` |

`dev_limit` then keeps that many rows, each class in proportion, before any repeated meme. What is
drawn depends on the seed and on the memes' ids alone: it is the same on every machine and with
every version of numpy, and a meme added to the file changes little of it.
"""

import hashlib
import logging

import pandas as pd

from mmf_hm_concat.errors import InputError

logger = logging.getLogger("mmf_hm_concat")

BALANCES = ("none", "undersample", "oversample", "weights")


def sample_training(
    table: pd.DataFrame, *, balance: str = "none", dev_limit: int | None = None, seed: int = 42
) -> pd.DataFrame:
    """Draw the training rows, as described at the top of this file; the counts are logged.

    Args:
        table: columns `number` and `label` (all known) and any others; see `memes`.
        balance: one of `BALANCES`.
        dev_limit: at most so many rows; None for all. At least one of each class stays, from two
            rows on.
        seed: any int.

    Returns:
        Rows of ``table`` in its order, then those that repeat a meme in the same order; index
        from 0.

    Raises:
        InputError: a value that is not allowed, or no memes of a class that is to be balanced.
    """
    if balance not in BALANCES:
        raise InputError(f"balance = {balance!r}: choose one of {', '.join(BALANCES)}.")
    if dev_limit is not None and (type(dev_limit) is not int or dev_limit < 1):
        raise InputError(f"dev_limit = {dev_limit!r}: give a whole number from 1 on, or null.")
    if type(seed) is not int:
        raise InputError(f"sampling_seed = {seed!r}: give a whole number.")
    if unknown := int(table["label"].isna().sum()):
        raise InputError(f"{unknown} of {len(table)} training memes have no label.")
    drawn = [_drawn(table, label, seed) for label in (0, 1)]
    if balance in ("undersample", "oversample"):
        _needs_both(table)
        smaller, larger = sorted(map(len, drawn))
        count = smaller if balance == "undersample" else larger
        benign, hateful = (_first(rows, count) for rows in drawn)
    else:
        benign, hateful = (_first(rows, len(rows)) for rows in drawn)
    total = len(benign) + len(hateful)
    if dev_limit is not None and dev_limit < total:
        part = (2 * dev_limit * len(hateful) + total) // (2 * total)  # rounded, without floats
        if dev_limit > 1 and benign and hateful:
            part = min(max(part, 1), dev_limit - 1)
        benign, hateful = benign[: dev_limit - part], hateful[:part]
    chosen = [row for _, row in sorted(benign + hateful)]
    sampled = table.iloc[chosen].reset_index(drop=True)
    logger.info(
        "train: %s; after balance=%s, dev_limit=%s, seed=%d: %s.",
        describe_counts(table),
        balance,
        dev_limit,
        seed,
        describe_counts(sampled),
    )
    return sampled


def class_weights(table: pd.DataFrame) -> tuple[float, float]:
    """Weights of a benign and of a hateful meme in the loss, for `balance: weights`.

    Both classes weigh the same in total, and a meme weighs 1 on average.
    """
    _needs_both(table)
    benign, hateful = (int((table["label"] == label).sum()) for label in (0, 1))
    return (benign + hateful) / (2 * benign), (benign + hateful) / (2 * hateful)


def describe_counts(table: pd.DataFrame) -> str:
    """A table's counts in words: "8500 memes (3019 hateful, 5481 benign)"."""
    benign, hateful = (int((table["label"] == label).sum()) for label in (0, 1))
    unknown = len(table) - benign - hateful
    more = f", {unknown} unlabelled" if unknown else ""
    return f"{len(table)} memes ({hateful} hateful, {benign} benign{more})"


def _needs_both(table: pd.DataFrame) -> None:
    for label, name in enumerate(("benign", "hateful")):
        if not (table["label"] == label).any():
            raise InputError(
                f"The training split has no {name} memes: classes cannot be balanced. "
                "Set balance=none, or add such memes."
            )


def _drawn(table: pd.DataFrame, label: int, seed: int) -> list[int]:
    """A class's rows in the order in which they are drawn."""
    rows = (table["label"] == label).to_numpy(bool).nonzero()[0].tolist()
    numbers = table["number"].tolist()

    def draw(row: int) -> tuple[bytes, int]:
        return hashlib.sha256(f"{seed}:{numbers[row]}".encode()).digest(), row

    return sorted(rows, key=draw)


def _first(rows: list[int], count: int) -> list[tuple[int, int]]:
    """So many of the rows drawn, all again when they run out, as (which time, row)."""
    return [(place // len(rows), rows[place % len(rows)]) for place in range(count)]

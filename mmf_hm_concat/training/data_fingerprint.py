"""What data a run was trained on: kept in its checkpoints, and compared on resume.

A few bytes a meme say later which ones are gone, new or changed. Images are not looked at.
"""

import hashlib
from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from mmf_hm_concat.utils.text import counted, first_and_more

SHOWN = 5  # ids


def fingerprint(memes: pd.DataFrame) -> dict[str, Tensor]:
    """A split's memes in order: int64 (N,) each.

    Args:
        memes: columns ``number``, ``label`` and ``text``; see data/table.py.

    Returns:
        "id", "label" (-1: unknown) and "text" (the first 63 bits of its SHA-256).
    """
    texts = [hashlib.sha256(text.encode()).digest()[:8] for text in memes["text"]]
    return {
        "id": torch.tensor(memes["number"].tolist(), dtype=torch.int64),
        "label": torch.tensor(memes["label"].fillna(-1).tolist(), dtype=torch.int64),
        "text": torch.tensor([int.from_bytes(t, "big") >> 1 for t in texts], dtype=torch.int64),
    }


def changes(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> list[str]:
    """How a split differs from what it was, each as "2 memes are gone (12, 34)"."""
    if all(torch.equal(old[key], new[key]) for key in ("id", "label", "text")):
        return []
    before, after = (_by_id(each) for each in (old, new))
    both = [number for number in before if number in after]
    found = {
        "gone": [number for number in before if number not in after],
        "new": [number for number in after if number not in before],
        "now labelled otherwise": [n for n in both if before[n][0] != after[n][0]],
        "now of another text": [n for n in both if before[n][1] != after[n][1]],
    }
    told = [
        f"{counted(len(ids), 'meme')} {'is' if len(ids) == 1 else 'are'} {what} "
        f"({', '.join(first_and_more(ids, SHOWN))})"
        for what, ids in found.items()
        if ids
    ]
    return told or ["the memes are in another order"]


def _by_id(memes: Mapping[str, Tensor]) -> dict[int, tuple[int, int]]:
    rows = zip(memes["label"].tolist(), memes["text"].tolist(), strict=True)
    return dict(zip(memes["id"].tolist(), rows, strict=True))

"""How a run does among memes that share a text or an image and have different labels."""

from typing import Any

import numpy as np
import pandas as pd

from mmf_hm_concat.reports.groups import confounders, with_keys
from mmf_hm_concat.reports.page import Section, Table
from mmf_hm_concat.reports.run_memes import Predicted
from mmf_hm_concat.reports.scores import THRESHOLD

TITLE = "Among benign confounders"
KINDS = {
    "the same text, other images": ("text_key", "image_key"),
    "images that look alike, other texts": ("look_key", "text_key"),
}


def pairs_right(label_N: np.ndarray, proba_N: np.ndarray) -> tuple[float, int]:
    """Pairs of a hateful and a benign meme that are ranked right (a tie counts half), and all."""
    hateful, benign = proba_N[label_N == 1], proba_N[label_N == 0]
    difference = hateful[:, None] - benign[None]
    return float((difference > 0).sum() + 0.5 * (difference == 0).sum()), difference.size


def group_scores(predicted: Predicted, not_shown: list[str]) -> tuple[Section, dict[str, Any]]:
    """The section, and its numbers."""
    memes = with_keys(predicted.memes.assign(proba=predicted.proba))
    memes = memes[memes["label"].notna()]
    rows, numbers, grouped = [], {}, set()
    for kind, (shared, other) in KINDS.items():
        groups = confounders(memes, shared, other)
        if not groups:
            continue
        right, pairs = np.sum([pairs_right(*_of(group)) for group in groups], axis=0)
        members = pd.concat(groups)
        grouped |= set(members.index)
        found = {
            "groups": len(groups),
            "memes": len(members),
            "accuracy": _accuracy(members),
            "pairs_right": float(right / pairs),
        }
        numbers[kind] = found
        rows.append((kind, *found.values()))
    if not rows:
        not_shown.append(
            "accuracy among benign confounders: this split has none (no labelled memes of both "
            "classes that share a text or an image)."
        )
        return Section(TITLE, ["This split has none."]), {}
    alone = memes[~memes.index.isin(grouped)]
    if len(alone):
        numbers["in no such group"] = {"memes": len(alone), "accuracy": _accuracy(alone)}
        rows.append(("(memes in no such group)", 0, len(alone), _accuracy(alone), np.nan))
    columns = ["memes that share", "groups", "memes", "accuracy", "pairs ranked right"]
    frame = pd.DataFrame(rows, columns=columns)
    text = [
        "Memes of different labels that share a text or an image. A model of one modality gives "
        "all of a group the same probability, so half of the pairs of a hateful and a benign "
        "member are ranked right, whatever else it has learnt."
    ]
    return Section(TITLE, text, [Table(frame, "Within groups of both labels")]), numbers


def _of(memes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return memes["label"].to_numpy("int64"), memes["proba"].to_numpy(float)


def _accuracy(memes: pd.DataFrame) -> float:
    label_N, proba_N = _of(memes)
    return float(((proba_N >= THRESHOLD) == label_N).mean())

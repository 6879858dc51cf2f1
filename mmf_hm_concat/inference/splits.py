"""Whole splits through a trained run, without MMF: the same numbers that mmf_predict writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmf_hm_concat.data.layout import DEFAULT_SPLITS, Layout, find_layout
from mmf_hm_concat.data.table import read_splits
from mmf_hm_concat.inference.known_features import images_of, known_features
from mmf_hm_concat.inference.member import Member

# Annotation files that a data set may have beside train, each a split of its own.
SPLITS = ("dev", "dev_seen", "dev_unseen", "test", "test_seen", "test_unseen")


@dataclass(frozen=True)
class Split:
    """Memes with labels.

    Attributes:
        memes: the labelled ones, in the file's order (columns: data/table.py).
        without_label: how many others the file has.
    """

    memes: pd.DataFrame
    without_label: int = 0

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,): 0 benign, 1 hateful."""
        return self.memes["label"].to_numpy("int64")


def labelled_splits(
    data_dir: str | Path, names: Sequence[str] | None, cache_dir: Path
) -> dict[str, Split]:
    """The splits of a data set, those without any label with no memes.

    Args:
        data_dir: as `dataset_config.hm_competition.data_dir`.
        names: annotation files, as dev_seen or dev_seen+dev_unseen; None: those of `SPLITS` that
            are there.
        cache_dir: for what has to be unpacked.

    Raises:
        InputError: none of them is there, one that is named is not, or a file is wrong.
    """
    wanted = list(dict.fromkeys(names or SPLITS))
    layout = find_layout(
        data_dir, {name: name for name in wanted}, cache_dir=cache_dir, needed=names or ()
    )
    return {name: labelled(layout, name) for name in wanted if name in layout.annotations}


def labelled(layout: Layout, name: str) -> Split:
    """One split of a layout.

    Raises:
        InputError: a file of it is wrong.
    """
    memes = read_splits(layout, labels={}, splits=[name])[name]
    has_label = memes["label"].notna()
    return Split(memes[has_label].reset_index(drop=True), int((~has_label).sum()))


def validation_of(config: Mapping[str, Any]) -> str:
    """What `dataset_config.hm_competition.splits` of a run calls its validation split."""
    splits = config["dataset_config"]["hm_competition"].get("splits") or {}
    return splits.get("val") or DEFAULT_SPLITS["val"]


def predict_memes(member: Member, memes: pd.DataFrame, cache_dir: Path) -> np.ndarray:
    """P(hateful) of memes, float64 (N,): on a CPU bit for bit what mmf_predict writes.

    Args:
        member: what `load_member` gives for a run.
        memes: columns of data/table.py; labels are not looked at.
        cache_dir: keeps the decoded images, as in training.

    Raises:
        InputError: an image cannot be read, unless the run's `on_bad_image` is blank; or the run's
            `features_file` lacks a meme.
    """
    if memes.empty:
        return np.empty(0)
    on_bad_image = member.config["dataset_config"]["hm_competition"].get("on_bad_image") or "error"
    images = images_of(member, memes, cache_dir, on_bad_image)
    known = known_features(member, memes, images, cache_dir)
    texts = None if "language" in known else member.prepared(memes["text"].tolist())
    return member.probabilities_of(len(memes), texts, images.batch if images else None, known)

"""A run, the memes of a split, and what the run makes of them: what a report is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmf_hm_concat.data.layout import DEFAULT_SPLITS, Layout, find_layout
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.cache import ImageCache
from mmf_hm_concat.inference.features import (
    Features,
    given_features,
    image_features,
    probabilities,
    text_features,
)
from mmf_hm_concat.inference.known_features import images_of, known_features
from mmf_hm_concat.inference.member import Member, NeedsMMF, load_member
from mmf_hm_concat.inference.submission import read_rows, values_of
from mmf_hm_concat.reports.groups import distinct
from mmf_hm_concat.reports.survey import read_annotations, with_looks
from mmf_hm_concat.training import checkpoints
from mmf_hm_concat.utils.text import counted

SUBMISSION = "submission.csv"


@dataclass
class Predicted:
    """Memes, and what the run makes of them.

    Attributes:
        memes: columns of `survey.read_annotations` (and of `Look` where they were looked at),
            each meme once, plain index from 0.
        proba: P(hateful), float64 (N,).
        features: of each branch; None where only the probabilities are known.
        images: the memes' images; None without an image branch.
        mean_pixels: mean image, uint8 (3, S, S); None without an image branch.
    """

    memes: pd.DataFrame
    proba: np.ndarray
    features: Features | None = None
    images: ImageCache | None = None
    mean_pixels: Tensor | None = None

    @property
    def is_labelled(self) -> np.ndarray:
        return self.memes["label"].notna().to_numpy()

    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels, int64 (M,), and P(hateful), float64 (M,), of the memes that have a label."""
        known = self.is_labelled
        return self.memes["label"][known].to_numpy("int64"), self.proba[known]


@dataclass
class Run:
    """One run's folder, and where its data is.

    Attributes:
        folder: its `env.save_dir`.
        member: its network; None for a run that only MMF can build.
        needs_mmf: why not.
        config: of its checkpoint.
        not_shown: collects what a page must say that it could not show.
    """

    folder: Path
    member: Member | None
    needs_mmf: str
    config: Mapping[str, Any]
    not_shown: list[str] = field(default_factory=list)


def load_run(path: Path) -> Run:
    """Load a run's best checkpoint.

    Args:
        path: a run's `env.save_dir`, or one checkpoint in it.

    Raises:
        InputError: no checkpoint, or one that is damaged.
    """
    file = path / checkpoints.BEST if path.is_dir() else path
    folder = checkpoints.folder_of_run(file)
    try:
        member = load_member(file)
    except NeedsMMF as error:
        config = checkpoints.load_checkpoint(file).get("config") or {}
        return Run(folder, None, str(error), config)
    return Run(folder, member, "", member.config)


class RunMemes:
    """The splits of a run's data, each predicted at most once.

    Args:
        data_dir: the dataset files; None: those the run was trained on.
        split: "train", "val" or "test", as the run's config has them, or a file's name, as
            dev_seen. It must be there; validation and training memes need not be.

    Raises:
        InputError: no dataset files, or none of the split.
    """

    def __init__(self, run: Run, split: str, data_dir: str | Path | None, cache_dir: Path):
        self.run, self.cache_dir = run, cache_dir
        data = (run.config.get("dataset_config") or {}).get("hm_competition") or {}
        known = {**DEFAULT_SPLITS, **(data.get("splits") or {})}
        self.specs = {"val": known["val"], "train": known["train"], split: known.get(split, split)}
        self.on_bad_image = data.get("on_bad_image") or "error"
        data_dir = data_dir or data.get("data_dir")
        try:
            if not data_dir:
                raise InputError(f"{run.folder}: its config names no data of hm_competition.")
            self.layout: Layout = find_layout(
                data_dir, self.specs, cache_dir=cache_dir, needed=(split,)
            )
        except InputError as error:
            raise InputError(f"{error}\nSay where the data is with --data DIR.") from None
        self.split, self.data_dir = split, data_dir
        self._found: dict[str, Predicted | None] = {}

    def files(self, split: str) -> tuple[Path, ...]:
        return self.layout.annotations.get(split, ())

    def of_split(self) -> Predicted | None:
        """The memes that the report is about; None when none of them can be predicted.

        Memes without an image that can be read are left out where the network needs one.
        """
        return self._of(self.split, look=True)

    def of_training(self) -> Predicted | None:
        """The training memes; None where they are missing or damaged, which is said."""
        return self._of("train")

    def of_validation(self) -> Predicted | None:
        """The memes that the run was validated on, likewise."""
        return self._of("val")

    def _of(self, split: str, look: bool = False) -> Predicted | None:
        # Often the validation split is the one that the report is about.
        if split != self.split and self.files(split) == self.files(self.split):
            split = self.split
        if split not in self._found:
            self._found[split] = self._predicted(split, look or split == self.split)
        return self._found[split]

    def _predicted(self, split: str, look: bool) -> Predicted | None:
        say = self.run.not_shown.append
        if not self.files(split):
            say(f"the {split} split: {self.data_dir} has no files for it.")
            return None
        memes, problems = read_annotations(self.files(split), self.layout.images)
        self.run.not_shown += problems
        memes = distinct(memes).reset_index(drop=True)
        if look:
            memes = with_looks(memes)
        if self.run.member is None:
            return self._from_submission(memes) if look else None
        if self.run.member.reads_images:
            memes = self._with_images(memes, split, look)
        if memes.empty:
            say(f"the {split} split: it has no meme that can be predicted.")
            return None
        try:
            return predict(self.run.member, memes, self.cache_dir, self.on_bad_image)
        except InputError as error:
            say(f"the {split} split: {error}")
            return None

    def _with_images(self, memes: pd.DataFrame, split: str, look: bool) -> pd.DataFrame:
        usable = memes["path"].notna()
        if look and self.on_bad_image == "error":
            usable &= memes["problem"].isna()
        if not usable.all():
            self.run.not_shown.append(
                f"the {split} split: {counted(int((~usable).sum()), 'meme')} left out, whose image "
                "cannot be read."
            )
        return memes[usable].reset_index(drop=True)

    def _from_submission(self, memes: pd.DataFrame) -> Predicted | None:
        """What mmf_predict wrote, where it is of these memes."""
        say, path = self.run.not_shown.append, self.run.folder / SUBMISSION
        reason = "only MMF can build this model, so what needs its network is left out"
        rows, problems = read_rows(path) if path.is_file() else ([], ["there is none."])
        ids, values = values_of(rows)
        proba = dict(zip(ids, values, strict=True))
        found = [proba.get(number) for number in memes["number"].tolist()]
        if problems or memes.empty or None in found:
            say(
                f"all but the learning curves: {reason}, and {path} does not hold a probability "
                f"for each meme of the {self.split} split. Let mmf_predict write it, with "
                f"dataset_config.hm_competition.splits.test={self.specs[self.split]}."
            )
            return None
        say(f"ablation, neighbours, saliency and words: {reason}. Probabilities: {path}.")
        return Predicted(memes, np.array(found, dtype=float))


def predict(
    member: Member, memes: pd.DataFrame, cache_dir: Path, on_bad_image: str = "error"
) -> Predicted:
    """Each meme through its branches once.

    Args:
        memes: at least one; ``path`` is known where the network has an image branch.
        cache_dir: keeps the decoded images, as in training.

    Raises:
        InputError: an image cannot be read, unless ``on_bad_image`` is "blank"; or the run's
            `features_file` lacks a meme.
    """
    images = images_of(member, memes, cache_dir, on_bad_image)
    known = {
        branch: given_features(member, branch, features)
        for branch, features in known_features(member, memes, images, cache_dir).items()
    }
    text_ND, image_ND = known.get("language"), known.get("vision")
    if text_ND is None:
        text_ND = text_features(member, memes["text"].tolist())
    if image_ND is None and images is not None:
        image_ND = image_features(member, len(memes), images.batch)
    features = Features(text_ND, image_ND)
    mean_pixels = None if images is None else _mean(images)
    return Predicted(memes, probabilities(member, features), features, images, mean_pixels)


def _mean(images: ImageCache) -> Tensor:
    total = torch.zeros(3, images.size, images.size, dtype=torch.int64)
    for i in range(len(images)):
        total += images[i]
    return (total.double() / len(images)).round().to(torch.uint8)

"""`MemeClassifier`: the probability that a meme is hateful, from a run's folder, without MMF.

>>> classifier = MemeClassifier.load("save/concat")
>>> classifier("meme.png", "look how many people love you")
0.031
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.member import ImageSource, Member, load_member

if TYPE_CHECKING:
    import pandas as pd


class MemeClassifier:
    """One trained `concat_vl` or the mean of several; made by `load`.

    On a CPU it gives the same numbers, bit for bit, that mmf_predict writes on the same machine.
    """

    def __init__(self, members: Sequence[Member]):
        self.members = members

    @classmethod
    def load(
        cls, *runs: str | Path, device: str | None = None, batch_size: int | None = None
    ) -> "MemeClassifier":
        """Load the best checkpoint of a run, or of several.

        Args:
            runs: each a run's `env.save_dir`, or one checkpoint in it.
            device: "cpu", "cuda" or "cuda:1"; by default the GPU, if the run was trained on one
                and one is here.
            batch_size: memes at once. By default as many as mmf_predict takes; another number may
                change the last digits.

        Raises:
            InputError: no checkpoint, one of another model, or a text model that is missing or
                not the one the checkpoint was trained with; no such device; or a batch size that
                is none.
        """
        if not runs:
            raise InputError("MemeClassifier.load needs the folder of a run, or of several.")
        if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
            raise InputError(f"batch_size = {batch_size!r}: give a whole number from 1.")
        members = [load_member(Path(run), device).without_vectors(run) for run in runs]
        for member in members:
            member.batch_size = batch_size or member.batch_size
        return cls(members)

    def __repr__(self) -> str:
        return f"MemeClassifier({' | '.join(map(repr, self.members))})"

    def __call__(
        self,
        image: "ImageSource | np.ndarray | Iterable[ImageSource | np.ndarray] | pd.DataFrame",
        text: str | Iterable[str] | None = None,
    ) -> float | list[float]:
        """P(hateful), in [0, 1]: of one meme, or a list of many.

        Args:
            image: a path, a Pillow image or a NumPy array, uint8 (H, W), (H, W, 3) or (H, W, 4);
                or many of them: a list, a column of a frame, a generator, an array (N, H, W, 3).
                Or a pandas frame with the columns `image` and `text`.
            text: the text on it, maybe empty; or as many as there are images.

        Raises:
            InputError: an argument is something else, not as many texts as images, or an image
                that cannot be read.
        """
        if hasattr(image, "columns"):
            image, text = _columns(image, text)
        if text is None:
            raise InputError('text is missing: give the text on the image, "" for none.')
        one_image, one_text = _is_one_image(image), isinstance(text, str)
        images: list[Any] = [image] if one_image else _listed(image, "image")
        texts: list[Any] = [text] if one_text else _listed(text, "text")
        if one_image and one_text:
            return self._probabilities([_image(image, "image")], texts)[0]
        if one_image or one_text:
            raise InputError("Give one image and one text, or a list of each.")
        if len(images) != len(texts):
            raise InputError(
                f"{len(images)} images but {len(texts)} texts: give one text an image."
            )
        for i, each in enumerate(texts):
            if not isinstance(each, str):
                raise InputError(f'text {i} is {_said(each)}: give a text, "" for none.')
        images = [_image(each, f"image {i}") for i, each in enumerate(images)]
        return self._probabilities(images, [str(each) for each in texts])

    def _probabilities(self, images: Sequence[ImageSource], texts: Sequence[str]) -> list[float]:
        columns = [member.probabilities(images, texts) for member in self.members]
        return [sum(row) / len(row) for row in zip(*columns, strict=True)]


def _columns(frame: Any, text: Any) -> tuple[Any, Any]:
    """The two columns of a frame that is given in place of images and texts."""
    if text is not None:
        raise InputError("A frame has its texts in its column `text`: give nothing beside it.")
    if missing := [name for name in ("image", "text") if name not in frame.columns]:
        raise InputError(
            f"The frame has no column {' and no '.join(missing)}; it has "
            f"{', '.join(map(str, frame.columns))}. Rename: frame.rename(columns={{...}})."
        )
    return frame["image"], frame["text"]


def _is_one_image(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype != object and value.ndim in (2, 3)
    return isinstance(value, ImageSource)


def _listed(values: Any, name: str) -> list[Any]:
    if isinstance(values, bytes) or not isinstance(values, Iterable):
        raise InputError(f"{name} is {_said(values)}: {_WANTED[name]}, or many of them.")
    return list(values)


_WANTED = {
    "image": "give a path, a Pillow image or a NumPy array, uint8 (H, W, 3)",
    "text": "give a text",
}


def _image(value: Any, name: str) -> ImageSource:
    if isinstance(value, ImageSource):
        return value
    pixels = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.size
    if pixels and (value.ndim == 2 or value.shape[2:] in ((3,), (4,))):
        return Image.fromarray(value)
    raise InputError(f"{name} is {_said(value)}: {_WANTED['image']}.")


def _said(value: Any) -> str:
    """A wrong value as messages name it."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"{str(value)[:40]!r}, of type {type(value).__name__}"

"""What a run's encoders need not compute again: given vectors, and features of frozen encoders."""

from pathlib import Path

import pandas as pd
from torch import Tensor

from mmf_hm_concat.encoders.feature_store import FeatureStore
from mmf_hm_concat.images.cache import ImageCache
from mmf_hm_concat.inference.member import Member
from mmf_hm_concat.training.frozen_features import (
    TEXTS_OR_IMAGES,
    frozen_features,
    identity_of,
    image_inputs,
    text_inputs,
)


def known_features(
    member: Member, memes: pd.DataFrame, images: ImageCache | None, cache_dir: Path
) -> dict[str, Tensor]:
    """By branch ("language", "vision"), what its `project` takes of memes, float32 (N, ...).

    The features of frozen encoders come from ``cache_dir``, where training, predicting and this
    keep them; what it lacks is computed, and kept there. Branches that are neither frozen nor have
    a `features_file` are left out.

    Args:
        memes: columns of data/table.py; labels are not looked at.
        images: of the memes; None where the network reads none.

    Raises:
        InputError: a `features_file` lacks a meme; or ``cache_dir`` cannot be used.
    """
    known = member.given(memes)
    for branch, encoder in member.network.frozen_encoders().items():
        if branch == "language":
            texts = memes["text"].tolist()
            prepared = member.prepared(texts)
            assert prepared is not None
            inputs = text_inputs(texts, prepared, member.texts_made_by)
        else:
            assert images is not None
            inputs = image_inputs(images, member.preprocessing)
        identity = identity_of(encoder, inputs, member.precision, member.device)
        features, rows = frozen_features(
            encoder,
            inputs,
            FeatureStore(cache_dir.absolute(), identity),
            member.precision,
            member.device,
            label=f"computing features of {TEXTS_OR_IMAGES[branch]}",
        )
        known[branch] = features[rows]
    return known


def images_of(
    member: Member, memes: pd.DataFrame, cache_dir: Path, on_bad_image: str
) -> ImageCache | None:
    """The memes' images as the network wants them; None where it reads none.

    Raises:
        InputError: an image cannot be read, unless ``on_bad_image`` is "blank".
    """
    if not member.reads_images:
        return None
    return ImageCache(
        memes["path"].tolist(),
        member.image_size,
        cache_dir,
        on_bad_image,
        member.preprocessing.interpolation,
    )

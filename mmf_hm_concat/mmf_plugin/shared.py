"""What the parts of a run tell each other, in the one place that all of them reach: MMF's registry.

MMF builds data sets, model, loss and trainer without showing them each other. What one of them
finds out and another needs is a field of `Shared`; nothing else of ours goes through the registry.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from mmf.common.registry import registry

from mmf_hm_concat.data.features_file import FeaturesFile
from mmf_hm_concat.encoders.base import TextPreparation
from mmf_hm_concat.encoders.image_preprocessing import ImagePreprocessing

KEY = "mmf_hm_concat"


@dataclass
class Shared:
    """Of one run: a second one in the same process has its own.

    Attributes:
        config: MMF's config of the run.
        memes: table of each split that the run reads (columns: data/table.py); set by the builder.
        class_weights: by data set, the weight of each class for the loss; set by the data set.
        text_statistics: mean and deviation of the training texts' vectors, float32 (dim,) each; set
            by the text processor or data set for the model.
        text_model_checksum: SHA-256 of the text model; set by the text processor or data set for
            the checkpoint.
        image_preprocessing: see `processors.image_preprocessing`, which sets and reads it; None
            until then.
        text_preparation: see `processors.text_preparation`, likewise.
        given_features: see `given_features.given_features`, likewise.
        feature_statistics: by branch, mean and deviation of the training split's given vectors,
            float32 (L,) each; set by the data set for the model.
    """

    config: Any = None
    memes: dict[str, pd.DataFrame] = field(default_factory=dict)
    class_weights: dict[str, tuple[float, float]] = field(default_factory=dict)
    text_statistics: tuple[np.ndarray, np.ndarray] | None = None
    text_model_checksum: str | None = None
    image_preprocessing: ImagePreprocessing | None = None
    text_preparation: TextPreparation | None = None
    given_features: dict[str, FeaturesFile] | None = None
    feature_statistics: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def shared() -> Shared:
    """The running run's; MMF's registry outlives a run, so its config tells them apart."""
    config = registry.get("config", no_warning=True)
    found = registry.get(KEY, no_warning=True)
    if found is None or found.config is not config:
        found = Shared(config)
        registry.register(KEY, found)
    return found

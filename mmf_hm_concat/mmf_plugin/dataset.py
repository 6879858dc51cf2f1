"""MMF's builder and data set `hm_competition`: memes of the dataset files as batches of tensors.

Sample fields: ``id`` int64; ``text``, ``input_ids``, ...: what the text processor gives;
``image``: uint8 (3, size, size) from the cache, normalised on the device by `prepare_batch`, or
what another image processor gives; ``targets`` int64, absent when the split has no labels. A
processor that is null in the YAML, and `use_images: false`, leave their fields out. Features that
are known beforehand take the place of what they are made of: ``language_features`` and
``vision_features``, float32, for `concat_vl` (`keep_features`); MMF's models know the vectors of a
`features_file` as ``text`` (L,) and ``image_feature_0`` (1, L).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mmf.common.registry import registry
from mmf.common.sample import Sample, SampleList
from mmf.datasets.base_dataset import BaseDataset
from mmf.datasets.base_dataset_builder import BaseDatasetBuilder
from mmf.utils.configuration import get_mmf_env
from omegaconf import DictConfig
from torch import Tensor

from mmf_hm_concat.config.check import unknown
from mmf_hm_concat.data.features_file import FeaturesFile
from mmf_hm_concat.data.layout import find_layout
from mmf_hm_concat.data.sampling import class_weights, sample_training
from mmf_hm_concat.data.table import drop_duplicates, read_splits
from mmf_hm_concat.encoders.fasttext_model import mean_and_std
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.cache import ImageCache
from mmf_hm_concat.images.decode import read_rgb
from mmf_hm_concat.mmf_plugin.configuration import CONFIGS
from mmf_hm_concat.mmf_plugin.decode_ahead import decodes_ahead
from mmf_hm_concat.mmf_plugin.given_features import given_features
from mmf_hm_concat.mmf_plugin.processors import (
    FastTextSentenceVector,
    ResNetImage,
    image_preprocessing,
    text_preparation,
)
from mmf_hm_concat.mmf_plugin.shared import shared
from mmf_hm_concat.training.frozen_features import Inputs, image_inputs, text_inputs

NAME = "hm_competition"
# What MMF's own models read.
FIELDS_OF_MMF = {"language": "text", "vision": "image_feature_0"}
DATA_DIR = "data/hateful_memes"  # the default in configs/datasets/hm_competition.yaml


@registry.register_builder(NAME)
class HMCompetitionBuilder(BaseDatasetBuilder):
    """Builds the splits of a run; keys of its config are in configs/datasets/."""

    def __init__(self) -> None:
        super().__init__(NAME)

    @classmethod
    def config_path(cls) -> str:
        return str(CONFIGS / "datasets" / "hm_competition.yaml")

    def build(self, config: DictConfig, dataset_type: str = "train", *args: Any, **kw: Any) -> None:
        """Read and check the dataset files, once, before the other processes ask for it."""
        memes_of_run(config)

    def load(self, config: DictConfig, dataset_type: str = "train", *args: Any, **kw: Any) -> Any:
        memes = memes_of_run(config)[dataset_type]
        self.dataset = HMCompetitionDataset(config, dataset_type, memes)
        return self.dataset

    def update_registry_for_model(self, config: DictConfig) -> None:
        """What MMF's own models ask for when they size their layers."""
        registry.register(f"{NAME}_num_final_outputs", 2)
        processor = self.dataset.text_processor
        if hasattr(processor, "get_vocab_size"):
            registry.register(f"{NAME}_text_vocab_size", processor.get_vocab_size())


def memes_of_run(config: DictConfig) -> dict[str, pd.DataFrame]:
    """The tables of the splits that this run needs (columns: data/table.py), read once a run."""
    run = shared()
    if not run.memes:
        needed = splits_of_run(run.config)
        layout = find_layout(
            data_dir_of(config),
            {split: config.splits[split] for split in needed},
            cache_dir=Path(config.cache_dir),
            needed=needed,
        )
        run.memes = read_splits(layout)
    return run.memes


def splits_of_run(config: DictConfig) -> list[str]:
    """Which of train, val and test a run reads: only test when it predicts."""
    if config.training.trainer != "concat_trainer":
        return ["train", "val", "test"]  # MMF's trainer always builds all of them
    if config.evaluation.predict:
        return ["test"]
    run_type = config.run_type
    splits = ["train"] if "train" in run_type else []
    splits += ["val"] if "train" in run_type or "val" in run_type else []
    return splits + (["test"] if any(t in run_type for t in ("inference", "test")) else [])


def data_dir_of(config: DictConfig) -> Path | str:
    """Where the data is: `data_dir`, or what mmf_convert_hm made."""
    converted = Path(get_mmf_env(key="data_dir")) / "datasets" / "hateful_memes" / "defaults"
    # Only in place of the default: another folder than the one asked for would be a surprise.
    if config.data_dir == DATA_DIR and not Path(DATA_DIR).exists() and converted.exists():
        return converted  # what mmf_convert_hm made
    return config.data_dir


class HMCompetitionDataset(BaseDataset):
    """Memes of one split, in the order of ``memes`` (columns: data/table.py)."""

    def __init__(self, config: DictConfig, dataset_type: str, memes: pd.DataFrame):
        super().__init__(NAME, config, dataset_type)
        self.all_texts, self.all_ids = memes.text.tolist(), memes.number.to_numpy()
        if dataset_type == "train":
            if config.drop_duplicates:
                memes, _ = drop_duplicates(memes)
            memes = sample_training(
                memes,
                balance=config.balance or "none",  # MMF makes null of a bare None
                dev_limit=config.dev_limit,
                seed=config.sampling_seed,
            )
            if config.balance == "weights":
                shared().class_weights[NAME] = class_weights(memes)
        self.memes = memes
        self.ids = torch.tensor(memes.number.to_numpy(), dtype=torch.int64)
        labelled = memes.label.notna().all()
        self.targets = torch.tensor(memes.label.to_numpy("int64")) if labelled else None
        self.text_processor: Any = None
        self.image_processor: Any = None
        self.vectors: Tensor | None = None
        self.images: ImageCache | None = None
        self.image_size = 0  # of the images that our model reads: as a run's batches go by it
        self.augment: Any = None
        self.kept: dict[str, tuple[Tensor, Tensor]] = {}
        is_ours = shared().config.model == "concat_vl"
        self.fields = FIELDS_OF_MMF if not is_ours else {b: f"{b}_features" for b in FIELDS_OF_MMF}

    def init_processors(self) -> None:
        """Called by MMF after `load`: all sentence vectors and all images, once."""
        for key, processor in self.config.processors.items():
            known = registry.mapping["processor_name_mapping"]
            if processor and processor.type not in known:
                problem = unknown("processor", processor.type, known)
                raise InputError(f"dataset_config.{NAME}.processors.{key}.type: {problem}")
        try:
            super().init_processors()
        except (OSError, ValueError) as error:  # a tokenizer's files, say
            raise InputError(
                f"dataset_config.{NAME}.processors: {error} (A BERT from a local folder needs "
                "config.json, vocab.txt and pytorch_model.bin, and bert in its path.)"
            ) from None
        given = given_features()
        texts = self.memes.text.tolist()
        processor, preparation = _inner(self.text_processor), text_preparation()
        if "language" in given:
            pass  # the texts are not read
        elif preparation is not None:
            shared().text_model_checksum = preparation.checksum
            if preparation.are_vectors and self.dataset_type == "train":
                vectors = preparation.prepare(self.all_texts)  # those sampled are among them
                shared().text_statistics = mean_and_std(vectors.numpy())
                row_of = {text: row for row, text in enumerate(self.all_texts)}
                self.vectors = vectors[[row_of[text] for text in texts]]
            else:
                self.vectors = preparation.prepare(texts)
        elif isinstance(processor, FastTextSentenceVector):
            if self.dataset_type == "train":
                processor.fit(self.all_texts, Path(self.config.cache_dir))
            self.vectors = torch.from_numpy(processor.vectors(texts))
        processor = _inner(self.image_processor)
        if self.config.use_images and processor is None:
            raise InputError(
                f"dataset_config.{NAME}.processors.image_processor is null: name one, or leave the "
                f"images out with dataset_config.{NAME}.use_images=false."
            )
        if self.config.use_images and isinstance(processor, ResNetImage) and "vision" not in given:
            self.image_size = processor.size
            self.augment = processor.augment if self.dataset_type == "train" else None
            self.images = ImageCache(
                self.memes.path.tolist(),
                processor.size,
                Path(self.config.cache_dir) if self.config.image_cache != "off" else None,
                self.config.on_bad_image,
                image_preprocessing().interpolation,
                ahead=self.augment is None and decodes_ahead(shared().config),
            )
        for branch, file in given.items():
            self._keep_given(branch, file)

    def _keep_given(self, branch: str, file: FeaturesFile) -> None:
        if self.dataset_type == "train":
            statistics = mean_and_std(file.values[file.rows(self.all_ids)])
            shared().feature_statistics[branch] = statistics
        features = torch.from_numpy(file.values)
        if self.fields[branch] == "image_feature_0":
            features = features[:, None]  # MMF: several an image
        self.keep_features(branch, features, file.rows(self.memes.number).tolist())

    def keep_features(self, branch: str, features: Tensor, rows: Sequence[int]) -> None:
        """From now on, give features in place of what the branch's encoder made them of.

        Args:
            branch: "language" or "vision".
            features: float32 (N, ...).
            rows: the one of each meme, in the order of `memes`.
        """
        self.kept[branch] = (features, torch.tensor(rows))
        if branch == "language":
            self.vectors = None
        else:
            if self.images is not None:
                self.images.close()
            self.images = self.augment = None

    def inputs(self, branch: str) -> Inputs | None:
        """What a branch's encoder reads; None where it is augmented or made meme by meme."""
        if branch == "language" and self.vectors is not None:
            preparation = text_preparation()
            made_by = preparation.identity if preparation else shared().text_model_checksum
            return text_inputs(self.memes.text.tolist(), self.vectors, str(made_by))
        if branch == "vision" and self.images is not None and self.augment is None:
            return image_inputs(self.images, image_preprocessing())
        return None

    @property
    def is_cached(self) -> bool:
        """Whether a batch costs no more than a copy."""
        return self._is_ready and (self.images is None or self.config.image_cache != "off")

    @property
    def is_decoding(self) -> bool:
        """Whether images are still to come, in this process alone."""
        return self.images is not None and self.images.is_decoding

    @property
    def _is_ready(self) -> bool:
        """Whether no processor is left to call, meme by meme."""
        texts = self.text_processor is None or self.vectors is not None or "language" in self.kept
        images = not self.config.use_images or self.images is not None or "vision" in self.kept
        return texts and images

    def __len__(self) -> int:
        return len(self.memes)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor] | list[Sample]:
        """A whole batch at once, when the processors are ours: the loader's fast way."""
        if not self._is_ready:
            return [self[i] for i in indices]
        rows = torch.tensor(indices)
        batch = {"id": self.ids[rows]}
        if self.vectors is not None:
            batch["text"] = self.vectors[rows]
        if self.images is not None:
            batch["image"] = self.images.batch(indices)
        for branch, (features, row_of) in self.kept.items():
            batch[self.fields[branch]] = features[row_of[rows]]
        if self.targets is not None:
            batch["targets"] = self.targets[rows]
        return batch

    def __getitem__(self, i: int) -> Sample:
        sample = Sample({"id": self.ids[i]})
        for branch, (features, row_of) in self.kept.items():
            sample[self.fields[branch]] = features[row_of[i]]
        if self.vectors is not None:
            sample.text = self.vectors[i]
        elif self.text_processor is not None and "language" not in self.kept:
            sample.update(self.text_processor({"text": self.memes.text.iloc[i]}))
        if self.images is not None:
            sample.image = self.images[i]
        elif self.config.use_images and "vision" not in self.kept:
            sample.image = self.image_processor(read_rgb(self.memes.path.iloc[i]))
        if self.targets is not None:
            sample.targets = self.targets[i]
        return sample

    def prepare_batch(self, batch: Any) -> SampleList:
        """Move a batch to the device, and there turn its bytes into normalised floats.

        Augmentation happens here, too, not in the loader's workers: it draws from the random
        state that a checkpoint keeps, so that a resumed run goes on with the same images.
        """
        batch = super().prepare_batch(batch)
        if "image" in batch and batch.image.dtype == torch.uint8:
            if self.augment is not None:
                batch.image = torch.stack([self.augment(image) for image in batch.image])
            batch.image = image_preprocessing().normalize(batch.image)
        return batch

    def format_for_prediction(self, report: Any) -> list[dict[str, Any]]:
        """Rows for MMF's report file: ids as the annotation file has them, P(hateful), label."""
        # Absent in a run of MMF's own trainer.
        threshold = registry.get("config").evaluation.get("threshold", 0.5)
        probabilities = torch.softmax(report.scores.double(), dim=1)[:, 1].tolist()
        as_written = dict(zip(self.memes.number.tolist(), self.memes.id.tolist(), strict=True))
        return [
            {"id": as_written[number], "proba": proba, "label": int(proba >= threshold)}
            for number, proba in zip(report.id.tolist(), probabilities, strict=True)
        ]


def _inner(processor: Any) -> Any:
    """The processor inside MMF's `Processor` wrapper."""
    return getattr(processor, "processor", processor)

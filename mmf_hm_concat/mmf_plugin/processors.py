"""MMF processors: `fasttext_sentence_vector` for texts and `resnet_image` for images.

Both work in any MMF data set with a `text` field or an image. Our own data set does not call
them meme by meme: it asks for all sentence vectors at once, and for the config of the image.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmf.common.registry import registry
from mmf.datasets.processors.processors import BaseProcessor
from mmf.utils.configuration import get_mmf_cache_dir, get_mmf_env
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torchvision.transforms import v2

from mmf_hm_concat.data.annotations import Problem, read_json_lines
from mmf_hm_concat.encoders.base import TextPreparation
from mmf_hm_concat.encoders.fasttext_model import (
    TextModel,
    fit_text_model,
    load_text_model,
    mean_and_std,
)
from mmf_hm_concat.encoders.image_preprocessing import IMAGENET, ImagePreprocessing
from mmf_hm_concat.encoders.word_vectors import ENDINGS, WordVectors, cut_word_vectors
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import read_rgb
from mmf_hm_concat.mmf_plugin.distributed import on_first_rank
from mmf_hm_concat.mmf_plugin.shared import shared
from mmf_hm_concat.mmf_plugin.starting_point import find_checkpoint, load_whole, may_fall_back
from mmf_hm_concat.training import run_folder
from mmf_hm_concat.training.checkpoints import TEXT_MODEL, folder_of_run
from mmf_hm_concat.utils.text import first_and_more

# Params of the processors that MMF's data sets have by default: in the YAML, ours are merged over
# them.
OF_OTHERS = ("max_length", "vocab", "preprocessor", "transforms")


def folder_to_start_from() -> Path:
    """The folder of the checkpoint that this run starts from, else the one it saves into."""
    resume_file = registry.get("config").checkpoint.resume_file
    return folder_of_run(Path(resume_file)) if resume_file else Path(get_mmf_env(key="save_dir"))


def image_preprocessing() -> ImagePreprocessing:
    """How the model of this run wants its images.

    As the checkpoint has it that the run starts from, else as the model's class says in
    ``image_preprocessing(config)``. A class that does not say it is one of MMF's, whose image
    encoders are all made for ImageNet's. Found out once a run.
    """
    run = shared()
    if run.image_preprocessing is None:
        run.image_preprocessing = _image_preprocessing(run.config)
    return run.image_preprocessing


def _image_preprocessing(config: DictConfig) -> ImagePreprocessing:
    model = registry.get_model_class(config.model)
    if not hasattr(model, "image_preprocessing"):
        return IMAGENET
    takes_parts = config.checkpoint.resume_pretrained and config.checkpoint.pretrained_state_mapping
    if config.training.trainer == "concat_trainer" and not takes_parts:
        path = find_checkpoint(config, Path(get_mmf_env(key="save_dir")))
        if path is not None:
            # What is wrong with it, the trainer says.
            state, _ = load_whole(path, lambda *message: None, may_fall_back(config))
            if state.get("image_preprocessing"):
                return ImagePreprocessing(**state["image_preprocessing"])
    return model.image_preprocessing(_own_config(config))


def text_preparation() -> TextPreparation | None:
    """How texts become what this run's model reads; None: by the data set's text processor.

    As the model's class says in ``text_preparation(config)``; those of MMF do not.
    """
    run = shared()
    model = registry.get_model_class(run.config.model)
    if run.text_preparation is None and hasattr(model, "text_preparation"):
        run.text_preparation = model.text_preparation(_own_config(run.config))
    return run.text_preparation


def _own_config(config: DictConfig) -> DictConfig:
    own = config.model_config[config.model]
    return config.model_config[own] if isinstance(own, str) else own  # MMF: another model's keys


@registry.register_processor("fasttext_sentence_vector")
class FastTextSentenceVector(BaseProcessor):
    """{"text": str} -> {"text": float32 (dim,)}, the sentence vector of fastText.

    The text model is, in this order: the run's own unless a training begins; `model_file`;
    or one fitted on the training texts, which the data set hands over (`fit`) or which are read
    from `annotations`. Mean and deviation of the training texts' vectors go to `shared()`,
    where `concat_vl` finds them.

    Params (YAML):
        dim: length of the vectors, 150.
        model: what is fitted: cbow, or skipgram.
        model_file: a pretrained fastText .bin, or vectors of words as text, instead of fitting.
        annotations: {train: [jsonl files], val: ..., test: ...}, relative to the data set's
            data_dir; only for data sets that do not call `fit`, as MMF's own `hateful_memes`.
    """

    def __init__(self, config: DictConfig, data_dir: str = ".", **kwargs: Any):
        super().__init__(config)
        params = _params(
            config, "text_processor", dim=150, model="cbow", model_file=None, annotations=None
        )
        self.dim = params["dim"]
        self.model, self.model_file = params["model"], params["model_file"]
        self.text_model: TextModel | WordVectors | None = None
        self._rows: dict[str, int] = {}
        self._vectors = np.zeros((0, self.dim), np.float32)
        carried = folder_to_start_from() / TEXT_MODEL
        config_of_run = registry.get("config")
        trains = "train" in config_of_run.run_type and not config_of_run.evaluation.predict
        if (not trains or config_of_run.checkpoint.resume) and carried.is_file():
            self._use(load_text_model(carried))
        if annotations := params["annotations"]:
            wanted = tuple(annotations) if trains else ("val", "test")
            texts = {split: _texts(annotations.get(split, ()), data_dir) for split in wanted}
            if "train" in texts:
                self.fit(texts["train"], Path(get_mmf_cache_dir()) / "mmf_hm_concat")
            self._remember([text for each in texts.values() for text in each])

    def fit(self, texts: Sequence[str], cache_dir: Path) -> None:
        """Fit (or load) the text model and its statistics.

        A run has one text model: with several data sets, that of the first.

        Args:
            texts: the training split's.
            cache_dir: keeps the fitted model for later runs.
        """
        first = shared().text_statistics is None
        save_dir = Path(get_mmf_env(key="save_dir"))
        if self.text_model is None:
            if self.model_file and self.model_file.endswith(ENDINGS):
                self._use(cut_word_vectors(Path(self.model_file), texts, cache_dir))
            elif self.model_file:
                self._use(load_text_model(self.model_file))
            elif not first:
                self._use(load_text_model(run_folder.staged(save_dir, TEXT_MODEL)))
            else:
                self._use(
                    fit_text_model(texts, model=self.model, dim=self.dim, cache_dir=cache_dir)
                )
        if first:
            self._remember(texts)
            shared().text_statistics = mean_and_std(self.vectors(texts))
            on_first_rank(lambda: self._carry(save_dir))

    def _carry(self, save_dir: Path) -> None:
        """Copy the text model to the run: at once, or with the first checkpoint of our trainer."""
        assert self.text_model is not None
        if registry.get("config").training.trainer == "concat_trainer":
            run_folder.stage(save_dir, self.text_model.path, TEXT_MODEL)
        elif self.text_model.path != save_dir / TEXT_MODEL:
            run_folder.copy_file(self.text_model.path, save_dir / TEXT_MODEL)

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Sentence vectors of many texts, float32 (N, dim)."""
        if all(text in self._rows for text in texts):
            return self._vectors[[self._rows[text] for text in texts]]
        if self.text_model is None:
            raise InputError(
                "fasttext_sentence_vector has no text model: train first, or give its "
                "`model_file` or `annotations` (configs/datasets/hm_competition.yaml explains)."
            )
        return self.text_model.vectors(texts)

    def __call__(self, item: Mapping[str, str], *args: Any, **kwargs: Any) -> dict[str, Any]:
        row = self._rows.get(item["text"])
        vector = self.vectors([item["text"]])[0] if row is None else self._vectors[row]
        return {"text": torch.from_numpy(vector)}

    def _remember(self, texts: Sequence[str]) -> None:
        distinct = list(dict.fromkeys(texts))
        self._vectors = self.vectors(distinct)
        self._rows = {text: row for row, text in enumerate(distinct)}

    def _use(self, text_model: TextModel | WordVectors) -> None:
        if text_model.dim != self.dim:
            raise InputError(
                f"{text_model.path} gives sentence vectors of {text_model.dim} numbers, but "
                f"processors.text_processor.params.dim is {self.dim}. Make them the same."
            )
        known = shared().text_model_checksum
        if known not in (None, text_model.checksum):
            raise InputError(
                f"{text_model.path}: another data set of this run uses another text model. Give "
                "all of them the same model_file, or none."
            )
        self.text_model = text_model
        shared().text_model_checksum = text_model.checksum


def _texts(files: str | Sequence[str], data_dir: str) -> list[str]:
    texts, problems = [], []
    for name in [files] if isinstance(files, str) else files:
        path = Path(data_dir) / name
        lines, rows, of_file = read_json_lines(path)
        problems += of_file
        for line, row in zip(lines, rows, strict=True):
            if isinstance(row.get("text"), str):
                texts.append(row["text"])
            else:
                problems.append(Problem(str(path), line, "has no text: give it one."))
    if problems:
        shown = "\n  ".join(first_and_more(problems, 20))
        raise InputError(f"annotations of the text processor:\n  {shown}")
    return texts


@registry.register_processor("resnet_image")
class ResNetImage(BaseProcessor):
    """An image -> float32 (3, size, size), resized and normalised as the run's model wants it.

    Takes a PIL image, or {"image": PIL image} and then gives {"image": tensor}.

    Params (YAML):
        size: side of the square in pixels; auto, the default: what the model's image encoder was
            made for. Resized without a crop.
        augment: transforms of torchvision.transforms.v2 for the training split, each
            {type: ..., params: {...}}; none by default. They see uint8 (3, size, size) and must
            keep it. Our own data set applies them; elsewhere they are not applied, because MMF
            does not tell a processor which split it serves.
    """

    def __init__(self, config: DictConfig, **kwargs: Any):
        super().__init__(config)
        params = _params(config, "image_processor", size="auto", augment=())
        self.preprocessing = image_preprocessing()
        self.size = params["size"]
        if self.size == "auto":
            self.size = self.preprocessing.size
        steps = [_transform(**step) for step in params["augment"]]
        self.augment = v2.Compose(steps) if steps else None

    def __call__(
        self, image: Image.Image | Mapping[str, Image.Image], *args: Any, **kw: Any
    ) -> Any:
        if isinstance(image, Mapping):
            return {"image": self(image["image"])}
        pixels = torch.from_numpy(self.preprocessing.resize(read_rgb(image), self.size))
        return self.preprocessing.normalize(pixels.permute(2, 0, 1)[None])[0]


def _transform(type: str, params: Mapping[str, Any] | None = None) -> v2.Transform:
    try:
        return getattr(v2, type)(**(params or {}))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"processors.image_processor.params.augment: {type} {params}: {error}"
        ) from None


def _params(config: DictConfig, processor: str, **defaults: Any) -> dict[str, Any]:
    """The params of a processor over their defaults; a key that has none is an InputError."""
    given = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    for key in given:
        if key not in (*defaults, *OF_OTHERS):
            raise InputError(
                f"processors.{processor}.params: there is no key {key!r}. "
                f"Known: {', '.join(defaults)}."
            )
    return {**defaults, **given}

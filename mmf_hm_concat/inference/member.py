"""One trained `concat_vl`: loaded from its run's folder without MMF, and what it says of memes."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mmf_hm_concat.config.of_checkpoint import checked_config
from mmf_hm_concat.data.features_file import read_features, say_lacking
from mmf_hm_concat.encoders.fasttext_model import load_text_model
from mmf_hm_concat.encoders.given_features import width_in
from mmf_hm_concat.encoders.image_preprocessing import ImagePreprocessing
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import read_rgb
from mmf_hm_concat.models.build import NoMemory, build_network, text_preparation
from mmf_hm_concat.models.network import NOTHING, FusionNetwork
from mmf_hm_concat.training import checkpoints
from mmf_hm_concat.training.batch_samplers import EvalBatchSampler, evaluation_batch
from mmf_hm_concat.training.frozen_weights import all_weights
from mmf_hm_concat.training.precision import autocast, choose_precision, threads
from mmf_hm_concat.utils.parallel import num_cores, parallel_map

if TYPE_CHECKING:
    import pandas as pd

ImageSource = str | Path | Image.Image


class NeedsMMF(InputError):
    """A run of another model, or with parts that only MMF can build."""


class Member:
    """One network with what it needs to see a meme as it did in training.

    Attributes:
        path: its checkpoint.
        config: of the run, plain and checked.
        texts_made_by: what ``prepare_text`` depends on besides the text; "" without it.
        features_files: by branch ("language", "vision"), the file of its vectors, if it has one.
    """

    def __init__(
        self,
        path: Path,
        network: FusionNetwork,
        prepare_text: Callable[[Sequence[str]], Tensor] | None,
        image_size: int,
        precision: str,
        device: torch.device,
        config: Mapping[str, Any],
        texts_made_by: str = "",
        features_files: Mapping[str, str] = MappingProxyType({}),
    ):
        network.eval().to(device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.path = path
        self.prepare_text, self.image_size = prepare_text, image_size
        self.precision, self.device = precision, device
        self.config = config
        self.texts_made_by, self.features_files = texts_made_by, features_files
        # Memes at once. Always as many as in mmf_predict: another shape may round otherwise.
        self.batch_size = evaluation_batch(device.type, image_size)

    def __repr__(self) -> str:
        model = self.config["model_config"]["concat_vl"]
        names = [model[each].get("name") for each in ("language", "vision") if model[each]]
        what = ", ".join([*map(str, names), str(model["fusion"])])
        return f"{self.path}: {what}; {self.precision} on {self.device}"

    @property
    def reads_images(self) -> bool:
        """Whether it has an image branch, and that one an encoder."""
        return self.network.vision_module is not None and "vision" not in self.features_files

    def without_vectors(self, run: str | Path) -> "Member":
        """This member, for what knows an image and a text; InputError if these are not enough."""
        for branch, file in self.features_files.items():
            key = f"model_config.concat_vl.{branch}.features_file"
            what = "texts" if branch == "language" else "images"
            raise InputError(
                f"{run}: this run does not read {what}, but a vector for each meme, which another "
                f"program made ({key} = {file}): an image and a text are not enough. Make vectors "
                "of the new memes with the same encoder, and predict with mmf_predict ... "
                f"{key}=FILE."
            )
        return self

    def given(self, memes: "pd.DataFrame") -> dict[str, Tensor]:
        """By branch, the vectors of memes, float32 (N, L); {} without any file.

        Args:
            memes: of its columns, ``number`` (data/table.py) is read where there is a file.

        Raises:
            InputError: a file cannot be read, or lacks a meme.
        """
        found = {}
        for branch, path in self.features_files.items():
            ids = memes["number"].tolist()
            key = f"model_config.concat_vl.{branch}.features_file"
            try:
                file = read_features(path, ids)
            except InputError as error:
                raise InputError(f"{key}: {error}") from None
            if lacking := file.lacking(ids):
                raise InputError(
                    f"{key}: {say_lacking(file.path, lacking, len(ids))}. Take splits that it has, "
                    "or what mmf_predict writes for the others, with their own features_file."
                )
            found[branch] = torch.from_numpy(file.values[file.rows(ids)])
        return found

    def probabilities(self, images: Sequence[ImageSource], texts: Sequence[str]) -> list[float]:
        """P(hateful) of each meme."""

        def decode(image: ImageSource) -> Tensor:
            return torch.from_numpy(self.preprocessing.resize(read_rgb(image), self.image_size))

        # The next images are decoded while the network computes.
        with closing(parallel_map(decode, images if self.reads_images else [])) as decoded:

            def pixels(rows: Sequence[int]) -> Tensor:
                images_BHW3 = torch.stack(list(itertools.islice(decoded, len(rows))))
                return images_BHW3.permute(0, 3, 1, 2)

            return self.probabilities_of(len(texts), self.prepared(texts), pixels).tolist()

    def prepared(self, texts: Sequence[str]) -> Tensor | None:
        """What the text branch takes of each text, (N, ...); None without one."""
        return None if self.prepare_text is None else self.prepare_text(texts)

    @property
    def preprocessing(self) -> ImagePreprocessing:
        return self.network.vision_module.preprocessing

    def probabilities_of(
        self,
        count: int,
        prepared: Tensor | None,
        pixels_of: Callable[[Sequence[int]], Tensor] | None,
        given: Mapping[str, Tensor] = NOTHING,
    ) -> np.ndarray:
        """P(hateful) of ``count`` memes, float64 (N,).

        Args:
            prepared: what `prepared` gives of their texts.
            pixels_of: row numbers -> their images, uint8 (B, 3, image_size, image_size); called
                with all rows in order, each once. None without an image branch that reads them.
            given: by branch, in place of the two others, the features of the memes that are
                known beforehand: what `given` gives, or `known_features.known_features`.
        """
        found = np.empty(count)
        reads_images = self.reads_images and "vision" not in given
        batches = EvalBatchSampler(count, self.batch_size)
        done = 0
        bar = tqdm(batches, desc="predicting", unit="batch", leave=False, disable=None)
        for rows in bar:
            used = list(dict.fromkeys(rows))
            text = None if prepared is None else prepared[rows].to(self.device)
            image_B3HW = None
            kept = {branch: each[rows].to(self.device) for branch, each in given.items()}
            if reads_images and pixels_of:
                pixels = pixels_of(used)
                # What fills up the last batch is read once.
                padded = pixels[[*range(len(used)), *[len(used) - 1] * (len(rows) - len(used))]]
                padded = padded.contiguous(memory_format=torch.channels_last)
                image_B3HW = self.preprocessing.normalize(padded.to(self.device))
            with (
                threads(num_cores()),
                torch.inference_mode(),
                autocast(self.precision, self.device),
            ):
                logits = self.network(text, image_B3HW, kept).float().cpu()
            proba = torch.softmax(logits.double(), dim=1)[: len(used), 1]
            found[done : done + len(used)] = proba.numpy()
            done += len(used)
        self.check(found)
        return found

    def check(self, found: np.ndarray) -> None:
        """Raise InputError for probabilities that are none."""
        if not np.isfinite(found).all():
            raise InputError(
                "The network gives NaN instead of a probability: its weights are too large for "
                f"{self.precision}."
            )


def load_member(path: Path, device: str | None = None) -> Member:
    """Load one checkpoint; see `MemeClassifier.load`."""
    path = path / checkpoints.BEST if path.is_dir() else path
    state = checkpoints.load_checkpoint(path)
    config = checked_config(state, path)
    data = config["dataset_config"].get("hm_competition")
    if config.get("model") != "concat_vl" or data is None:
        raise NeedsMMF(
            f"{path}: MemeClassifier loads concat_vl trained on hm_competition; this is "
            f"{config.get('model')} on {config.get('datasets')}."
        )
    model = config["model_config"]["concat_vl"]
    files = {b: model[b]["features_file"] for b in ("language", "vision") if _has_file(model[b])}
    try:
        network = _network(model, state, path)
    except InputError as error:
        if any((model[b] or {}).get("mmf_encoder") for b in ("language", "vision")):
            raise NeedsMMF(str(error)) from None
        raise
    prepare_text, made_by, image_size = None, "", 0
    if model["language"] and "language" not in files:
        prepare_text, made_by = _text_preparation(
            model, data["processors"], state["text_model"], path
        )
    if model["vision"] and "vision" not in files:
        # Its weights were not asked for, so only the checkpoint knows what they want.
        network.vision_module.preprocessing = ImagePreprocessing(**state["image_preprocessing"])
        image_size = _params(data["processors"], "image_processor", "resnet_image", path)["size"]
        if image_size == "auto":
            image_size = network.vision_module.preprocessing.size
    place = _device(device, config["training"]["device"])
    wanted = config["training"]["precision"]
    if wanted == "fp16" and place.type == "cpu":  # which has no fp16
        wanted = "fp32"
    precision, _ = choose_precision(wanted, place)
    return Member(path, network, prepare_text, image_size, precision, place, config, made_by, files)


def _device(wanted: str | None, trained_on: str) -> torch.device:
    """The device that is asked for; else the GPU, if the run used one and one is here."""
    if wanted is None:
        wanted = "cuda" if torch.cuda.is_available() and "cuda" in trained_on else "cpu"
    try:
        device = torch.device(wanted)
        number_of = {"cpu": 1, "cuda": torch.cuda.device_count()}[device.type]
        if (device.index or 0) < number_of:
            return device
    except (RuntimeError, KeyError, TypeError):
        pass
    gpus = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
    raise InputError(f"device = {wanted!r}: there is cpu{gpus and f', {gpus}'} here.")


def _has_file(branch: Mapping[str, Any] | None) -> bool:
    return bool(branch and branch.get("features_file"))


def _text_preparation(
    model: dict[str, Any], processors: dict[str, Any], wanted: str, path: Path
) -> tuple[Callable[[Sequence[str]], Tensor], str]:
    """What makes tensors of texts, the same as in training, and its identity.

    Its checksum is ``wanted``.
    """
    preparation = text_preparation(model)
    if preparation is None:
        _params(processors, "text_processor", "fasttext_sentence_vector", path)
        file = checkpoints.folder_of_run(path) / checkpoints.TEXT_MODEL
        text_model = load_text_model(file, wanted)
        return lambda texts: torch.from_numpy(text_model.vectors(texts)), wanted
    if preparation.checksum != wanted:
        raise InputError(
            f"{path}: was trained with a text encoder whose files have the checksum {wanted[:12]}; "
            f"here is {preparation.identity}. Install the version that it was trained with."
        )
    return preparation.prepare, preparation.identity


def _network(model: dict[str, Any], state: dict[str, Any], path: Path) -> FusionNetwork:
    """The network that the checked config describes, with the checkpoint's weights."""
    # The checkpoint's weights replace the pretrained ones: no need to have or download a file.
    plain = {
        name: model[name] and {**model[name], "weights": "none"} for name in ("language", "vision")
    }
    described = {**model, **plain}
    for name in filter(lambda name: _has_file(model[name]), plain):
        described[name]["in_features"] = width_in(state["model"], name) or 1  # 1: told as damaged
    whole = all_weights(state, path)
    weights = {key.removeprefix("network."): value for key, value in whole.items()}
    try:
        network = _without_memory(described)
        checkpoints.load_weights(network, weights, path)
        if any(each.is_meta for each in network.buffers()):  # CLIP's mask is in no checkpoint
            network = build_network(described)
            checkpoints.load_weights(network, weights, path)
    except InputError as problem:
        message = str(problem).removeprefix(f"{path}: ")
        raise InputError(f"{path}: {message}") from None
    for key, weight in network.named_parameters():
        if not weight.isfinite().all():
            raise InputError(
                f"{path}: {key} holds NaN or infinite weights, so it can predict nothing. Train "
                "again, with a lower optimizer.params.lr or training.precision=fp32."
            )
    return network


def _without_memory(model: dict[str, Any]) -> FusionNetwork:
    """A network without weights, of which only the shapes are to be compared."""
    try:
        with NoMemory():
            return build_network(model)
    except InputError:  # a few networks of timm compute with their weights while they are built
        return build_network(model)


def _params(processors: dict[str, Any], kind: str, type: str, path: Path) -> dict[str, Any]:
    """The params of one of the two processors, if it is the one that we know without MMF."""
    processor = processors[kind]
    if processor["type"] != type:
        raise NeedsMMF(
            f"{path}: trained with the {kind} {processor['type']}; MemeClassifier knows {type} "
            "only. Predict with mmf_predict."
        )
    return processor["params"]

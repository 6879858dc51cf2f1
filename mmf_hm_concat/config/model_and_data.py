"""What the model reads, and what the data set gives it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmf_hm_concat.config.check import encoder_and_name
from mmf_hm_concat.config.description import OUR_DATASET, OUR_MODEL
from mmf_hm_concat.config.values import Check, Found, Registered, RunConfig
from mmf_hm_concat.errors import InputError

# Where a model has `features_file`: ours, and those of MMF.
BRANCHES, BRANCHES_OF_MMF = ("language", "vision"), ("text_encoder", "modal_encoder")
ENDINGS = (".npz", ".parquet")  # of data/features_formats.py


def _balance(config: RunConfig, registered: Registered) -> Found:
    balance, classes = f"{OUR_DATASET}.balance", f"{OUR_MODEL}.num_classes"
    is_both = config.is_ours and config.has_our_data
    if is_both and config[balance] == "weights" and config[classes] != 2:
        yield balance, f"weights are those of 2 classes, but {classes} is {config[classes]}."


def _branches(config: RunConfig, registered: Registered) -> Found:
    if not config.is_ours:
        return
    if not config[f"{OUR_MODEL}.language"] and not config[f"{OUR_MODEL}.vision"]:
        yield OUR_MODEL, "language and vision are both null; keep at least one."


def _encoders(config: RunConfig, registered: Registered) -> Found:
    """Names and weights of the encoders, which know best what they take."""
    for branch, kind in (("language", "text encoder"), ("vision", "image encoder")):
        model = config[f"{OUR_MODEL}.{branch}"] if config.is_ours else None
        if not model or model.get("mmf_encoder") or model.get("features_file"):
            continue
        which, name = encoder_and_name(model, registered[kind])
        encoder: Any = registered[kind].get(which)
        # A checkpoint replaces the weights.
        weights = model["weights"] if config.trains else "none"
        if hasattr(encoder, "check"):
            try:
                encoder.check(name, weights)
            except InputError as error:
                yield _key_and_problem(error, f"{OUR_MODEL}.{branch}.weights")


def _key_and_problem(error: InputError, default: str) -> tuple[str, str]:
    """The key that a message of an encoder begins with, and the rest of it."""
    start, _, problem = str(error).partition(": ")
    key = start.split(" ")[0]
    return (key, problem) if key.startswith(OUR_MODEL) else (default, str(error))


def _image_size(config: RunConfig, registered: Registered) -> Found:
    """The network takes images of that size."""
    vision = config[f"{OUR_MODEL}.vision"] if config.is_ours else None
    if not vision or vision.get("mmf_encoder") or vision.get("features_file"):
        return
    if not config.has_our_data:
        return
    which, name = encoder_and_name(vision, registered["image encoder"])
    key = f"{OUR_DATASET}.image_size"
    size = config[f"{OUR_DATASET}.processors.image_processor.params.size"]
    try:
        wanted = registered["image encoder"][which].preprocessing_of(name, "none")
    except (InputError, KeyError):  # told of its name
        return
    if type(size) is not int or size == wanted.size:
        return
    if wanted.smallest is None:
        yield key, f"{name} takes images of {wanted.size} pixels only: {wanted.size}, or auto."
    elif size < wanted.smallest:
        yield key, f"{name} takes images from {wanted.smallest} pixels on; auto: {wanted.size}."


def _text(config: RunConfig, registered: Registered) -> Found:
    """Our model's text branch and our data set's text processor."""
    language = config[f"{OUR_MODEL}.language"] if config.is_ours else None
    if not language or language.get("mmf_encoder") or language.get("features_file"):
        return
    if not config.has_our_data:
        return
    which, name = encoder_and_name(language, registered["text encoder"])
    if which != "sentence_vector" or name != "fasttext":
        return  # which makes tensors of the texts itself
    processor = config[f"{OUR_DATASET}.processors.text_processor"]
    if not processor:
        yield (
            f"{OUR_DATASET}.processors.text_processor",
            "the model reads sentence vectors, but the data set gives no text. Use the text "
            f"processor fasttext_sentence_vector, or {OUR_MODEL}.language=null.",
        )
    elif processor.get("type") == "fasttext_sentence_vector":
        dim = (processor.get("params") or {}).get("dim", 150)
        if dim != language["in_features"]:
            yield (
                f"{OUR_MODEL}.language.in_features",
                f"the text processor gives sentence vectors of {dim} numbers, the model expects "
                f"{language['in_features']}. Make {OUR_DATASET}.processors.text_processor.params"
                f".dim and {OUR_MODEL}.language.in_features the same.",
            )


def _images(config: RunConfig, registered: Registered) -> Found:
    if not config.has_our_data:
        return
    uses = config[f"{OUR_DATASET}.use_images"]
    if uses and not config[f"{OUR_DATASET}.processors.image_processor"]:
        yield (
            f"{OUR_DATASET}.processors.image_processor",
            f"name one, or leave the images out with {OUR_DATASET}.use_images=false.",
        )
    if config.is_ours and not uses and config[f"{OUR_MODEL}.vision"]:
        yield (
            f"{OUR_DATASET}.use_images",
            "the model reads images, but the data set gives none. Set "
            f"{OUR_DATASET}.use_images=true, or {OUR_MODEL}.vision=null.",
        )


def _features_files(config: RunConfig, registered: Registered) -> Found:
    """Of any model: the file is there, and nothing else is to make the branch's features."""
    for branch in BRANCHES_OF_MMF if not config.is_ours else BRANCHES:
        encoder = config[f"model_config.{config['model']}.{branch}"]
        file = encoder.get("features_file") if isinstance(encoder, Mapping) else None
        key = f"model_config.{config['model']}.{branch}.features_file"
        if not file:
            continue
        if not config.has_our_data:
            yield key, "only the data set hm_competition knows its memes by id: add it to datasets."
        elif config.is_ours and encoder.get("mmf_encoder"):
            yield key, "mmf_encoder is given as well: take one of the two, and null for the other."
        elif not str(file).lower().endswith(ENDINGS):
            yield key, f"give a file that ends in {' or '.join(ENDINGS)}."
        elif not Path(file).is_file():
            yield key, "there is no such file."


CHECKS: tuple[Check, ...] = (
    _balance,
    _branches,
    _encoders,
    _image_size,
    _text,
    _images,
    _features_files,
)

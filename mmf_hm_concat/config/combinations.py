"""What only several keys, or this machine, can tell: names, arguments, widths, folders."""

import inspect
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mmf_hm_concat.config.check import (
    Problems,
    datasets_of,
    encoder_and_name,
    lookup,
    unknown,
)
from mmf_hm_concat.config.description import OUR_DATASET, OUR_MODEL
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.files import why_unwritable
from mmf_hm_concat.utils.parallel import num_cores

# More processes only wait for each other.
WORKERS_PER_CORE = 4
# Where a model has `features_file`: ours, and those of MMF.
BRANCHES, BRANCHES_OF_MMF = ("language", "vision"), ("text_encoder", "modal_encoder")
ENDINGS = (".npz", ".parquet")  # of data/features_formats.py
# The scheduler that reads keys of theirs, and puts code into checkpoints.
OF_MMFS_TRAINERS = "pythia"
BEST_CHECKPOINT = "best.ckpt"  # of training/checkpoints.py
# They need more than gradients: a closure, or sparse ones.
NOT_FOR_TRAINER = ("Optimizer", "LBFGS", "SparseAdam")

# Names that a config may use, by kind: "trainer", "optimizer", "scheduler", "loss", "metric" and
# "processor" of MMF's registry, "fusion", "text encoder" and "image encoder" of ours.
Registered = Mapping[str, Mapping[str, Any]]
Found = Iterator[tuple[str, str]]


class _Skip(Exception):
    """A key that a check needs is itself wrong."""


class Config:
    """The values that the checks below read; a wrong one skips the check."""

    def __init__(self, config: Mapping[str, Any], problems: Collection[str]):
        self._config, self._problems = config, problems
        self.datasets = datasets_of(config)
        self.is_ours = config.get("model") == "concat_vl"
        self.has_our_data = "hm_competition" in self.datasets

    def __getitem__(self, key: str) -> Any:
        if any(key == wrong or wrong.startswith(f"{key}.") for wrong in self._problems):
            raise _Skip
        return lookup(self._config, key)

    @property
    def predicts(self) -> bool:
        return bool(self["evaluation.predict"])

    @property
    def trains(self) -> bool:
        return "train" in self["run_type"] and not self.predicts

    @property
    def metrics(self) -> list[Any]:
        metrics = self["evaluation.metrics"]
        return [metrics] if isinstance(metrics, str) else metrics


def check_combinations(
    values: Mapping[str, Any], registered: Registered, problems: Problems
) -> Problems:
    """Problems of ``values`` besides ``problems``, those of its single values."""
    config, found = Config(values, problems), Problems()
    for check in CHECKS:
        try:
            found |= {key: text for key, text in check(config, registered) if key not in problems}
        except _Skip:
            continue
    return found


# ---- names that MMF or torch must know, and their arguments ----


def _trainer(config: Config, registered: Registered) -> Found:
    if (name := config["training.trainer"]) not in registered["trainer"]:
        yield "training.trainer", unknown("trainer", name, registered["trainer"])


def _processors(config: Config, registered: Registered) -> Found:
    for dataset in config.datasets:
        processors = config[f"dataset_config.{dataset}.processors"]
        for name, each in processors.items() if isinstance(processors, Mapping) else ():
            kind = each.get("type") if isinstance(each, Mapping) else None
            if kind is not None and kind not in registered["processor"]:
                key = f"dataset_config.{dataset}.processors.{name}.type"
                yield key, unknown("processor", kind, registered["processor"])


def _parts_of_the_model(config: Config, registered: Registered) -> Found:
    if not config.is_ours:
        return
    yield from _listed(f"{OUR_MODEL}.fusion", config[f"{OUR_MODEL}.fusion"], "fusion", registered)
    for branch, kind in (("language", "text encoder"), ("vision", "image encoder")):
        if config[f"{OUR_MODEL}.{branch}"]:
            key = f"{OUR_MODEL}.{branch}.encoder"
            yield from _listed(key, config[key], kind, registered)


def _losses(config: Config, registered: Registered) -> Found:
    key = f"model_config.{config['model']}.losses"
    yield from _listed(key, config[key] or [], "loss", registered)


def _metrics(config: Config, registered: Registered) -> Found:
    yield from _listed("evaluation.metrics", config.metrics, "metric", registered)


def _listed(key: str, items: Any, kind: str, registered: Registered) -> Found:
    """Each item is a name, or {type: name, params: arguments of the class}."""
    for item in items if isinstance(items, list) else [items]:
        name = item.get("type") if isinstance(item, Mapping) else item
        if not isinstance(name, str) or name not in registered[kind]:
            yield key, unknown(kind, name, registered[kind])
        elif isinstance(item, Mapping) and name != "multi":  # a loss that takes a list of losses
            if foreign := [each for each in item if each not in ("type", "params")]:
                yield key, f"{name}: {unknown('key', foreign[0], ('type', 'params'))}"
            elif problem := _arguments_problem(registered[kind][name], item.get("params") or {}):
                yield key, f"{name}: {problem}"


def _arguments_problem(kind: Any, params: Any) -> str | None:
    if not isinstance(params, Mapping):
        return "params is a group of keys."
    parameters = inspect.signature(kind).parameters
    known = [name for name in parameters if name not in ("args", "kwargs")]
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    if not takes_any and (wrong := [name for name in params if name not in known]):
        return unknown("argument", wrong[0], known)
    try:
        kind(**params)
    except Exception as error:
        return _first_line(error)
    return None


def _optimizer(config: Config, registered: Registered) -> Found:
    """Optimizer and scheduler are made once, of one parameter: they know best what they take."""
    if not config.trains:
        return
    name, params = config["optimizer.type"], config["optimizer.params"]
    known = {
        each: kind
        for each, kind in (dict(registered["optimizer"]) | vars(torch.optim)).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
        if each not in NOT_FOR_TRAINER
    }
    if name not in known:
        yield "optimizer.type", unknown("optimizer", name, known)
        return
    if found := list(_texts_for_numbers("optimizer.params", params)):
        yield from found
        return
    if params.get("differentiable"):
        yield "optimizer.params.differentiable", "is not for training: leave it out."
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            optimizer = known[name]([torch.nn.Parameter(torch.zeros(1, 1))], **params)
        except Exception as error:
            yield "optimizer.params", f"{name} does not take them: {_first_line(error)}"
            return
        yield from _scheduler(config, registered, optimizer)


def _scheduler(config: Config, registered: Registered, optimizer: Any) -> Found:
    if not config["training.lr_scheduler"]:
        return
    name, params = config["scheduler.type"], config["scheduler.params"] or {}
    known = [each for each in registered["scheduler"] if each != OF_MMFS_TRAINERS]
    if name is None:
        yield "scheduler.type", f"is missing: name one of {', '.join(known)}."
    elif name not in known:
        of_mmf = f"{name} is for MMF's own trainers. " if name == OF_MMFS_TRAINERS else ""
        yield "scheduler.type", of_mmf + unknown("scheduler", name, known)
    elif found := list(_texts_for_numbers("scheduler.params", params)):
        yield from found
    else:
        try:
            registered["scheduler"][name](optimizer, **params)
        except Exception as error:
            yield "scheduler.params", f"{name} does not take them: {_first_line(error)}"


def _texts_for_numbers(key: str, params: Mapping[str, Any]) -> Found:
    """Params that YAML 1.1 reads as text; what takes them would tell of a text only."""
    for name, value in params.items():
        if isinstance(value, str) and (match := re.fullmatch(r"([+-]?\d+)([eE].*)", value)):
            number = f"{match[1]}.0{match[2]}"
            yield f"{key}.{name}", f"is text to YAML, which wants a dot in it: write {number}."


def _augment(config: Config, registered: Registered) -> Found:
    for dataset in config.datasets:
        key = f"dataset_config.{dataset}.processors.image_processor"
        if not (processor := config[key]) or processor.get("type") != "resnet_image":
            continue
        for step in (processor.get("params") or {}).get("augment") or ():
            from torchvision.transforms import v2  # slow, where MMF has not done so

            kind, params = step.get("type"), step.get("params") or {}
            known = [name for name, each in vars(v2).items() if isinstance(each, type)]
            if kind not in known:
                yield f"{key}.params.augment", unknown("transform", kind, known)
                continue
            try:
                getattr(v2, kind)(**params)
            except Exception as error:
                yield f"{key}.params.augment", f"{kind} {params}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# ---- training ----


def _length(config: Config, registered: Registered) -> Found:
    if config.trains and config["training.max_epochs"] is config["training.max_updates"] is None:
        yield "training.max_epochs", "max_epochs and max_updates are both null: set one."


def _criterion(config: Config, registered: Registered) -> Found:
    if not config.trains:
        return
    names = [each.get("type") if isinstance(each, Mapping) else each for each in config.metrics]
    datasets = [*config.datasets]
    # MMF's data sets of this family call themselves hateful_memes, whatever their key.
    if datasets != ["hm_competition"] and "hateful_memes" not in datasets:
        datasets.append("hateful_memes")
    allowed = [f"{dataset}/{name}" for dataset in datasets for name in (*names, "loss")]
    allowed.append("total_loss")
    if (criterion := config["training.early_stop.criteria"]) not in allowed:
        yield (
            "training.early_stop.criteria",
            f"{unknown('criterion', criterion, allowed)} Validation gives {', '.join(allowed)}.",
        )


def _machine(config: Config, registered: Registered) -> Found:
    workers, most = config["training.num_workers"], WORKERS_PER_CORE * num_cores()
    if isinstance(workers, int) and workers > most:
        yield (
            "training.num_workers",
            f"at most {WORKERS_PER_CORE} a core, {most} here; auto takes as many as help.",
        )


def _precision(config: Config, registered: Registered) -> Found:
    on_cpu = config["training.device"] == "cpu" or not torch.cuda.is_available()
    if config["training.precision"] == "fp16" and on_cpu:
        yield "training.precision", "fp16 is for GPUs; on a CPU use bf16 or fp32."


def _zoo(config: Config, registered: Registered) -> Found:
    if config["checkpoint.zoo_config_override"]:
        yield "checkpoint.zoo_config_override", "concat_trainer has no zoo: false."


# ---- model and data set ----


def _balance(config: Config, registered: Registered) -> Found:
    balance, classes = f"{OUR_DATASET}.balance", f"{OUR_MODEL}.num_classes"
    is_both = config.is_ours and config.has_our_data
    if is_both and config[balance] == "weights" and config[classes] != 2:
        yield balance, f"weights are those of 2 classes, but {classes} is {config[classes]}."


def _branches(config: Config, registered: Registered) -> Found:
    if not config.is_ours:
        return
    if not config[f"{OUR_MODEL}.language"] and not config[f"{OUR_MODEL}.vision"]:
        yield OUR_MODEL, "language and vision are both null; keep at least one."


def _encoders(config: Config, registered: Registered) -> Found:
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


def _image_size(config: Config, registered: Registered) -> Found:
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


def _text(config: Config, registered: Registered) -> Found:
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


def _images(config: Config, registered: Registered) -> Found:
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


def _features_files(config: Config, registered: Registered) -> Found:
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


# ---- places ----


def _folders(config: Config, registered: Registered) -> Found:
    for key in ("env.save_dir", "env.log_dir", "env.report_dir"):
        if (folder := config[key]) and (problem := why_unwritable(folder)):
            yield key, f"the folder cannot be written: {problem}.{_of_prediction(config, key)}"


def _of_prediction(config: Config, key: str) -> str:
    best = Path(config["env.save_dir"]) / BEST_CHECKPOINT
    if key != "env.save_dir" or not config.predicts or not best.is_file():
        return ""
    return f" To write elsewhere: another env.save_dir, and checkpoint.resume_file={best}."


def _predict_file(config: Config, registered: Registered) -> Found:
    file = config["evaluation.predict_file"]
    if not config.predicts or not file:
        return
    if problem := why_unwritable(Path(file).parent):
        yield "evaluation.predict_file", f"cannot be written: {problem}."
    elif Path(file).is_dir():
        yield "evaluation.predict_file", "is a folder; give a file."


CHECKS: tuple[Callable[[Config, Registered], Found], ...] = (
    _trainer,
    _processors,
    _parts_of_the_model,
    _losses,
    _metrics,
    _optimizer,
    _augment,
    _length,
    _criterion,
    _machine,
    _precision,
    _zoo,
    _balance,
    _branches,
    _encoders,
    _image_size,
    _text,
    _images,
    _features_files,
    _folders,
    _predict_file,
)

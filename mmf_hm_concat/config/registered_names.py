"""Names that MMF or torch must know, and their arguments."""

import inspect
import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from mmf_hm_concat.config.check import unknown
from mmf_hm_concat.config.description import OUR_MODEL
from mmf_hm_concat.config.values import Check, Found, Registered, RunConfig

# The scheduler that reads keys of theirs, and puts code into checkpoints.
OF_MMFS_TRAINERS = "pythia"
# They need more than gradients: a closure, or sparse ones.
NOT_FOR_TRAINER = ("Optimizer", "LBFGS", "SparseAdam")


def _trainer(config: RunConfig, registered: Registered) -> Found:
    if (name := config["training.trainer"]) not in registered["trainer"]:
        yield "training.trainer", unknown("trainer", name, registered["trainer"])


def _processors(config: RunConfig, registered: Registered) -> Found:
    for dataset in config.datasets:
        processors = config[f"dataset_config.{dataset}.processors"]
        for name, each in processors.items() if isinstance(processors, Mapping) else ():
            kind = each.get("type") if isinstance(each, Mapping) else None
            if kind is not None and kind not in registered["processor"]:
                key = f"dataset_config.{dataset}.processors.{name}.type"
                yield key, unknown("processor", kind, registered["processor"])


def _parts_of_the_model(config: RunConfig, registered: Registered) -> Found:
    if not config.is_ours:
        return
    yield from _listed(f"{OUR_MODEL}.fusion", config[f"{OUR_MODEL}.fusion"], "fusion", registered)
    for branch, kind in (("language", "text encoder"), ("vision", "image encoder")):
        if config[f"{OUR_MODEL}.{branch}"]:
            key = f"{OUR_MODEL}.{branch}.encoder"
            yield from _listed(key, config[key], kind, registered)


def _losses(config: RunConfig, registered: Registered) -> Found:
    key = f"model_config.{config['model']}.losses"
    yield from _listed(key, config[key] or [], "loss", registered)


def _metrics(config: RunConfig, registered: Registered) -> Found:
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


def _optimizer(config: RunConfig, registered: Registered) -> Found:
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


def _scheduler(config: RunConfig, registered: Registered, optimizer: Any) -> Found:
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


def _augment(config: RunConfig, registered: Registered) -> Found:
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


CHECKS: tuple[Check, ...] = (
    _trainer,
    _processors,
    _parts_of_the_model,
    _losses,
    _metrics,
    _optimizer,
    _augment,
)

"""What only several keys, or this machine, can tell: names, arguments, widths, folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmf_hm_concat.config import model_and_data, registered_names
from mmf_hm_concat.config.check import Problems, unknown
from mmf_hm_concat.config.values import Check, Found, Registered, RunConfig, Skip
from mmf_hm_concat.utils.files import why_unwritable
from mmf_hm_concat.utils.parallel import num_cores

# More processes only wait for each other.
WORKERS_PER_CORE = 4
BEST_CHECKPOINT = "best.ckpt"  # of training/checkpoints.py


def check_combinations(
    values: Mapping[str, Any], registered: Registered, problems: Problems
) -> Problems:
    """Problems of ``values`` besides ``problems``, those of its single values."""
    config, found = RunConfig(values, problems), Problems()
    for check in CHECKS:
        try:
            found |= {key: text for key, text in check(config, registered) if key not in problems}
        except Skip:
            continue
    return found


# ---- training ----


def _length(config: RunConfig, registered: Registered) -> Found:
    if config.trains and config["training.max_epochs"] is config["training.max_updates"] is None:
        yield "training.max_epochs", "max_epochs and max_updates are both null: set one."


def _criterion(config: RunConfig, registered: Registered) -> Found:
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


def _machine(config: RunConfig, registered: Registered) -> Found:
    workers, most = config["training.num_workers"], WORKERS_PER_CORE * num_cores()
    if isinstance(workers, int) and workers > most:
        yield (
            "training.num_workers",
            f"at most {WORKERS_PER_CORE} a core, {most} here; auto takes as many as help.",
        )


def _precision(config: RunConfig, registered: Registered) -> Found:
    on_cpu = config["training.device"] == "cpu" or not torch.cuda.is_available()
    if config["training.precision"] == "fp16" and on_cpu:
        yield "training.precision", "fp16 is for GPUs; on a CPU use bf16 or fp32."


def _zoo(config: RunConfig, registered: Registered) -> Found:
    if config["checkpoint.zoo_config_override"]:
        yield "checkpoint.zoo_config_override", "concat_trainer has no zoo: false."


# ---- places ----


def _folders(config: RunConfig, registered: Registered) -> Found:
    for key in ("env.save_dir", "env.log_dir", "env.report_dir"):
        if (folder := config[key]) and (problem := why_unwritable(folder)):
            yield key, f"the folder cannot be written: {problem}.{_of_prediction(config, key)}"


def _of_prediction(config: RunConfig, key: str) -> str:
    best = Path(config["env.save_dir"]) / BEST_CHECKPOINT
    if key != "env.save_dir" or not config.predicts or not best.is_file():
        return ""
    return f" To write elsewhere: another env.save_dir, and checkpoint.resume_file={best}."


def _predict_file(config: RunConfig, registered: Registered) -> Found:
    file = config["evaluation.predict_file"]
    if not config.predicts or not file:
        return
    if problem := why_unwritable(Path(file).parent):
        yield "evaluation.predict_file", f"cannot be written: {problem}."
    elif Path(file).is_dir():
        yield "evaluation.predict_file", "is a folder; give a file."


CHECKS: tuple[Check, ...] = (
    *registered_names.CHECKS,
    *model_and_data.CHECKS,
    _length,
    _criterion,
    _machine,
    _precision,
    _zoo,
    _folders,
    _predict_file,
)

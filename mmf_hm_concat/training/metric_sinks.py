"""Where the metrics of a training go: each place is a sink that takes the same records.

A record is a dict of numbers, and of numbers by name. An epoch's, as `metrics.jsonl` holds it:

==================  ============================================================================
epoch               from 1
update              of the weights, since the training began
train_loss          mean over the memes trained on
val                 validation metrics by name, as "hm_competition/roc_auc"; NaN where undefined
lr                  learning rate of the first group of parameters
samples_per_second  while training, over all ranks
seconds             of training and validating it; of its rest, where a resume began within it
best                whether its checkpoint became the best
==================  ============================================================================

A step's: update, train_loss (of this one update, on the first rank) and lr.
"""

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmf_hm_concat.errors import InputError

Record = Mapping[str, Any]


class MetricSink:
    """A place for records. A new one overrides what it wants to take."""

    def step(self, record: Record) -> None:
        """Take the record of one update; not each is given, see `training.log_interval`."""

    def epoch(self, record: Record) -> None:
        """Take the record of an epoch, before its checkpoint is saved."""

    def close(self) -> None:
        """The training has ended."""


class LogLine(MetricSink):
    """One line an epoch, for people.

    Args:
        log: takes the line.
        max_epochs: maybe infinite.
    """

    def __init__(self, log: Callable[[str], None], max_epochs: float):
        self.log, self.max_epochs = log, max_epochs
        self.seconds: list[float] = []

    def epoch(self, record: Record) -> None:
        total = self.max_epochs if self.max_epochs < math.inf else "?"
        shown = ", ".join(
            f"{name.removeprefix('hm_competition/')} {value:.4f}"
            for name, value in record["val"].items()
            if name != "total_loss"
        )
        self.seconds.append(record["seconds"])
        to_go = self.max_epochs - record["epoch"]
        seconds = sum(self.seconds) / len(self.seconds) * to_go
        left = f", at most {seconds:.0f} s left" if 0.5 < seconds < math.inf else ""
        self.log(
            f"epoch {record['epoch']}/{total}: train loss {record['train_loss']:.4f}; "
            f"validation {shown}; lr {record['lr']:.2g}, "
            f"{_three_digits(record['samples_per_second'])} samples/s{left}"
            f"{' (best so far)' if record['best'] else ''}"
        )


class TensorBoard(MetricSink):
    """TensorBoard's event files, in a new folder under ``parent`` for each start.

    Raises:
        InputError: the package is not installed, or the folder cannot be written.
    """

    def __init__(self, parent: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError(
                "training.tensorboard: install it first: pip install tensorboard"
            ) from None
        self.folder = parent / time.strftime("tensorboard_%Y-%m-%dT%H-%M-%S")
        try:
            self.writer = SummaryWriter(self.folder)
        except OSError as error:
            raise InputError(
                f"env.tensorboard_logdir: {self.folder} cannot be written ({error})."
            ) from None

    def step(self, record: Record) -> None:
        self._add({"train/step_loss": record["train_loss"], "train/lr": record["lr"]}, record)

    def epoch(self, record: Record) -> None:
        scalars = {"train/loss": record["train_loss"], "lr": record["lr"]}
        scalars["samples_per_second"] = record["samples_per_second"]
        scalars |= {f"val/{name}": value for name, value in record["val"].items()}
        self._add(scalars, record)

    def _add(self, scalars: Mapping[str, float], record: Record) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, record["update"])

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases(MetricSink):
    """A run of Weights & Biases (https://docs.wandb.ai), which a resumed training goes on with.

    Project, account and offline mode are wandb's own environment variables: WANDB_PROJECT, ...

    Args:
        folder: `env.save_dir`; its name is the run's.
        run: id of the run, as in its checkpoints.
        config: the run's whole config.

    Raises:
        InputError: the package is not installed, or wandb does not start.
    """

    def __init__(self, folder: Path, run: str, config: Mapping[str, Any]):
        try:
            import wandb
        except ImportError:
            raise InputError("training.wandb: install it first: pip install wandb") from None
        os.environ.setdefault("WANDB_SILENT", "true")  # its lines would stand between ours
        try:
            self.run = wandb.init(
                dir=folder, name=folder.resolve().name, id=run, resume="allow", config=dict(config)
            )
        except (wandb.errors.Error, OSError) as error:
            raise InputError(
                f"training.wandb: Weights & Biases did not start ({error}). Log in with `wandb "
                "login`, or set WANDB_MODE=offline."
            ) from None

    def step(self, record: Record) -> None:
        self.run.log({"train/step_loss": record["train_loss"]}, step=record["update"])

    def epoch(self, record: Record) -> None:
        val = {f"val/{name}": value for name, value in record["val"].items()}
        numbers = {name: record[name] for name in ("epoch", "lr", "samples_per_second")}
        self.run.log({"train/loss": record["train_loss"], **val, **numbers}, step=record["update"])

    def close(self) -> None:
        self.run.finish()


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"

"""How a training says how it goes: a line an epoch, metrics.jsonl, TensorBoard, the last words."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mmf.utils.configuration import get_mmf_env
from mmf.utils.distributed import is_master
from mmf.utils.logger import TensorboardLogger
from omegaconf import DictConfig

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.distributed import on_first_rank
from mmf_hm_concat.training import checkpoints
from mmf_hm_concat.training.early_stopping import EarlyStopping
from mmf_hm_concat.training.metrics_log import METRICS, MetricsLog


class Progress:
    """Follows one training from its start.

    Args:
        log: takes a line; of several ranks, the first one's log is the one that is seen.
        epochs: how many the run has finished: those before a resume.

    Raises:
        InputError: `training.tensorboard` without the package; metrics.jsonl cannot be written.
    """

    def __init__(self, config: DictConfig, save_dir: Path, log: Callable[[str], None], epochs: int):
        self.save_dir, self.log = save_dir, log
        self.max_epochs = config.training.max_epochs or math.inf
        self.started, self.memes_seen = time.monotonic(), 0
        self.metrics_log = on_first_rank(lambda: MetricsLog(save_dir / METRICS, epochs))
        self.tensorboard = None
        if config.training.tensorboard and is_master():
            try:
                self.tensorboard = TensorboardLogger(
                    get_mmf_env(key="tensorboard_logdir") or str(save_dir / "logs")
                )
            except ImportError:
                raise InputError(
                    "training.tensorboard: install it first: pip install tensorboard"
                ) from None

    def end_epoch(
        self,
        epoch: int,
        num_updates: int,
        *,
        memes: int,
        loss: float,
        figures: Mapping[str, float],
        lr: float,
        speed: float,
        is_best: bool,
    ) -> None:
        """Log an epoch, before its checkpoint is begun: a resume may then repeat it, not lose it.

        Args:
            memes: trained on in it, repeated ones included.
            loss: mean over them.
            figures: of validation, by name; "total_loss" is the sum of the data sets' losses.
            speed: samples/s while training.
        """
        total = self.max_epochs if self.max_epochs < math.inf else "?"
        shown = ", ".join(
            f"{name.removeprefix('hm_competition/')} {value:.4f}"
            for name, value in figures.items()
            if name != "total_loss"
        )
        self.memes_seen += memes
        seconds = time.monotonic() - self.started
        if is_master():
            self.metrics_log.append(
                {
                    "epoch": epoch,
                    "update": num_updates,
                    "train_loss": loss,
                    "val": dict(figures),
                    "lr": lr,
                    "samples_per_second": speed,
                    "seconds": seconds,
                    "best": is_best,
                }
            )
        left = ""
        if self.max_epochs < math.inf:
            per_epoch = seconds / max(self.memes_seen, 1) * memes
            left = f", at most {per_epoch * max(self.max_epochs - epoch, 0):.0f} s left"
        self.log(
            f"epoch {epoch}/{total}: train loss {loss:.4f}; validation {shown}; "
            f"lr {lr:.2g}, {speed:.0f} samples/s{left}{' (best so far)' if is_best else ''}"
        )
        if self.tensorboard:
            scalars = {"train/loss": loss, "lr": lr, "samples_per_second": speed}
            scalars |= {f"val/{name}": value for name, value in figures.items()}
            self.tensorboard.add_scalars(scalars, num_updates)

    def end(self, stop: EarlyStopping) -> None:
        """Log the best value, where everything is, and the next command to type."""
        self.log(
            f"Best: {stop.criterion} {stop.best:.4f} at epoch {stop.best_epoch}. "
            f"Checkpoint: {self.save_dir / checkpoints.BEST}. Log: {self.save_dir / 'train.log'}. "
            f"Next: mmf_predict config={self.save_dir / checkpoints.CONFIG}"
        )

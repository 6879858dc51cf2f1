"""How a training says how it goes: a progress bar, and records for the metric sinks."""

import functools
import logging
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmf.utils.configuration import get_mmf_env
from mmf.utils.distributed import is_master
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from mmf_hm_concat.mmf_plugin.distributed import on_first_rank
from mmf_hm_concat.mmf_plugin.run_config import config_of_run
from mmf_hm_concat.training.metric_sinks import LogLine, MetricSink, TensorBoard, WeightsAndBiases
from mmf_hm_concat.training.metrics_log import METRICS, MetricsLog

# Reading the loss makes the CPU wait for the GPU: for the bar no more often than this, in seconds.
SHOW_LOSS_EVERY = 0.5


def build_sinks(
    config: DictConfig, save_dir: Path, log: Callable[[str], None], epochs: int, run: str
) -> list[MetricSink]:
    """The sinks that the config asks for; on ranks but the first, none.

    Args:
        epochs: how many the run has finished: those before a resume.
        run: its id.

    Raises:
        InputError: a package is missing, or a file cannot be written.
    """
    training = config.training
    sinks: list[MetricSink] = []

    def build() -> None:
        # The file comes first: it is there even when another sink fails.
        sinks.append(MetricsLog(save_dir / METRICS, epochs))
        sinks.append(LogLine(log, training.max_epochs or math.inf))
        if training.tensorboard:
            parent = Path(get_mmf_env(key="tensorboard_logdir") or save_dir / "logs")
            sinks.append(TensorBoard(parent))
            log(f"TensorBoard: tensorboard --logdir {shlex.quote(str(parent))}")
        if training.wandb:
            sinks.append(WeightsAndBiases(save_dir, run, config_of_run(config)))

    on_first_rank(build)
    return sinks


def tell_once_if_unwritable(handlers: Sequence[logging.Handler]) -> None:
    """Let log files that cannot be written, as on a full disk, cost a run one line, not many."""
    for handler in handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = functools.partial(_tell, handler)  # type: ignore[method-assign]


def _tell(handler: logging.FileHandler, record: logging.LogRecord) -> None:
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    if is_master():
        reason = sys.exc_info()[1]
        sys.stderr.write(f"{handler.baseFilename}: cannot be written ({reason}).\n")


class Progress:
    """Follows one training from its start, or from a resume.

    Args:
        sinks: as `build_sinks` gives them.
        step_interval: sinks get every so-many-th update.
    """

    def __init__(self, sinks: list[MetricSink], step_interval: int):
        self.sinks, self.step_interval = sinks, step_interval
        self.epoch_started = self.loss_shown = time.monotonic()

    def bar(self, epoch: int, done: int, total: int) -> tqdm:
        """A progress bar over an epoch's batches; nothing where there is no terminal."""
        self.epoch_started = time.monotonic()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=f"epoch {epoch}",
            unit="batch",
            leave=False,
            disable=None if is_master() else True,
        )
        return self._bar

    def step(self, update: int, batches: int, loss: Tensor, lr: float) -> None:
        """Show an update on the bar, and give its record to the sinks.

        Args:
            update: its number.
            batches: how many it took.
            loss: mean over this rank's memes, a float scalar on the device.
        """
        if not self._bar.disable and time.monotonic() - self.loss_shown > SHOW_LOSS_EVERY:
            self.loss_shown = time.monotonic()
            self._bar.set_postfix(loss=f"{float(loss):.3f}", refresh=False)
        self._bar.update(batches)
        if self.sinks and update % self.step_interval == 0:
            record = {"update": update, "train_loss": float(loss), "lr": lr}
            for sink in self.sinks:
                sink.step(record)

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """Give an epoch's record, less its seconds, to the sinks.

        Before its checkpoint is begun: a resume may then repeat the record, not lose it.
        """
        record = {**record, "seconds": time.monotonic() - self.epoch_started}
        for sink in self.sinks:
            sink.epoch(record)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()

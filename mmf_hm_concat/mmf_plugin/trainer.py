"""`concat_trainer`: trains any MMF model, exactly resumable, in the device's best precision.

What belongs to a run is in `env.save_dir`: best.ckpt, current.ckpt, config.yaml, the text model,
metrics.jsonl, results.json, and after mmf_predict the submission. One epoch is: all batches, one
validation, one checkpoint.
"""

import logging
import math
import os
import shlex
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from mmf.common.dataset_loader import DatasetLoader
from mmf.common.registry import registry
from mmf.trainers.base_trainer import BaseTrainer
from mmf.utils.build import build_scheduler
from mmf.utils.configuration import get_mmf_env
from mmf.utils.distributed import get_rank, get_world_size, is_master
from mmf.utils.env import set_seed
from omegaconf import read_write
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mmf_hm_concat import __version__
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin.checkpointer import Checkpointer, load_for_prediction
from mmf_hm_concat.mmf_plugin.dataset import splits_of_run
from mmf_hm_concat.mmf_plugin.distributed import on_first_rank
from mmf_hm_concat.mmf_plugin.evaluation import SplitReport, evaluate
from mmf_hm_concat.mmf_plugin.frozen_branches import use_frozen_features
from mmf_hm_concat.mmf_plugin.loaders import build_loader
from mmf_hm_concat.mmf_plugin.metrics import Metrics
from mmf_hm_concat.mmf_plugin.network_of_run import (
    fused_optimizer,
    model_of_run,
    parallel_network,
)
from mmf_hm_concat.mmf_plugin.prediction import predict
from mmf_hm_concat.mmf_plugin.preemption import SaveOnSignal
from mmf_hm_concat.mmf_plugin.progress import Progress, build_sinks, tell_once_if_unwritable
from mmf_hm_concat.mmf_plugin.report_of_run import write_report_of_run
from mmf_hm_concat.mmf_plugin.starting_point import find_checkpoint
from mmf_hm_concat.mmf_plugin.train_step import TrainStep, refuse_single_memes
from mmf_hm_concat.training import checkpoints, run_folder
from mmf_hm_concat.training.early_stopping import EarlyStopping
from mmf_hm_concat.training.metrics_log import RESULTS, write_results
from mmf_hm_concat.training.position import Position
from mmf_hm_concat.training.precision import choose_precision
from mmf_hm_concat.training.random_state import RandomState
from mmf_hm_concat.utils.parallel import num_cores


@registry.register_trainer("concat_trainer")
class ConcatTrainer(BaseTrainer):
    """Keys: MMF's `training`, `checkpoint`, `evaluation`, and those of configs/concat_trainer.yaml.

    Differences from MMF's trainer: `early_stop.patience` counts epochs; `max_epochs` and
    `max_updates` both hold, whichever comes first, exactly; the scheduler `reduce_on_plateau` steps
    once an epoch with the validation loss, those of MMF with every update.
    """

    # ---- set-up, called by MMF's `load` in this order ----

    def load(self) -> None:
        """MMF's set-up; what the modules without MMF log goes where MMF logs."""
        ours = logging.getLogger("mmf_hm_concat")
        ours.handlers, ours.propagate = logging.getLogger("mmf.train").handlers, False
        tell_once_if_unwritable(ours.handlers)
        ours.setLevel(self.config.training.logger_level.upper())
        # MMF keeps these for the life of the process: a second run in it must not take them over.
        for dataset in self.config.datasets.split(","):
            for processor in ("text_processor", "image_processor"):
                registry.unregister(f"{dataset}_{processor}")
        self._agree_on_seed()
        self.lock: FileLock | None = None
        try:
            super().load()
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        """Let others train in the folder."""
        if self.lock is not None:
            self.lock.release()

    def _agree_on_seed(self) -> None:
        """Take the first rank's seed: with `training.seed: -1` MMF draws one in each process."""
        training = self.config.training
        seed = on_first_rank(lambda: training.seed)
        if seed != training.seed:
            with read_write(training):
                training.seed = set_seed(seed)
            registry.register("seed", seed)

    def _set_device(self) -> None:
        self.save_dir = Path(get_mmf_env(key="save_dir"))
        self.predicting = bool(self.config.evaluation.predict)
        if "train" in self.config.run_type and not self.predicting:
            on_first_rank(self._claim_folder)
        else:
            on_first_rank(lambda: run_folder.recover_if_free(self.save_dir))
        self.start = on_first_rank(lambda: find_checkpoint(self.config, self.save_dir))
        self.local_rank = int(os.environ.get("LOCAL_RANK", self.config.device_id))
        use_cuda = torch.cuda.is_available() and "cuda" in self.config.training.device
        self.device = torch.device("cuda", self.local_rank) if use_cuda else torch.device("cpu")
        if use_cuda:
            torch.cuda.set_device(self.device)
        registry.register("current_device", self.device)
        registry.register("global_device", get_rank())

    def _claim_folder(self) -> None:
        self.lock = run_folder.lock(self.save_dir)
        run_folder.recover(self.save_dir)

    def config_based_setup(self) -> None:
        self.precision, why = choose_precision(self.config.training.precision, self.device)
        place = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "the CPU"
        ranks = f", {get_world_size()} processes" if get_world_size() > 1 else ""
        self.log(f"Computing in {self.precision} on {place}{ranks}: {why}.")
        torch.backends.cudnn.benchmark = True  # all batches but the last have one shape
        torch.autograd.set_detect_anomaly(self.config.training.detect_anomaly)
        trains = "train" in self.config.run_type and not self.predicting
        if self.device.type == "cpu" and not trains:
            # torchrun gives each process one thread; sums over more threads round otherwise.
            torch.set_num_threads(num_cores())

    def load_datasets(self) -> None:
        self.dataset_loader = DatasetLoader(self.config)
        self.loaders = {
            split: build_loader(self.config, split, self.device)
            for split in splits_of_run(self.config)
        }
        self.dataset_loader.mapping = self.loaders
        self.dataset_loader.test_dataset = self.loaders.get("test")

    def load_model_and_optimizer(self) -> None:
        self.model = model_of_run(self.config, self.device)
        self.load_metrics()
        if self.predicting:
            self._load_for_prediction()
            self._use_frozen_features()
            return
        self.optimizer = fused_optimizer(self.model, self.config)
        self.load_extras()
        self._use_frozen_features()
        self.parallelize_model()

    def _load_for_prediction(self) -> None:
        assert self.start is not None  # find_checkpoint raises when there is none to predict with
        load_for_prediction(self.model, self.start, self.config, self.log)

    def _use_frozen_features(self) -> None:
        datasets = [dataset for loader in self.loaders.values() for dataset in loader.datasets]
        use_frozen_features(self.model, datasets, self.precision, self.device, self.log)

    def load_metrics(self) -> None:
        self.metrics = Metrics(self.config.evaluation.get("metrics", []))

    def load_extras(self) -> None:
        training = self.config.training
        self.position = Position(self.device)
        self.early_stop = EarlyStopping(
            training.early_stop.criteria,
            bool(training.early_stop.minimize),
            training.early_stop.patience if training.early_stop.enabled else math.inf,
            training.early_stop.min_delta,
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.lr_scheduler = (
            build_scheduler(self.optimizer, self.config) if training.lr_scheduler else None
        )
        if "train" not in self.run_type:
            self._load_for_prediction()
            return
        optimization = {
            "optimizer": self.optimizer,
            "scaler": self.scaler,
            "scheduler": self.lr_scheduler,
        }
        self.checkpointer = Checkpointer(
            self.config,
            self.save_dir,
            self.model,
            # Whatever a resumed run needs is in one of these: an object with a `state_dict`.
            optimization={key: owner for key, owner in optimization.items() if owner is not None},
            counts={
                "position": self.position,
                "early_stop": self.early_stop,
                "random": RandomState(),
            },
            log=self.log,
        )
        if self.config.checkpoint.resume and self.start is None:
            self.log(f"Nothing to resume in {self.save_dir}: starting afresh.", "warning")
        self.checkpointer.start(self.start)
        if not self.checkpointer.has_best:
            self.early_stop.forget_best()  # or nothing might ever be better and saved as best
        finished = self.position.epoch - (self.position.done_batches > 0)
        run = self.checkpointer.run
        sinks = build_sinks(self.config, self.save_dir, self.log, finished, run)
        self.progress = Progress(sinks, training.log_interval)

    def parallelize_model(self) -> None:
        training = self.config.training
        self.model, self.network = parallel_network(self.model, training, self.device)

    # ---- training ----

    def train(self) -> None:
        try:
            if "train" in self.run_type:
                self._train()
            self.inference()
            if "train" in self.run_type and is_master():
                write_report_of_run(self.config, self.save_dir, self.log)
        finally:
            self._release()

    def _train(self) -> None:
        training = self.config.training
        self.max_epochs = training.max_epochs or math.inf
        self.max_updates = training.max_updates or math.inf
        self.train_step = TrainStep(
            self.network,
            self.optimizer,
            self.scaler,
            self.precision,
            self.device,
            training.max_grad_l2_norm if training.clip_gradients else None,
        )
        if self._goes_on():
            self.checkpointer.check_room()
        save_on_signal = SaveOnSignal(self.device)
        with closing(self.progress), save_on_signal as self.signal, self.checkpointer.writer:
            while self._goes_on():
                self._train_epoch()
        # The first rank has now written everything: before, the others must not look.
        on_first_rank(lambda: None)
        if not self.checkpointer.has_best:
            if self.position.epoch > 0:
                raise InputError(
                    "The loss on the validation split was never finite, so no checkpoint is the "
                    "best. Try a lower optimizer.params.lr, or training.precision=fp32."
                )
            raise InputError(
                f"Nothing was trained, and this run has no {checkpoints.BEST} in {self.save_dir}: "
                "raise training.max_epochs or training.max_updates."
            )
        self._write_results()
        stop, config = self.early_stop, shlex.quote(str(self.save_dir / checkpoints.CONFIG))
        self.log(
            f"Best: {stop.criterion} {stop.best:.4f} at epoch {stop.best_epoch}. "
            f"Checkpoint: {self.save_dir / checkpoints.BEST}. Log: {self.save_dir / 'train.log'}. "
            f"Next: mmf_predict config={config}"
        )

    def _goes_on(self) -> bool:
        if self.position.num_updates >= self.max_updates:
            return False
        if self.position.done_batches == 0 and self.position.epoch >= self.max_epochs:
            return False
        if self.early_stop.stop:
            num_bad_epochs = self.early_stop.num_bad_epochs
            self.log(
                f"Early stop: {num_bad_epochs} epochs without a better {self.early_stop.criterion}."
            )
            return False
        return True

    def _train_epoch(self) -> None:
        loader, frequency = self.loaders["train"], self.config.training.update_frequency
        position = self.position
        position.start_epoch()
        registry.register("current_epoch", position.epoch)
        sizes = loader.start_epoch(position.epoch, position.done_batches)
        self.model.train()
        clock = time.monotonic()
        memes_before, done_before = position.epoch_memes, position.done_batches
        group: list[Any] = []
        bar = self.progress.bar(position.epoch, done_before, done_before + len(sizes))
        with bar, refuse_single_memes(self.model, sizes):
            for done, batch in enumerate(loader, 1):
                group.append(self.dataset_loader.prepare_batch(batch))
                if len(group) < frequency and done < len(sizes):
                    continue
                self._update(group, sizes[done - len(group) : done])
                self.checkpointer.writer.check()
                group = []
                if position.num_updates >= self.max_updates:
                    break
                interval = self.config.training.checkpoint_interval
                if interval and position.num_updates % interval == 0:
                    self.checkpointer.save(checkpoints.CURRENT)
                self.signal.leave_if_received(self._save_now)
        self.train_step.check()
        speed = (position.epoch_memes - memes_before) / max(time.monotonic() - clock, 1e-9)
        position.done_batches = 0
        self._end_epoch(speed)
        self.signal.leave_if_received(self.checkpointer.writer.wait)

    def _save_now(self) -> None:
        self.checkpointer.save(checkpoints.CURRENT)
        self.checkpointer.writer.wait()

    def _update(self, group: list[Any], sizes: list[int]) -> None:
        loss = self.train_step.update(group, sizes, self.position.num_updates + 1)
        self.position.count_update(loss, len(group), sum(sizes))
        if self.lr_scheduler is not None and not isinstance(self.lr_scheduler, ReduceLROnPlateau):
            self.lr_scheduler.step()
        number = self.position.num_updates
        registry.register("num_updates", number)
        self.progress.step(number, len(group), self.train_step.mean_loss, self._lr())

    def _lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def _end_epoch(self, speed: float) -> None:
        """Validate, follow the criterion, save, and say in one line how it went."""
        reports = self._evaluate("val")
        metrics = {name: value for each in reports for name, value in each.metrics.items()}
        metrics["total_loss"] = sum(v for name, v in metrics.items() if name.endswith("/loss"))
        if self.early_stop.criterion not in metrics:
            raise InputError(
                f"training.early_stop.criteria: there is no {self.early_stop.criterion!r}. "
                f"Validation gives {', '.join(sorted(metrics))}."
            )
        if isinstance(self.lr_scheduler, ReduceLROnPlateau):
            self.lr_scheduler.step(metrics["total_loss"])
        position = self.position
        is_best = self.early_stop.update(metrics, position.epoch, position.num_updates)
        self.checkpointer.take_over()
        self.progress.end_epoch(
            {
                "epoch": position.epoch,
                "update": position.num_updates,
                "train_loss": float(position.loss_of_all_ranks()) / max(position.epoch_memes, 1),
                "val": metrics,
                "lr": self._lr(),
                "samples_per_second": speed,
                "best": is_best,
            }
        )
        self.checkpointer.save(*[checkpoints.BEST] * is_best, checkpoints.CURRENT)
        self.checkpointer.keep_last(position.epoch)

    # ---- after training, and without it ----

    def inference(self) -> None:
        """Metrics of the splits in `run_type`, or the submission when called by mmf_predict."""
        if self.predicting:
            predict(
                self._evaluate("test"),
                lambda: self.dataset_loader.get_test_reporter("test"),
                self.model,
                self.config.evaluation,
                self.save_dir,
                self.log,
            )
        else:
            self._evaluate_best()
        for loader in self.loaders.values():
            loader.close()

    def _evaluate_best(self) -> None:
        wanted = [split for split in ("val", "test") if split in self.loaders]
        if "train" in self.run_type:
            wanted.remove("val")  # its metrics are known
            self._log_metrics("val", self.early_stop.best_metrics)
            if wanted:
                self.checkpointer.load_best()
        for split in wanted:
            found: dict[str, float] = {}
            for each in self._evaluate(split):
                self._log_metrics(split, each.metrics)
                found |= each.metrics
            if "train" in self.run_type:
                self._write_results({split: found})

    def _log_metrics(self, split: str, metrics: dict[str, float]) -> None:
        shown = ", ".join(
            f"{name} {value:.4f}" for name, value in metrics.items() if name != "total_loss"
        )
        self.log(f"Best checkpoint on {split}: {shown or 'no labels, so no metrics'}")

    def _write_results(self, others: dict[str, Any] | None = None) -> None:
        """`results.json`: what the run came to; ``others`` are metrics of more splits."""
        stop = self.early_stop
        results = {
            "version": __version__,
            "run": self.checkpointer.run,
            "seed": self.config.training.seed,
            "epochs": self.position.epoch,
            "updates": self.position.num_updates,
            "criterion": stop.criterion,
            "best": stop.best,
            "best_epoch": stop.best_epoch,
            "best_update": stop.best_update,
            "val": stop.best_metrics,
            **(others or {}),
        }
        on_first_rank(lambda: write_results(self.save_dir / RESULTS, results))

    def _evaluate(self, split: str) -> list[SplitReport]:
        return evaluate(
            self.model, self.loaders[split], self.metrics, self.precision, self.device, self.log
        )

    def log(self, message: str, level: str = "info") -> None:
        self.writer.write(message, level)

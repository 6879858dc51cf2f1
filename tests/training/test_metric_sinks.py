"""Metric sinks: what each writes for the same records."""

import math

import pytest

from mmf_hm_concat.training.metric_sinks import LogLine, TensorBoard, WeightsAndBiases

STEP = {"update": 10, "train_loss": 0.75, "lr": 1e-3}
EPOCH = {
    "epoch": 2,
    "update": 20,
    "train_loss": 0.5,
    "val": {"hm_competition/roc_auc": 0.625, "hm_competition/loss": 0.6, "total_loss": 0.6},
    "lr": 1e-3,
    "samples_per_second": 42.4,
    "seconds": 3.0,
    "best": True,
}


def test_the_log_line_says_how_long_it_still_takes():
    lines = []
    sink = LogLine(lines.append, 4)
    sink.epoch(EPOCH)
    sink.epoch({**EPOCH, "epoch": 4, "best": False, "samples_per_second": 0.25})
    assert lines == [
        "epoch 2/4: train loss 0.5000; validation roc_auc 0.6250, loss 0.6000; lr 0.001, "
        "42 samples/s, at most 6 s left (best so far)",
        "epoch 4/4: train loss 0.5000; validation roc_auc 0.6250, loss 0.6000; lr 0.001, "
        "0.25 samples/s",
    ]
    LogLine(lines.append, math.inf).epoch(EPOCH)
    assert lines[-1].startswith("epoch 2/?: ") and "left" not in lines[-1]


def test_tensorboard_gets_steps_and_epochs(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoard(tmp_path)
    sink.step(STEP)
    sink.epoch(EPOCH)
    sink.close()
    (folder,) = tmp_path.iterdir()
    events = EventAccumulator(str(folder)).Reload()
    found = {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    assert found["train/step_loss"] == [(10, 0.75)]
    assert found["train/loss"] == [(20, 0.5)]
    assert found["val/hm_competition/roc_auc"] == [(20, 0.625)]


def test_weights_and_biases_gets_steps_and_epochs(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    sink = WeightsAndBiases(tmp_path, "abc", {"training": {"seed": 1}})
    sink.step(STEP)
    sink.epoch(EPOCH)
    sink.step({**STEP, "update": 30})  # W&B takes what is logged at 20 when 30 begins
    assert sink.run.summary["val/hm_competition/roc_auc"] == 0.625
    assert sink.run.summary["train/step_loss"] == 0.75
    assert sink.run.config["training"]["seed"] == 1 and sink.run.id == "abc"
    sink.close()
    assert list(tmp_path.glob("wandb/offline-run-*-abc/run-abc.wandb")) and wandb.run is None

"""The parts of training that know nothing of MMF: batches, early stop, checkpoints, precision."""

import math
import os
import random
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training import checkpoints
from mmf_hm_concat.training.batch_samplers import (
    EvalBatchSampler,
    TrainBatchSampler,
    dataset_order,
    evaluation_batch,
    share,
)
from mmf_hm_concat.training.early_stopping import EarlyStopping
from mmf_hm_concat.training.position import Position
from mmf_hm_concat.training.precision import choose_precision
from mmf_hm_concat.training.random_state import RandomState


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 6))
def test_ranks_share_every_batch_and_each_row_counts_once(rows, batch_size, ranks):
    whole = list(TrainBatchSampler(rows, batch_size, seed=1))
    shares = [list(TrainBatchSampler(rows, batch_size, 1, rank, ranks)) for rank in range(ranks)]
    assert {len(each) for each in shares} == {len(whole)}
    sizes = TrainBatchSampler(rows, batch_size, 1, ranks - 1, ranks).sizes()
    assert sizes == [len(batch) for batch in whole] and sum(sizes) == rows
    for batch, *parts in zip(whole, *shares, strict=True):
        counted = [batch[share(len(batch), rank, ranks)] for rank in range(ranks)]
        assert [row for part in counted for row in part] == batch
        assert parts == [part or batch[:1] for part in counted]
        assert counted[0] and len(counted[0]) - len(counted[-1]) <= 1


def test_the_effective_batch_is_the_same_whatever_the_ranks():
    one = list(TrainBatchSampler(64, 16, seed=3))
    two = [list(TrainBatchSampler(64, 16, 3, rank, 2)) for rank in range(2)]
    assert [sorted(batch) for batch in one] == [sorted(a + b) for a, b in zip(*two, strict=True)]


def test_epochs_differ_and_repeat():
    batches = TrainBatchSampler(50, 8, seed=1)
    batches.epoch = 1
    first = list(batches)
    assert first == list(batches)
    batches.epoch = 2
    assert first != list(batches)


def test_skipping_gives_the_rest_of_the_epoch():
    batches = TrainBatchSampler(50, 8, seed=1)
    whole = list(batches)
    batches.skip = 3
    assert list(batches) == whole[3:] and len(batches) == len(whole) - 3


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4))
def test_evaluation_batches_have_one_shape_and_the_same_company_on_any_rank(rows, size, ranks):
    alone = EvalBatchSampler(rows, size)
    shared = [EvalBatchSampler(rows, size, rank, ranks) for rank in range(ranks)]
    assert sorted(map(tuple, alone)) == sorted(tuple(b) for each in shared for b in each)
    assert {len(batch) for batch in alone} == {size}
    assert set(alone.rows_read()) == set(range(rows))


def test_large_images_are_evaluated_a_few_at_a_time():
    found = [evaluation_batch("cpu", size) for size in (0, 32, 1024, 1025, 2048, 4096)]
    assert found == [8, 8, 8, 7, 2, 1]


def test_several_data_sets_are_mixed_the_same_way_each_time():
    order = dataset_order([5, 2, 9], seed=1, epoch=2, proportional=True)
    assert [order.count(i) for i in range(3)] == [5, 2, 9] and order != sorted(order)
    assert order == dataset_order([5, 2, 9], 1, 2, True) != dataset_order([5, 2, 9], 1, 3, True)
    fair = dataset_order([5, 2, 9], seed=1, epoch=2, proportional=False)
    assert [fair.count(i) for i in range(3)] == [2, 2, 2]


def follow(stop, *values):
    """Take one value an epoch, of ten updates each; returns after which it was the best."""
    metrics = [{stop.criterion: value, "other": 1.0} for value in values]
    return [stop.update(each, epoch, 10 * epoch) for epoch, each in enumerate(metrics, 1)]


def test_early_stop_follows_the_criterion():
    stop = EarlyStopping("x/roc_auc", minimize=False, patience=2, min_delta=0.01)
    # The second is better, but by less than min_delta.
    assert follow(stop, 0.5, 0.505) == [True, True] and not stop.stop
    assert follow(stop, 0.4) == [False] and stop.stop
    assert (stop.best, stop.best_epoch, stop.best_update) == (0.505, 2, 20)
    assert stop.best_metrics == {"x/roc_auc": 0.505, "other": 1.0}


def test_early_stop_takes_no_nan_for_the_best_once_there_is_another():
    stop = EarlyStopping("x/roc_auc", minimize=False, patience=9, min_delta=0)
    assert follow(stop, math.nan, math.nan, 0.3, math.nan) == [True, True, True, False]
    assert stop.best == 0.3 and stop.best_metrics["x/roc_auc"] == 0.3


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_an_epoch_whose_loss_is_not_finite_is_never_the_best(loss):
    stop = EarlyStopping("x/roc_auc", minimize=False, patience=2, min_delta=0)
    wrong = {"x/roc_auc": 0.9, "x/loss": loss, "total_loss": loss}
    assert not stop.update(wrong, 1, 10)
    assert stop.update({"x/roc_auc": 0.5, "x/loss": 0.7, "total_loss": 0.7}, 2, 20)
    assert not stop.update(wrong, 3, 30)
    assert (stop.best, stop.best_epoch) == (0.5, 2)


def test_early_stop_minimizes():
    stop = EarlyStopping("total_loss", minimize=True, patience=9, min_delta=0)
    assert follow(stop, 0.7, 0.8, 0.6) == [True, False, True]


def test_early_stop_goes_on_as_if_never_interrupted():
    whole, first, second = (EarlyStopping("x", False, 3, 0.1) for _ in range(3))
    values = (0.1, 0.5, 0.55, math.nan, 0.3, 0.9)
    expected = follow(whole, *values)
    begun = follow(first, *values[:3])
    second.load_state_dict(first.state_dict())
    assert begun + follow(second, *values[3:]) == expected
    assert second.stop == whole.stop and second.reference == whole.reference


def test_position_goes_on_in_the_middle_of_an_epoch():
    position, resumed = (Position(torch.device("cpu")) for _ in range(2))
    position.start_epoch()
    position.count_update(torch.tensor(3.0), batches=2, memes=8)
    resumed.load_state_dict(position.state_dict())
    resumed.start_epoch()
    resumed.count_update(torch.tensor(1.0), batches=1, memes=4)
    assert resumed.state_dict() == {
        "epoch": 1,
        "num_updates": 2,
        "done_batches": 3,
        "epoch_memes": 12,
        "epoch_loss": torch.tensor(4.0),
    }
    resumed.done_batches = 0
    resumed.start_epoch()
    assert (resumed.epoch, resumed.epoch_memes, float(resumed.epoch_loss)) == (2, 0, 0.0)


def test_weights_of_another_model_are_listed_by_key(tmp_path):
    model = torch.nn.Linear(3, 2)
    with pytest.raises(InputError) as error:
        checkpoints.load_weights(model, {"weight": torch.zeros(5, 2), "more": torch.zeros(1)}, "x")
    message = str(error.value)
    assert "missing bias" in message and "unexpected more" in message
    assert "weight is (5, 2), the model's (2, 3)" in message


@pytest.mark.parametrize("keep", [0, 10, 500, -5])
def test_a_torn_checkpoint_is_an_input_error(tmp_path, keep):
    path = tmp_path / "best.ckpt"
    checkpoints.save_checkpoint({"model": torch.nn.Linear(30, 30).state_dict()}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"best.ckpt: not a checkpoint"):
        checkpoints.load_checkpoint(path)


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "best.ckpt"
    checkpoints.save_checkpoint({"model": {"a": torch.ones(1)}}, path)

    def full_disk(state, file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(InputError, match=r"could not be written.*No space left"):
        checkpoints.save_checkpoint({"model": {"a": torch.zeros(1)}}, path)
    monkeypatch.undo()
    assert checkpoints.load_checkpoint(path)["model"]["a"].item() == 1
    assert [p.name for p in tmp_path.iterdir()] == ["best.ckpt"]


def test_a_checkpoint_written_beside_the_training_is_of_the_moment_it_was_asked_for(tmp_path):
    weight = torch.zeros(1_000_000)
    best, current = tmp_path / "best.ckpt", tmp_path / "current.ckpt"
    with checkpoints.CheckpointWriter() as writer:
        writer.save(
            {"model": {"w": weight}, "random": [{"torch": torch.get_rng_state()}]}, best, current
        )
        weight += 1
    os.truncate(current, 100)  # whatever happens to the one file leaves the other
    assert not checkpoints.load_checkpoint(best)["model"]["w"].any()


def test_a_checkpoint_that_could_not_be_written_beside_the_training_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    told = pytest.raises(InputError, match=r"file/best.ckpt: the checkpoint could not be written")
    with told, checkpoints.CheckpointWriter() as writer:
        writer.save({"model": {}}, tmp_path / "file" / "best.ckpt")
    with checkpoints.CheckpointWriter() as writer:
        writer.save({"model": {}}, tmp_path / "file" / "best.ckpt")
        with told:
            for _ in range(1000):  # a training goes on, and looks now and then
                writer.check()
                time.sleep(0.01)


def test_a_poisoned_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"model": {}, "x": Evil()}, tmp_path / "best.ckpt")
    with pytest.raises(InputError, match="loaded safely"):
        checkpoints.load_checkpoint(tmp_path / "best.ckpt")
    assert not (tmp_path / "ran").exists()


def test_random_states_survive_a_checkpoint(tmp_path):
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    checkpoints.save_checkpoint({"model": {}, "random": RandomState().state_dict()}, tmp_path / "c")
    drawn = draw()
    assert draw() != drawn
    RandomState().load_state_dict(checkpoints.load_checkpoint(tmp_path / "c")["random"])
    assert draw() == drawn


def test_precision_is_chosen_by_the_device_and_explained():
    chosen, why = choose_precision("auto", torch.device("cpu"))
    assert chosen in ("fp32", "bf16") and "CPU" in why
    assert choose_precision("fp32", torch.device("cpu"))[0] == "fp32"
    with pytest.raises(InputError, match="fp16 is for GPUs"):
        choose_precision("fp16", torch.device("cpu"))
    with pytest.raises(InputError, match=r"training.precision: 'half'"):
        choose_precision("half", torch.device("cpu"))


def test_differences_of_settings_are_named_by_their_keys():
    old = {"training": {"seed": 1, "lr": 2}, "model": "a", "gone": {}}
    new = {"training": {"seed": 1, "lr": 3, "more": True}, "model": "a", "gone": {}}
    assert checkpoints.differences(old, old) == []
    assert checkpoints.differences(old, new) == [
        "training.lr 2 (now 3)",
        "training.more None (now True)",
    ]


def test_the_config_of_a_run_holds_nothing_of_its_processes():
    from omegaconf import OmegaConf

    from mmf_hm_concat.mmf_plugin.run_config import config_of_run

    config = {
        "model": "concat_vl",
        "model_config": {"concat_vl": {"dropout": 0.1, "model": "concat_vl"}},
        **{"start_rank": 0, "device_id": 1, "distributed": {"init_method": "env://", "rank": 1}},
    }
    assert config_of_run(OmegaConf.create(config)) == {
        "model": "concat_vl",
        "model_config": {"concat_vl": {"dropout": 0.1}},
    }

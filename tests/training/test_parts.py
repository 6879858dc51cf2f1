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
from mmf_hm_concat.training import checkpoints, random_state
from mmf_hm_concat.training.batch_samplers import (
    EvalBatchSampler,
    TrainBatchSampler,
    dataset_order,
    share,
)
from mmf_hm_concat.training.early_stopping import EarlyStopping
from mmf_hm_concat.training.precision import choose_precision


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


def test_several_data_sets_are_mixed_the_same_way_each_time():
    order = dataset_order([5, 2, 9], seed=1, epoch=2, proportional=True)
    assert [order.count(i) for i in range(3)] == [5, 2, 9] and order != sorted(order)
    assert order == dataset_order([5, 2, 9], 1, 2, True) != dataset_order([5, 2, 9], 1, 3, True)
    fair = dataset_order([5, 2, 9], seed=1, epoch=2, proportional=False)
    assert [fair.count(i) for i in range(3)] == [2, 2, 2]


def test_early_stop_follows_the_criterion():
    stop = EarlyStopping("x/roc_auc", minimize=False, patience=2, min_delta=0.01)
    assert stop.update(0.5, 1, 10) and not stop.stop
    assert stop.update(0.505, 2, 20)  # better, but by less than min_delta
    assert not stop.stop
    assert not stop.update(0.4, 3, 30) and stop.stop
    assert (stop.best, stop.best_epoch, stop.best_update) == (0.505, 2, 20)


def test_early_stop_takes_no_nan_for_the_best():
    stop = EarlyStopping("x/roc_auc", minimize=False, patience=9, min_delta=0)
    assert not stop.update(math.nan, 1, 1)
    assert stop.update(0.3, 2, 2) and not stop.update(math.nan, 3, 3)
    assert stop.best == 0.3


def test_early_stop_minimizes():
    stop = EarlyStopping("total_loss", minimize=True, patience=9, min_delta=0)
    assert stop.update(0.7, 1, 1) and not stop.update(0.8, 2, 2) and stop.update(0.6, 3, 3)


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

    checkpoints.save_checkpoint({"model": {}, "random": random_state.capture()}, tmp_path / "c")
    drawn = draw()
    assert draw() != drawn
    random_state.restore(checkpoints.load_checkpoint(tmp_path / "c")["random"])
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


def test_the_settings_of_a_run_hold_nothing_of_its_processes():
    from omegaconf import OmegaConf

    from mmf_hm_concat.mmf_plugin.resume import settings_of_run

    config = {
        "model": "concat_vl",
        "model_config": {"concat_vl": {"dropout": 0.1, "model": "concat_vl"}},
        **{"start_rank": 0, "device_id": 1, "distributed": {"init_method": "env://", "rank": 1}},
    }
    assert settings_of_run(OmegaConf.create(config)) == {
        "model": "concat_vl",
        "model_config": {"concat_vl": {"dropout": 0.1}},
    }

"""Which training memes are drawn: right counts, the same ones everywhere, nothing in silence."""

import logging

import pandas as pd
import pytest

from mmf_hm_concat.data.sampling import class_weights, describe_counts, sample_training
from mmf_hm_concat.errors import InputError


def table_of(hateful, benign):
    """Hateful memes first; ids from 1 on."""
    labels = [1] * hateful + [0] * benign
    numbers = range(1, len(labels) + 1)
    return pd.DataFrame({"number": numbers, "label": pd.array(labels, dtype="Int8")})


def counts(table):
    return int((table["label"] == 1).sum()), int((table["label"] == 0).sum())


TABLE = table_of(30, 55)


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_no_balance_leaves_the_table_as_it_is(balance):
    sampled = sample_training(TABLE, balance=balance)
    pd.testing.assert_frame_equal(sampled, TABLE)


@pytest.mark.parametrize("table", [TABLE, table_of(55, 30)])
def test_undersample_keeps_each_of_the_smaller_class_and_as_many_others(table):
    sampled = sample_training(table, balance="undersample")
    assert counts(sampled) == (30, 30)
    assert sampled["number"].is_unique
    assert sampled["number"].is_monotonic_increasing  # the table's order
    assert sampled.index.tolist() == list(range(60))


@pytest.mark.parametrize("hateful", [30, 27, 10, 1, 55])
def test_oversample_repeats_the_smaller_class_evenly(hateful):
    sampled = sample_training(table_of(hateful, 55), balance="oversample")
    assert counts(sampled) == (55, 55)
    times = sampled["number"].value_counts()
    assert len(times) == hateful + 55
    assert set(times[times.index > hateful]) == {1}
    of_hateful = times[times.index <= hateful]
    assert of_hateful.max() - of_hateful.min() <= 1
    assert sampled["number"].tolist()[: hateful + 55] == list(range(1, hateful + 56))


@pytest.mark.parametrize(
    "balance, limit, expected",
    [
        ("none", 17, (6, 11)),
        ("none", 1, (0, 1)),
        ("none", 2, (1, 1)),
        ("none", 85, (30, 55)),
        ("none", 1000, (30, 55)),
        ("undersample", 10, (5, 5)),
        ("undersample", 61, (30, 30)),
        ("oversample", 40, (20, 20)),
    ],
)
def test_dev_limit_keeps_so_many_in_proportion(balance, limit, expected):
    sampled = sample_training(TABLE, balance=balance, dev_limit=limit)
    assert counts(sampled) == expected
    assert sampled["number"].is_unique  # no repeated meme before all were taken


def test_a_limit_never_loses_a_class():
    assert counts(sample_training(table_of(1, 500), dev_limit=10)) == (1, 9)
    assert counts(sample_training(table_of(500, 1), dev_limit=2)) == (1, 1)
    assert counts(sample_training(table_of(0, 20), dev_limit=5)) == (0, 5)


def test_the_rows_are_these_on_every_machine():
    """Of sha256sum of "42:4" to "42:12", those of 11, 6 and 4 begin lowest: 4c, 57 and 72."""
    sampled = sample_training(table_of(3, 9), balance="undersample", seed=42)
    assert sampled["number"].tolist() == [1, 2, 3, 4, 6, 11]


def test_the_draw_depends_on_seed_and_ids_not_on_the_order():
    arguments = {"balance": "undersample", "dev_limit": 40}
    drawn = sample_training(TABLE, seed=1, **arguments)["number"]
    assert sample_training(TABLE, seed=1, **arguments)["number"].tolist() == drawn.tolist()
    assert set(sample_training(TABLE[::-1], seed=1, **arguments)["number"]) == set(drawn)
    assert set(sample_training(TABLE, seed=2, **arguments)["number"]) != set(drawn)


@pytest.mark.parametrize("balance", ["undersample", "oversample"])
@pytest.mark.parametrize("table, name", [(table_of(0, 5), "hateful"), (table_of(5, 0), "benign")])
def test_a_class_without_memes_cannot_be_balanced(balance, table, name):
    with pytest.raises(InputError, match=f"no {name} memes"):
        sample_training(table, balance=balance)
    with pytest.raises(InputError, match=f"no {name} memes"):
        class_weights(table)
    assert len(sample_training(table)) == 5


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"balance": "upsample"}, "undersample"),
        ({"balance": None}, "balance"),
        ({"dev_limit": 0}, "dev_limit = 0"),
        ({"dev_limit": True}, "dev_limit"),
        ({"dev_limit": 2.5}, "dev_limit"),
        ({"seed": "x"}, "seed"),
    ],
)
def test_arguments_that_are_not_allowed(arguments, words):
    with pytest.raises(InputError, match=words):
        sample_training(TABLE, **arguments)


def test_unlabelled_memes_are_not_dropped_in_silence():
    table = TABLE.copy()
    table.loc[3, "label"] = pd.NA
    with pytest.raises(InputError, match="1 of 85 training memes have no label"):
        sample_training(table)
    assert describe_counts(table) == "85 memes (29 hateful, 55 benign, 1 unlabelled)"


def test_class_weights_make_the_classes_weigh_the_same():
    benign, hateful = class_weights(TABLE)
    assert 55 * benign == pytest.approx(30 * hateful)
    assert 55 * benign + 30 * hateful == pytest.approx(85)


def test_the_counts_are_logged(caplog):
    caplog.set_level(logging.INFO)
    sample_training(TABLE, balance="undersample", dev_limit=10, seed=7)
    assert "85 memes (30 hateful, 55 benign)" in caplog.text
    assert (
        "balance=undersample, dev_limit=10, seed=7: 10 memes (5 hateful, 5 benign)" in caplog.text
    )

"""The members of a series: their folders, options and states."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.members import (
    all_settings,
    is_finished,
    make_members,
    note,
    parse_grid,
)

SEEDS = {"training.seed": 42, "data.sampling_seed": 7}
CONFIG = {
    "training": {"seed": 42, "max_epochs": 3},
    "env": {"save_dir": "a"},
    "dataset_config": {"hm_competition": {"data_dir": "here", "image_size": 32}},
}


def make(tmp_path, *grid, seeds=2):
    return make_members(tmp_path, ["a=1"], all_settings(parse_grid(grid)), seeds, SEEDS)


def test_each_setting_has_each_seed_in_a_folder_of_its_own(tmp_path):
    members = make(tmp_path, "optimizer.params.lr=1e-3,1e-4", "model.dropout=0.2")
    assert [str(member.folder.relative_to(tmp_path)) for member in members] == [
        "lr=1e-3,dropout=0.2/seed=42",
        "lr=1e-3,dropout=0.2/seed=43",
        "lr=1e-4,dropout=0.2/seed=42",
        "lr=1e-4,dropout=0.2/seed=43",
    ]
    assert members[1].options == (
        "a=1",
        "optimizer.params.lr=1e-3",
        "model.dropout=0.2",
        "training.seed=43",
        "data.sampling_seed=8",
        f"env.save_dir={members[1].folder}",
        "checkpoint.resume=true",
    )
    assert [member.folder.name for member in make(tmp_path)] == ["seed=42", "seed=43"]


def test_keys_that_end_alike_are_told_apart_and_no_value_leaves_the_folder(tmp_path):
    members = make(tmp_path, "a.weights=/etc/x,../../y", "b.weights=[1,2],{until: layer3}", seeds=1)
    assert len(members) == 4
    for member in members:
        assert member.folder.parent.parent == tmp_path
        assert "a.weights=" in member.setting and "b.weights=" in member.setting


values = st.text(st.sampled_from("a1.-"), min_size=1).filter(lambda value: value.strip("."))
bracketed = values.map(lambda value: f"[{value},{{{value}}}]")


@given(st.lists(values | bracketed, min_size=1, max_size=5))
def test_a_grid_is_read_as_it_was_written(items):
    assert parse_grid([f"key={','.join(items)}"]) == {"key": items}


@pytest.mark.parametrize("item", ["key", "key=", "=a", "key=a,,b"])
def test_what_is_no_grid_is_refused(item):
    with pytest.raises(InputError, match="not of the form key=value,value"):
        parse_grid([item])


def test_repeated_keys_and_values_are_refused(tmp_path):
    with pytest.raises(InputError, match="key is there twice"):
        parse_grid(["key=a", "key=b"])
    with pytest.raises(InputError, match="two of its settings are the same"):
        make(tmp_path, "key=a,a")


def test_a_member_is_finished_when_it_says_so_with_the_same_config(tmp_path):
    (member,) = make(tmp_path, seeds=1)
    assert not is_finished(member, CONFIG)
    note(member, CONFIG, finished=False)
    assert not is_finished(member, CONFIG)
    note(member, CONFIG, finished=True)
    assert is_finished(member, CONFIG)
    moved = json.loads(json.dumps(CONFIG))
    moved["env"]["save_dir"] = "b"
    moved["dataset_config"]["hm_competition"]["data_dir"] = "there"
    assert is_finished(member, moved)
    moved["training"]["max_epochs"] = 4
    with pytest.raises(InputError, match=r"another config: training\.max_epochs 3 \(now 4\)"):
        is_finished(member, moved)


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"config": 1}', "\udcff"])
def test_a_damaged_state_is_refused(tmp_path, content):
    (member,) = make(tmp_path, seeds=1)
    member.folder.mkdir(parents=True)
    (member.folder / "member.json").write_text(content, "utf-8", "surrogateescape")
    with pytest.raises(InputError, match=r"member\.json: cannot be read"):
        is_finished(member, CONFIG)


def test_the_folder_of_another_run_is_refused(tmp_path):
    (member,) = make(tmp_path, seeds=1)
    member.folder.mkdir(parents=True)
    (member.folder / "best.ckpt").touch()
    with pytest.raises(InputError, match="a run that hm_concat repeat did not make"):
        is_finished(member, CONFIG)

"""The description of the config and the YAML defaults say the same, and so does the docs page."""

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmf_hm_concat.config.check import check_values, keys_of_run, lookup
from mmf_hm_concat.config.description import KEYS
from mmf_hm_concat.config.kinds import choices, in_words
from mmf_hm_concat.config.of_checkpoint import checked_config
from mmf_hm_concat.config.reference import markdown
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.checkpoints import load_checkpoint


@pytest.fixture(scope="module")
def merged(build):
    """The sample's config, plain."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(build(), resolve=True)


def leaves(config, above=""):
    for key, value in config.items():
        name = f"{above}{key}"
        described_group = any(each.startswith(f"{name}.") for each in KEYS)
        if isinstance(value, dict) and described_group:
            yield from leaves(value, f"{name}.")
        else:
            yield name


def test_every_key_of_the_yaml_defaults_is_described(merged):
    foreign = ("model_config.", "dataset_config.")
    ours = ("model_config.concat_vl.", "dataset_config.hm_competition.")
    undescribed = [
        name
        for name in leaves(merged)
        if name not in KEYS and (name.startswith(ours) or not name.startswith(foreign))
    ]
    open_groups = [name for name, key in KEYS.items() if key.is_open]
    undescribed = [n for n in undescribed if not n.startswith(tuple(f"{g}." for g in open_groups))]
    assert undescribed == []


def test_every_described_key_is_in_the_yaml_defaults(merged):
    absent = object()

    def found(name):
        group, _, last = name.rpartition(".")
        parent = lookup(merged, group) if group else merged
        return parent.get(last, absent) if isinstance(parent, dict) else absent

    # What only another data set's text processor needs.
    optional = {"dataset_config.hm_competition.processors.text_processor.params.annotations"}
    assert {name for name in KEYS if found(name) is absent} <= optional


def test_the_page_of_keys_is_up_to_date(pytestconfig):
    page = pytestconfig.rootpath / "docs" / "config.md"
    assert page.read_text("utf-8") == markdown(), "run make docs"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(sorted(KEYS)),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())),
)
def test_any_value_passes_or_is_one_problem_of_its_key(merged, name, value):
    config = copy.deepcopy(merged)
    group, _, last = name.rpartition(".")
    parent = lookup(config, group) if group else config
    if isinstance(parent, dict):
        parent[last] = value
    problems = check_values(config, keys_of_run(merged))
    assert all(key == name or key.startswith(f"{name}.") for key in problems)


@pytest.mark.parametrize("name", [n for n, key in KEYS.items() if choices(key.kind)])
def test_every_choice_of_a_key_is_allowed(merged, name):
    for choice in choices(KEYS[name].kind):
        config = copy.deepcopy(merged)
        group, _, last = name.rpartition(".")
        lookup(config, group)[last] = choice
        assert check_values(config, keys_of_run(merged)) == {}
        assert str(choice) in in_words(KEYS[name].kind)


@pytest.fixture(scope="module")
def old_state(pytestconfig):
    return load_checkpoint(pytestconfig.rootpath / "tests/fixtures/run_0_1_0/best.ckpt")


def test_the_config_in_a_checkpoint_of_0_1_0_is_filled_in(old_state, tmp_path):
    assert checked_config(old_state, tmp_path)["model_config"]["concat_vl"]["fusion"] == "concat"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("training", None),
        ("model_config", "a string"),
        ("model_config.concat_vl.vision.out_features", 10**6),
        ("model_config.concat_vl.fusion_features", -1),
        ("model_config.concat_vl.dropout", 1e6),
        ("dataset_config.hm_competition.processors.image_processor.params.size", -1),
        ("dataset_config.hm_competition.processors.image_processor.params.size", 1_000_000),
        ("training.precision", "odd"),
    ],
)
def test_a_damaged_config_in_a_checkpoint_is_one_message(old_state, tmp_path, place, value):
    state = copy.deepcopy({"config": old_state["config"], "text_model": old_state["text_model"]})
    group, _, last = place.rpartition(".")
    (lookup(state["config"], group) if group else state["config"])[last] = value
    with pytest.raises(InputError, match=f"{tmp_path}.*{place}"):
        checked_config(state, tmp_path)

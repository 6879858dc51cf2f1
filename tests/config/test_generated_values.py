"""Wrong values of every key are told, all in one message; right ones run."""

import json

import pytest
from generated_values import GROUPS, LEAVES, right_values, wrong_values
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mmf_hm_concat.config.check import shown
from mmf_hm_concat.config.description import KEYS
from mmf_hm_concat.config.kinds import choices, in_words
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training import checkpoints

MODEL, DATA = "model_config.concat_vl", "dataset_config.hm_competition"
# A model or data set that is none is told before its keys are looked at, and the params of a
# processor depend on its type.
FIRST = ("model", "datasets", *(name for name in LEAVES if name.endswith("_processor.type")))
WRONG = {name: wrong_values(KEYS[name].kind) for name in LEAVES if name not in FIRST}


@pytest.mark.parametrize("turn", range(max(map(len, WRONG.values()))))
def test_a_wrong_value_of_every_key_is_told_in_one_message(build, turn):
    given_values = {name: values[turn] for name, values in WRONG.items() if turn < len(values)}
    options = [
        f"{name}={'nan' if value != value else json.dumps(value)}"
        for name, value in given_values.items()
    ]
    with pytest.raises(InputError) as error:
        build(*options)
    title, *lines = str(error.value).split("\n  ")
    told = {line.split(" = ")[0]: line for line in lines}
    missing = {n: given_values.get(n, told.get(n)) for n in told.keys() ^ given_values.keys()}
    assert not missing
    assert title == f"The config has {len(given_values)} problems:"
    for name, line in told.items():
        value = given_values[name]
        value = "'nan'" if value != value else shown(value)
        assert line.startswith(f"{name} = {value} (command line): give {in_words(KEYS[name].kind)}")
        words = [word for word in choices(KEYS[name].kind) if value == f"'{word}x'"]
        assert all(f"Did you mean {word}?" in line for word in words)


@pytest.mark.parametrize("name", GROUPS)
def test_what_is_no_group_of_keys_is_told(build, name):
    for value in ("5", "maybe", "[[1]]"):
        with pytest.raises(InputError) as error:
            build(f"{name}={value}")
        assert str(error.value).startswith(name)


# ---- right values ----

# How large a number may be, where a larger one only takes longer or learns nothing.
CAPS = {
    "training.num_workers": 1,
    "training.batch_size": 99,
    "optimizer.params.lr": 0.1,
    "training.lr_ratio": 9,
    "training.warmup_factor": 9,
    f"{MODEL}.head_layers": 3,
    f"{MODEL}.num_classes": 9,
    f"{MODEL}.pretrained_lr_scale": 9,
    f"{MODEL}.fusion_features": 64,
    f"{DATA}.image_size": 64,
}
# Places, names in registries, what other keys must fit, and what is no part of a run here.
NOT_DRAWN = ("env.", "distributed.", "checkpoint.", f"{DATA}.processors", f"{DATA}.splits")
NOT_DRAWN += ("training.max_", "training.local_rank", "training.device", "training.compile")
NOT_DRAWN += ("training.wandb", "training.stdout_capture", "training.tensorboard")
NOT_DRAWN += ("training.sync_batch_norm", "evaluation.predict", f"{DATA}.use_images")
NOT_DRAWN += (
    "training.precision",
    f"{MODEL}.language.in_",
    f"{MODEL}.vision.in_",
    "config_version",
)
STRATEGIES = {}
for name in LEAVES:
    if not name.startswith(NOT_DRAWN):
        strategy = right_values(KEYS[name].kind, CAPS.get(name, 2**31 - 1))
        if not strategy.is_empty:
            STRATEGIES[name] = strategy
for name in (f"{MODEL}.language.out_features", f"{MODEL}.vision.out_features"):
    STRATEGIES[name] = st.integers(1, 32)
STRATEGIES[f"{MODEL}.fusion"] = st.sampled_from(["concat", "concat_normalized", "cross"])
STRATEGIES["training.precision"] = st.sampled_from(["auto", "fp32", "bf16"])


@pytest.mark.slow
@settings(
    max_examples=6,
    # A run takes seconds: to search for a simpler failing one would take hours.
    phases=[Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.fixed_dictionaries(STRATEGIES))
def test_any_values_within_the_bounds_build_and_run_a_step(mmf, tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("run")
    if values[f"{DATA}.balance"] == "weights":
        values = {**values, f"{MODEL}.num_classes": 2}
    options = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    # Without it, a batch of one meme is refused.
    options.append(f"{MODEL}.vision.freeze=bn")
    mmf(folder, *options, "training.max_updates=1", "run_type=train_val")
    assert (folder / checkpoints.BEST).is_file()

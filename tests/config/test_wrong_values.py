"""Values that cannot work: one InputError that names key, value, place and remedy, at once."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmf_hm_concat.config.description import KEYS
from mmf_hm_concat.errors import InputError

LANGUAGE, VISION = "model_config.concat_vl.language", "model_config.concat_vl.vision"
DATA = "dataset_config.hm_competition"
AUGMENT = f"{DATA}.processors.image_processor.params.augment"

WRONG = [
    "optimizer.params.lr=abc",
    "optimizer.params.lr=-1",
    "optimizer.params.lr=nan",
    "optimizer.params.lr=null",
    "optimizer.params={lr: 1e-3, nosuch: 1}",
    "optimizer.params={lr: 1e-3, weight_decay: -1}",
    "optimizer.type=AdmW",
    "optimizer.type=LBFGS",
    "optimizer.type=null",
    "scheduler.type=cosine",
    "scheduler.type=pythia",  # of MMF's own trainers
    "optimizer.params={lr: 1e-3, eps: 1e-8}",  # text to YAML 1.1
    "scheduler.params={min_lr: 1e-6}",
    "optimizer.params={differentiable: true}",
    "optimizer.params={lr: 1e-3, foreach: true, fused: true}",
    "scheduler.params={factor: 2}",
    "scheduler.params={nosuch: 1}",
    "model_config.concat_vl.dropout=2",
    "model_config.concat_vl.dropout=-0.1",
    "model_config.concat_vl.losses=[]",
    "model_config.concat_vl.losses=[nosuch]",
    "model_config.concat_vl.losses=null",
    "model_config.concat_vl.losses=[{type: cross_entropy, params: {nosuch: 1}}]",
    "model_config.concat_vl.losses=[{type: cross_entropy, params: {params: {nosuch: 1}}}]",
    "model_config.concat_vl.losses=[{type: weighted_cross_entropy, params: {nosuch: 1}}]",
    "model_config.concat_vl.losses=[{type: cross_entropy, parms: {}}]",
    "model_config.concat_vl.standardize_text=maybe",
    "model_config.concat_vl.fusion_features=0",
    "model_config.concat_vl.fusion_features=100000000",
    "model_config.concat_vl.pretrained_lr_scale=-1",
    f"{LANGUAGE}.in_features=99",
    f"{LANGUAGE}.freeze=maybe",
    f"{VISION}.name=resnet9",
    f"{VISION}.weights=nosuch.pt",
    f"{VISION}=5",
    "training.trainer=nosuch",
    "training.seed=abc",
    "training.seed=-2",
    "training.seed=1e30",
    "training.seed=${training.seed}",
    "training.max_epochs=1.5",
    "training.max_epochs=0",
    "training.max_epochs=true",
    "training.max_epochs=null",  # max_updates is null, too
    "training.max_updates=-1",
    "training.batch_size=0",
    "training.batch_size=null",
    "training.update_frequency=0",
    "training.update_frequency=-1",
    "training.checkpoint_interval=abc",
    "training.checkpoint_interval=0",
    "training.clip_gradients=maybe",
    "training.lr_scheduler=maybe",
    "training.early_stop.enabled=maybe",
    "training.early_stop.minimize=flase",
    "training.early_stop.min_delta=abc",
    "training.early_stop.min_delta=nan",
    "training.early_stop.patience=null",
    "training.early_stop.patience=0",
    "training.early_stop.criteria=hm_competition/auc",
    "training.early_stop.criteria=null",
    "training.max_grad_l2_norm=nan",
    "training.max_grad_l2_norm=inf",
    "training.max_grad_l2_norm=-1",
    "training.max_grad_l2_norm=0",
    "training.device=tpu",
    "training.device=cuda:7",
    "training.num_workers=1000",
    "training.num_workers=-1",
    "training.num_workers=many",
    "training.compile=maybe",
    "training.precision=half",
    "training.logger_level=loud",
    "training.lr_steps=5",
    "training=5",
    "training.early_stop=maybe",
    "training.max_epoch=3",
    "training.seed.x=3",
    "evaluation.threshold=2",
    "evaluation.threshold=0",
    "evaluation.id_format=foo",
    "evaluation.metrics=[acuracy]",
    "evaluation.metrics=null",
    "evaluation.metrics=[{type: accuracy, params: {nosuch: 1}}]",
    "evaluation.predict_file_format=xml",
    "checkpoint.resume=maybe",
    "checkpoint.keep_last=-1",
    "checkpoint.resume_zoo=nosuch",
    "checkpoint.zoo_config_override=true",
    "env.save_dir=/proc/x",
    "env.save_dir=null",
    "env.save_dir=",
    f"env.save_dir=/tmp/{'x' * 300}",
    "env.save_dir=/dev/null",
    "env.log_dir=/proc/x",
    "run_type=maybe",
    "run_type=null",
    "model=5",
    "dataset=[a, b]",
    f"{DATA}.balance=over",
    f"{DATA}.image_size=-1",
    f"{DATA}.image_size=1000000",
    f"{DATA}.image_cache=maybe",
    f"{DATA}.dev_limit=0",
    f"{DATA}.use_images=false",  # the model reads them
    f"{DATA}.processors=null",
    f"{DATA}.processors.text_processor=null",  # the model reads it
    f"{DATA}.processors.image_processor=null",
    f"{DATA}.processors.text_processor.type=fastext",
    f"{DATA}.processors.text_processor.params.dim=0",
    f"{DATA}.processors.text_processor.params={{dimension: 5}}",
    f"{DATA}.splits.test=null",
    f"{DATA}.splits.test=5.5",
    f"{AUGMENT}=[{{type: NoSuch}}]",
    f"{AUGMENT}=[{{type: ColorJitter, params: {{brightness: -1}}}}]",
    f"{AUGMENT}=flip",
    "config=nosuch.yaml",
    "config=projects",
    "x=@y",
    "training.seed=[1",
    "training.seed=${nosuch.key}",
    "training.batch_size={1, 2}",
    "evaluation.metrics[7]=accuracy",
    "evaluation.metrics[x]=accuracy",
    "no_equals_sign",
]


@pytest.mark.parametrize("option", WRONG)
def test_a_wrong_value_is_one_message_at_once(build, option):
    start = time.process_time()
    with pytest.raises(InputError) as error:
        build(option)
    assert time.process_time() - start < 5
    message, (key, _, value) = str(error.value), option.partition("=")
    key = {"dataset": "datasets"}.get(key, key)
    assert "problems" in message or "\n" not in message
    assert value[:8] in message or key.split("[")[0].rpartition(".")[2] in message


def test_both_branches_left_out(build):
    with pytest.raises(InputError, match="both null"):
        build(f"{LANGUAGE}=null", f"{VISION}=null", f"{DATA}.use_images=false")


def test_class_weights_of_other_than_two_classes(build):
    with pytest.raises(InputError, match=r"balance = 'weights'.* 2 classes, but .* is 3"):
        build(f"{DATA}.balance=weights", "model_config.concat_vl.num_classes=3")


def test_a_number_that_yaml_reads_as_text_is_named(build):
    with pytest.raises(InputError, match=r"optimizer.params.eps = '1e-8'.*: .*write 1.0e-8"):
        build("optimizer.params={eps: 1e-8}")
    build("optimizer.params={eps: 1.0e-8}", "scheduler.params={min_lr: 1.0e-6}")


def test_fp16_on_a_cpu(build):
    with pytest.raises(InputError, match="fp16 is for GPUs"):
        build("training.precision=fp16", "training.device=cpu")


def test_all_problems_come_together_with_key_value_place_and_what_is_allowed(build, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        "includes: [projects/concat/sample.yaml]\n".replace("projects", str(tmp_path / "p"))
        + "training:\n  batchsize: 3\n  precision: bf61\n  early_stop: {patience: null}\n"
        "model_config:\n  concat_vl: {dropout: 2}\n"
    )
    (tmp_path / "p").symlink_to(_projects())
    with pytest.raises(InputError) as error:
        build("training.max_epochs=1.5", "training.max_epoch=2", config=own)
    title, *lines = str(error.value).split("\n")
    assert title == "The config has 6 problems:"
    for line in (
        "training.max_epochs = 1.5 (command line): give a whole number from 1 on (epochs), or null",
        "training.max_epoch (command line): there is no key 'training.max_epoch'. Did you mean "
        "training.max_epochs",
        f"training.batchsize = 3 ({own}, line 3): there is no key 'training.batchsize'. Did you "
        "mean training.batch_size",
        f"training.precision = 'bf61' ({own}, line 4): give auto, fp32, bf16 or fp16. Did you mean "
        "bf16?",
        f"training.early_stop.patience = null ({own}, line 5): give a whole number from 1 on",
        f"model_config.concat_vl.dropout = 2 ({own}, line 7): give a number from 0 and below 1",
    ):
        assert any(found.startswith(f"  {line}") for found in lines), line


def _projects():
    from mmf_hm_concat.config.reference import PACKAGE

    return PACKAGE / "projects"


def test_the_json_of_config_override_is_checked_and_named(build):
    with pytest.raises(InputError, match=r"training.batch_size = 0 \(--config_override\)"):
        build(override='{"training": {"batch_size": 0}}')
    with pytest.raises(InputError, match=r"there is no key 'training\.batchsize'"):
        build(override='{"training": {"batchsize": 1}}')
    for text in ("{", "[1]", "5"):
        with pytest.raises(InputError, match="--config_override"):
            build(override=text)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("optimizer: {params: []}", "optimizer.params is a group of keys, not a list"),
        ("model_config: {concat_vl: {vision: [1]}}", "vision is a group of keys, not a list"),
        # Over what only MMF's defaults have.
        ("checkpoint: {reset: [[1]]}", "checkpoint.reset is a group of keys, not a list"),
        ("training: {trainer: null}", "training.trainer = null"),
        ("dataset_config: {hm_competition: {processors: {image_processor: {params: }}}}", None),
    ],
)
def test_a_yaml_that_gives_no_group_where_one_is(build, tmp_path, yaml, message):
    own = tmp_path / "own.yaml"
    own.write_text(f"includes: [{_projects()}/concat/sample.yaml]\n{yaml}\n")
    if message is None:
        build(config=own)
        return
    with pytest.raises(InputError) as error:
        build(config=own)
    assert message in str(error.value) and f"{own}, line 2" in str(error.value)


def test_a_list_over_a_group_in_the_json_of_config_override(build):
    with pytest.raises(InputError, match="--config_override: optimizer is a group of keys"):
        build(override='{"optimizer": []}')


def test_an_environment_variable_is_named(build, monkeypatch):
    monkeypatch.setenv("MMF_REPORT_DIR", "/proc/x")
    with pytest.raises(InputError, match=r"env.report_dir = '/proc/x' \(environment variable MMF_"):
        build()


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("training.seed=-1", "training.seed", -1),
        ("training.seed=null", "training.seed", None),
        ("training.max_updates=null", "training.max_updates", None),
        ("training.max_updates=1e3", "training.max_updates", 1000),
        ("optimizer.params.lr=1e-3", "optimizer.params.lr", 0.001),
        ("optimizer.params={lr: 1e-3}", "optimizer.params.lr", 0.001),
        ("training.clip_gradients=1", "training.clip_gradients", True),
        ("training.batch_size='8'", "training.batch_size", 8),
        ("env.save_dir=2024", "env.save_dir", "2024"),
        (f"{DATA}.image_cache=off", f"{DATA}.image_cache", "off"),
        (f"{DATA}.balance=none", f"{DATA}.balance", "none"),
        (f"{VISION}.freeze={{until: layer3}}", f"{VISION}.freeze", {"until": "layer3"}),
        ("training.early_stop.criteria=total_loss", "training.early_stop.criteria", "total_loss"),
        ("evaluation.metrics=accuracy training.early_stop.criteria=total_loss", None, None),
        ("optimizer.type=adam_w", "optimizer.type", "adam_w"),
        ("scheduler.type=warmup_linear training.lr_scheduler=false", None, None),
    ],
)
def test_what_mmf_gives_a_meaning_keeps_it(build, option, key, value):
    from omegaconf import OmegaConf

    config = build(*(option.split() if key is None else [option]))
    if key is not None:
        found = OmegaConf.select(config, key)
        assert (found == value and type(found) is type(value)) or isinstance(value, dict)


def test_trainers_of_mmf_keep_their_keys_but_ours_are_checked(build):
    import mmf

    yaml = f"{mmf.__path__[0]}/projects/hateful_memes/configs/unimodal/text.yaml"
    options = ["model=unimodal_text", "dataset=hm_competition", "training.early_stop.patience=4000"]
    config = build(*options, f"{DATA}.image_size=32", "training.log_interval=0", config=yaml)
    assert config.training.early_stop.patience == 4000
    with pytest.raises(InputError, match="image_size = -1"):
        build(*options, f"{DATA}.image_size=-1", config=yaml)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
# Without env.user_dir: MMF imports it before the plug-in is there to check anything.
@given(
    st.sampled_from(sorted(KEYS.keys() - {"env.user_dir"})),
    st.one_of(st.text(max_size=12), st.integers(), st.floats()),
)
def test_any_value_on_the_command_line_is_taken_or_one_input_error(build, key, value):
    try:
        build(f"{key}={value}")
    except InputError as error:
        assert str(error)

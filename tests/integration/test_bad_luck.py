"""What only shows while a run is under way: one message, and nothing lost or half written."""

import errno
import shutil
from collections import namedtuple

import pytest

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.mmf_plugin import prediction
from mmf_hm_concat.training import checkpoints
from mmf_hm_concat.training.metrics_log import METRICS, read_metrics

pytestmark = pytest.mark.slow
MODEL = "model_config.concat_vl"


@pytest.mark.parametrize("size", [1, 83])  # of 84 memes: the second has one
def test_a_batch_of_one_meme_with_batch_norms_is_told_at_the_first_update(mmf, tmp_path, size):
    with pytest.raises(InputError, match=r"training.batch_size: .*single meme.*vision.freeze=bn"):
        mmf(tmp_path, f"training.batch_size={size}", "run_type=train_val")
    assert not (tmp_path / checkpoints.CURRENT).exists()
    mmf(
        tmp_path,
        f"training.batch_size={size}",
        "training.max_updates=1",
        f"{MODEL}.vision.freeze=bn",
    )


def test_an_epoch_whose_validation_loss_is_nan_gives_no_best_checkpoint(mmf, tmp_path):
    with pytest.raises(InputError, match=r"validation split was never finite.*optimizer.params.lr"):
        mmf(tmp_path, "optimizer.params.lr=1e38", "training.max_updates=1", "run_type=train_val")
    assert not (tmp_path / checkpoints.BEST).exists()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("config.datasets", 5),
        ("config.dataset_config", "text"),
        ("config.model_config", None),
        ("data", {"train": 5}),
        ("optimizer", {"state": 3}),
        ("early_stop", []),
        ("random", {"ranks": [1]}),
        ("position.epoch", "one"),
        ("scheduler", 7),
    ],
)
def test_a_resume_from_a_damaged_state_is_one_message(trained, mmf, tmp_path, place, value):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    state = whole = checkpoints.load_checkpoint(tmp_path / checkpoints.CURRENT)
    *above, last = place.split(".")
    for key in above:
        state = state[key]
    state[last] = value
    checkpoints.save_checkpoint(whole, tmp_path / checkpoints.CURRENT)
    before = (tmp_path / checkpoints.CURRENT).read_bytes()
    with pytest.raises(InputError, match=f"{tmp_path}.*(damaged|another kind)"):
        mmf(tmp_path, "checkpoint.resume=true", "training.max_epochs=3")
    assert (tmp_path / checkpoints.CURRENT).read_bytes() == before


def test_a_flipped_bit_in_the_weights_is_noticed_wherever_they_are_used(trained, mmf, tmp_path):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    content = bytearray((tmp_path / checkpoints.BEST).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / checkpoints.BEST).write_bytes(content)
    for options in ({"predict": True}, {}):
        with pytest.raises(InputError, match="it is damaged, as the checksum of data/"):
            mmf(tmp_path, f"checkpoint.resume_file={tmp_path / checkpoints.BEST}", **options)


def test_mmfs_report_never_stands_in_the_way_of_the_submission(trained, mmf, tmp_path, monkeypatch):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    written = (tmp_path / "submission.csv").read_bytes()
    (tmp_path / "submission.csv").unlink()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prediction, "_write_mmf_report", full)
    mmf(tmp_path, predict=True)
    assert (tmp_path / "submission.csv").read_bytes() == written


def test_a_full_disk_is_told_before_training_and_where_the_text_model_is_copied(
    mmf, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", full)
        with pytest.raises(InputError, match=r"env.save_dir.*cannot be written: No space left"):
            mmf(tmp_path / "run")
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(InputError, match=r"text_model.bin: cannot be written"):
        mmf(tmp_path / "run")
    assert not list((tmp_path / "run").glob("*text_model*"))


def test_too_little_room_for_the_checkpoints_is_told_before_training(
    trained, mmf, tmp_path, monkeypatch
):
    size = (trained[0] / checkpoints.BEST).stat().st_size
    free = namedtuple("usage", "total used free")(10**12, 0, round(2.9 * size))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(InputError, match=r"env.save_dir: .* free, .*checkpoints need \d+ MB"):
        mmf(tmp_path / "new")
    assert "epoch 1" not in (tmp_path / "new" / "train.log").read_text()
    shutil.copytree(trained[0], tmp_path / "run")  # whose best and current ones are replaced
    mmf(tmp_path / "run", "checkpoint.resume=true", "training.max_epochs=3")


def test_a_log_that_cannot_be_written_is_told_once(mmf, tmp_path, capsys):
    (tmp_path / "train.log").symlink_to("/dev/full")
    mmf(tmp_path, "training.max_updates=1")
    said = capsys.readouterr()
    assert "Logging error" not in said.err
    assert (said.err + said.out).count(f"{tmp_path / 'train.log'}: cannot be written") == 1


def test_a_run_that_cannot_be_written_into_is_predicted_into_another_folder(
    trained, mmf, tmp_path, monkeypatch
):
    def read_only(*_, dir=None, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    best = trained[0] / checkpoints.BEST
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", read_only)
        with pytest.raises(InputError, match=f"Read-only.*checkpoint.resume_file={best}"):
            mmf(trained[0], predict=True)
    mmf(tmp_path, f"checkpoint.resume_file={best}", predict=True)
    written = (tmp_path / "submission.csv").read_bytes()
    assert written == (trained[0] / "submission.csv").read_bytes()


WARMUP = """
model: concat_vl
datasets: hm_competition
run_type: train_val
model_config: {concat_vl: {vision: {name: resnet18, weights: none}}}
optimizer: {type: AdamW, params: {lr: 0.01, foreach: true}}
scheduler: {type: warmup_linear, params: {num_warmup_steps: 20, num_training_steps: 99}}
evaluation: {metrics: [roc_auc]}
training:
  trainer: concat_trainer
  seed: 1
  lr_scheduler: true
  early_stop: {criteria: hm_competition/roc_auc}
"""


def test_schedulers_of_mmf_count_updates_also_after_a_resume(mmf, tmp_path):
    (tmp_path / "own.yaml").write_text(WARMUP)
    run, own = tmp_path / "run", f"config={tmp_path / 'own.yaml'}"
    mmf(run, own, "training.max_epochs=1", "training.max_updates=null")
    mmf(run, own, "training.max_updates=null", "checkpoint.resume=true")  # of 2 epochs
    rates = [(each["update"], each["lr"]) for each in read_metrics(run / METRICS)]
    assert rates == [(3, pytest.approx(0.0015)), (6, pytest.approx(0.003))]


def test_a_plug_in_that_is_not_there_is_named(command, tmp_path):
    done = command("mmf_run", tmp_path, "env.user_dir=nosuch", check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: env.user_dir = nosuch")
    assert "Traceback" not in done.stderr

"""The real commands on a tiny sample: YAML in, CSV out, and one clear message for bad input."""

import json
import re
import shutil
import subprocess

import pandas as pd
import pytest
import yaml
from conftest import BIN

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.metrics_log import METRICS, RESULTS, read_metrics

pytestmark = pytest.mark.slow


def test_submission_has_one_row_for_each_test_meme_in_order(trained, sample):
    folder, _, output = trained
    submission = pd.read_csv(folder / "submission.csv")
    expected = [json.loads(line)["id"] for line in (sample / "test.jsonl").open()]
    assert list(submission.columns) == ["id", "proba", "label"]
    assert submission.id.tolist() == [int(i) for i in expected]
    assert submission.proba.between(0, 1).all() and submission.proba.nunique() > 5
    assert (submission.label == (submission.proba >= 0.5)).all()
    assert str(folder / "submission.csv") in output


def test_training_says_how_it_goes_in_the_terminal(trained):
    folder, output, _ = trained
    assert re.search(r"epoch 2/2: train loss \d\.\d+; validation .*roc_auc \d\.\d+.*lr", output)
    assert "accuracy" in output and f"Next: mmf_predict config={folder}/config.yaml" in output
    assert (folder / "train.log").read_text().count("epoch 2/2") == 1


def test_a_run_leaves_what_prediction_needs(trained):
    folder, _, _ = trained
    for name in ("best.ckpt", "current.ckpt", "config.yaml", "text_model.bin"):
        assert (folder / name).stat().st_size > 0
        assert (folder / name).stat().st_nlink == 1  # damage to the cache must not reach a run
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["training"]["seed"] == 42


def test_metrics_of_each_epoch_and_of_the_best_are_in_files(trained):
    folder, output, _ = trained
    records = read_metrics(folder / METRICS)
    results = json.loads((folder / RESULTS).read_text())
    assert [record["epoch"] for record in records] == [1, 2]
    best = records[results["best_epoch"] - 1]
    assert results["val"] == best["val"] and results["best"] == best["val"][results["criterion"]]
    assert results["updates"] == records[-1]["update"] and results["seed"] == 42
    assert f"roc_auc {best['val']['hm_competition/roc_auc']:.4f}" in output
    assert min(record["samples_per_second"] for record in records) > 0


def test_no_wall_of_warnings(trained):
    _, training, prediction = trained
    assert "Warning" not in training + prediction


def test_same_seed_gives_the_same_submission_byte_for_byte(trained, mmf, tmp_path):
    folder, _, _ = trained
    mmf(tmp_path, "training.num_workers=2")
    mmf(tmp_path, predict=True)
    assert (tmp_path / "submission.csv").read_bytes() == (folder / "submission.csv").read_bytes()


def test_another_seed_gives_another_submission(trained, mmf, tmp_path):
    folder, _, _ = trained
    mmf(tmp_path, "training.seed=7")
    mmf(tmp_path, predict=True)
    assert (tmp_path / "submission.csv").read_bytes() != (folder / "submission.csv").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["training.batch_size=5", "training.num_workers=2"],
        ["dataset_config.hm_competition.image_cache=off"],
    ],
)
def test_prediction_depends_on_neither_batches_workers_nor_cache(trained, mmf, tmp_path, options):
    folder, _, _ = trained
    path = tmp_path / "other.csv"
    mmf(folder, *options, f"evaluation.predict_file={path}", predict=True)
    assert path.read_bytes() == (folder / "submission.csv").read_bytes()


def test_a_moved_run_predicts_alone(trained, mmf, tmp_path, sample):
    folder, _, _ = trained
    moved, data = tmp_path / "moved", tmp_path / "data"
    shutil.copytree(folder, moved)
    data.mkdir()
    (data / "img").symlink_to(sample / "img")
    shutil.copy(sample / "test.jsonl", data)
    mmf(moved, f"dataset_config.hm_competition.data_dir={data}", predict=True)
    assert (moved / "submission.csv").read_bytes() == (folder / "submission.csv").read_bytes()


def test_the_config_of_a_moved_run_predicts_with_it_from_any_folder(trained, tmp_path, monkeypatch):
    moved = tmp_path / "moved run"
    shutil.copytree(trained[0], moved)
    (moved / "submission.csv").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = subprocess.run(
        [BIN / "mmf_predict", f"config={moved}/config.yaml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    written = (moved / "submission.csv").read_bytes()
    assert written == (trained[0] / "submission.csv").read_bytes()


def test_one_csv_unless_the_report_file_of_mmf_is_asked_for(trained, sample, tmp_path, command):
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    assert [each.name for each in folder.rglob("*.csv")] == ["submission.csv"]
    command("mmf_predict", folder, f"env.report_dir={tmp_path / 'reports'}")
    (report,) = (tmp_path / "reports").iterdir()
    expected = [json.loads(line)["id"] for line in (sample / "test.jsonl").open()]
    assert pd.read_csv(report, dtype={"id": str}).id.tolist() == expected


def test_a_quiet_log_is_quiet_about_data_and_cache_too(mmf, tmp_path):
    mmf(tmp_path, "training.max_updates=1", "training.logger_level=warning")
    assert "INFO" not in (tmp_path / "train.log").read_text()


def test_prediction_without_a_checkpoint_is_refused_in_one_message(command, tmp_path):
    done = command("mmf_predict", tmp_path, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: No checkpoint to predict with: {tmp_path}/best.ckpt" in done.stderr
    assert "mmf_run config=projects/concat/sample.yaml run_type=train_val" in done.stderr
    assert not (tmp_path / "submission.csv").exists()


def copy_with(sample, target, name, edit):
    """A copy of the sample, its images shared, in which ``edit`` changed one file's lines."""
    target.mkdir()
    (target / "img").symlink_to(sample / "img")
    for path in sample.glob("*.jsonl"):
        shutil.copy(path, target)
    lines = (target / name).read_text().splitlines()
    edit(lines)
    (target / name).write_text("\n".join(lines) + "\n")
    return f"dataset_config.hm_competition.data_dir={target}"


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("train.jsonl", lambda lines: lines.insert(2, "{oops"), r"train\.jsonl, line 3"),
        (
            "train.jsonl",
            lambda lines: lines.__setitem__(0, re.sub(r', "label": \d', "", lines[0])),
            r"train\.jsonl, line 1.*label",
        ),
        (
            "dev.jsonl",
            lambda lines: lines.__setitem__(1, re.sub(r"img/\d+", "img/99999", lines[1])),
            r"dev\.jsonl, line 2.*img/99999",
        ),
    ],
)
def test_bad_data_names_file_line_and_field(mmf, sample, tmp_path, name, edit, message):
    option = copy_with(sample, tmp_path / "data", name, edit)
    with pytest.raises(InputError, match=f"(?s){message}"):
        mmf(tmp_path / "run", option)


def test_missing_data_says_where_to_get_it_and_what_runs_without(mmf, tmp_path):
    with pytest.raises(InputError) as error:
        mmf(tmp_path / "run", f"dataset_config.hm_competition.data_dir={tmp_path / 'nowhere'}")
    message = str(error.value)
    assert str(tmp_path / "nowhere") in message and "train.jsonl" in message
    assert "licen" in message and "projects/concat/sample.yaml" in message


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("training.max_epoch=3", "training.max_epoch.*Did you mean training.max_epochs"),
        ("model=concat_lv", "no model 'concat_lv'. Did you mean concat_vl"),
        ("dataset=hm_competitoin", "no dataset 'hm_competitoin'. Did you mean hm_competition"),
        ("training.early_stop.criteria=hm_competition/auc", "Validation gives .*roc_auc"),
        ("evaluation.metrics=[acuracy]", "no metric 'acuracy'. Did you mean accuracy"),
        ("training.seed=abc", "training.seed = 'abc' .*: give a whole number"),
        ("training.precision=half", "training.precision = 'half' .*: give auto, fp32"),
        ("dataset_config.hm_competition.balance=over", "balance"),
        ("model_config.concat_vl.language.in_features=99", "of 150 numbers.*expects 99"),
    ],
)
def test_a_wrong_setting_names_the_key_and_what_it_may_be(mmf, tmp_path, option, message):
    with pytest.raises(InputError, match=f"(?s){message}"):
        mmf(tmp_path, option)


def test_an_unknown_key_in_the_yaml_is_named(mmf, tmp_path):
    (tmp_path / "own.yaml").write_text(
        "includes: [ROOT/projects/concat/sample.yaml]\ntraining: {batchsize: 3}\n".replace(
            "ROOT", str(__import__("pathlib").Path(__file__).resolve().parents[2])
        )
    )
    with pytest.raises(InputError, match=r"training\.batchsize.*Did you mean training.batch_size"):
        mmf(tmp_path, f"config={tmp_path / 'own.yaml'}")


def test_a_checkpoint_of_another_model_is_refused(trained, mmf):
    with pytest.raises(InputError, match="weights of another model"):
        mmf(trained[0], "model_config.concat_vl.fusion_features=17", predict=True)


def test_another_text_model_is_refused(trained, mmf, tmp_path, sample):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)

    def shorter(lines):
        del lines[10:]

    option = copy_with(sample, tmp_path / "data", "train.jsonl", shorter)
    mmf(tmp_path / "other", option, "training.max_updates=1")
    shutil.copy(tmp_path / "other" / "text_model.bin", run)
    with pytest.raises(InputError, match="trained with the text model"):
        mmf(run, predict=True)


def test_what_ends_a_run_and_a_resume_of_nothing_are_in_its_log(command, tmp_path):
    options = ["run_type=train_val", "checkpoint.resume=true", "optimizer.params.lr=1e30"]
    done = command("mmf_run", tmp_path, *options, check=False)
    error = done.stderr.rpartition("error: ")[2].strip()
    log = (tmp_path / "train.log").read_text()
    assert done.returncode == 1 and error and f"ERROR | mmf.train : {error}" in log
    assert f"Nothing to resume in {tmp_path}: starting afresh." in log

"""A run of release 0.1.0, kept in tests/fixtures/run_0_1_0, goes on working.

It is `sample.yaml` on `hm_concat sample --memes 96` with torchvision's smallest network, frozen,
in fp32, after one epoch; `resumed.csv` is what 0.1.0 predicted after three more, without dropout,
for which torch draws other numbers on Intel's CPUs than on AMD's. Sums can round otherwise on
another CPU, too: so the last digits are not compared, nor which of nearly equal epochs is the best.
"""

import shutil

import pandas as pd
import pytest

from mmf_hm_concat.data.synthetic import make_sample
from mmf_hm_concat.inference.classifier import MemeClassifier
from mmf_hm_concat.inference.export import export

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "sample"
    make_sample(out, memes=96)
    return out


@pytest.fixture
def old_run(tmp_path, pytestconfig):
    return shutil.copytree(pytestconfig.rootpath / "tests/fixtures/run_0_1_0", tmp_path / "run")


@pytest.fixture
def options(data, old_run):
    return [
        f"config={old_run}/config.yaml",
        f"dataset_config.hm_competition.data_dir={data}",
        f"env.save_dir={old_run}",
        "training.max_epochs=4",
    ]


def same(one, other):
    pd.testing.assert_frame_equal(pd.read_csv(one), pd.read_csv(other), rtol=1e-5)


def test_it_predicts_the_same(mmf_command, options, old_run, tmp_path):
    mmf_command("mmf_predict", *options, f"evaluation.predict_file={tmp_path}/again.csv")
    same(tmp_path / "again.csv", old_run / "submission.csv")


def test_it_resumes_to_the_same(mmf_command, options, old_run):
    dropout = "model_config.concat_vl.dropout=0"
    mmf_command("mmf_run", *options, dropout, "checkpoint.resume=true")
    mmf_command("mmf_predict", *options, f"checkpoint.resume_file={old_run}/current.ckpt")
    same(old_run / "submission.csv", old_run / "resumed.csv")


def test_it_loads_without_mmf(old_run, data):
    memes = pd.read_json(data / "test.jsonl", lines=True)
    images = [data / image for image in memes["img"]]
    predicted = MemeClassifier.load(old_run)(images, memes["text"].tolist())
    assert predicted == pytest.approx(
        pd.read_csv(old_run / "submission.csv")["proba"].tolist(), 1e-5
    )


def test_it_exports(old_run, tmp_path):
    assert "gives proba" in export(old_run, tmp_path / "model.onnx")

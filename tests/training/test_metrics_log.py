"""metrics.jsonl: appended, right after a resume, and valid JSON whatever the metrics are."""

import json
import math

import pytest

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.training.metrics_log import MetricsLog, read_metrics


def epochs(path):
    return [record["epoch"] for record in read_metrics(path)]


def test_a_resumed_run_writes_each_epoch_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for epoch in (1, 2, 3):
        log.epoch({"epoch": epoch, "val": {"loss": 0.5 / epoch}})
    resumed = MetricsLog(path, epochs=1)
    assert epochs(path) == [1, 2, 3]  # until it has something of its own
    resumed.epoch({"epoch": 2})
    assert epochs(path) == [1, 2] and read_metrics(path)[0]["val"] == {"loss": 0.5}
    MetricsLog(path).epoch({"epoch": 1})
    assert epochs(path) == [1] and "val" not in read_metrics(path)[0]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).epoch({"epoch": 1})
    with path.open("a") as file:
        file.write('{"epoch": 2, "val": {"lo')
    assert epochs(path) == [1]
    MetricsLog(path, epochs=2).epoch({"epoch": 2})
    assert epochs(path) == [1, 2]


def test_undefined_metrics_are_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).epoch({"epoch": 1, "val": {"roc_auc": math.nan, "loss": math.inf}})
    assert json.loads(path.read_text())["val"] == {"roc_auc": None, "loss": None}


def test_a_file_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"metrics.jsonl: cannot be written"):
        MetricsLog(tmp_path / "file" / "metrics.jsonl").epoch({"epoch": 1})

"""`hm_concat runs`: what it finds, and what it says about runs side by side."""

import json

import pytest
import yaml

from mmf_hm_concat.cli import main
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.reports.runs import describe_runs

CONFIG = {
    "model": "concat_vl",
    "datasets": "hm_competition",
    "training": {"seed": 1, "early_stop": {"criteria": "hm_competition/roc_auc"}},
    "env": {"save_dir": "somewhere"},
    "model_config": {"concat_vl": {"fusion": "concat"}, "unused": {"size": 1}},
    "dataset_config": {"hm_competition": {"data_dir": "data/hm", "image_size": 224}},
}


def make_run(folder, **changes):
    folder.mkdir(parents=True)
    (folder / "best.ckpt").touch()
    config = json.loads(json.dumps(CONFIG))
    for key, value in changes.items():
        *above, last = key.split("__")
        node = config
        for part in above:
            node = node[part]
        node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_runs_side_by_side(tmp_path, capsys):
    one = make_run(tmp_path / "one", env__save_dir="elsewhere", model_config__unused={"size": 2})
    results = {"criterion": "hm_competition/roc_auc", "best": 0.75, "best_epoch": 3, "epochs": 4}
    (one / "results.json").write_text(json.dumps(results))
    earlier = make_run(
        one / "previous" / "2026-01-01_00-00-00",
        training__seed=2,
        model_config__concat_vl__fusion="product",
    )
    records = [
        {"epoch": 1, "val": {"hm_competition/roc_auc": 0.5}, "best": True},
        {"epoch": 2, "val": {"hm_competition/roc_auc": 0.4}, "best": False},
    ]
    (earlier / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (tmp_path / "no run").mkdir()
    first, second = describe_runs(tmp_path)
    by_folder = {run["run"]: run for run in (first, second)}
    run = by_folder[str(one)]
    assert (run["model"], run["data"], run["best"], run["epochs"]) == (
        "concat_vl",
        "data/hm",
        0.75,
        4,
    )
    assert run["is_finished"] and run["best_epoch"] == 3
    assert run["differs"] == {"model_config.concat_vl.fusion": "concat", "training.seed": 1}
    run = by_folder[str(earlier)]
    assert not run["is_finished"] and (run["best"], run["best_epoch"], run["epochs"]) == (0.5, 1, 2)
    assert main(["runs", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [first, second]
    assert main(["runs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "roc_auc 0.7500 (epoch 3)" in shown and "2, unfinished" in shown
    assert "  one: model_config.concat_vl.fusion=concat, training.seed=1" in shown


def test_a_run_of_which_little_is_known_is_listed(tmp_path):
    (tmp_path / "current.ckpt").touch()
    (tmp_path / "results.json").write_text("{")
    (run,) = describe_runs(tmp_path)
    assert run["run"] == str(tmp_path) and run["best"] is None and run["model"] is None
    assert main(["runs", str(tmp_path)]) == 0


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(InputError, match="there are no runs in it"):
        describe_runs(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        describe_runs(tmp_path / "nosuch")
    (make_run(tmp_path / "run") / "config.yaml").write_text("a: [1")
    with pytest.raises(InputError, match=r"run/config.yaml, line"):
        describe_runs(tmp_path)

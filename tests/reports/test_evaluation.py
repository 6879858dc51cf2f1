"""`hm_concat evaluate` on real runs: numbers as scikit-learn's from the CSV, and what it says."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from mmf_hm_concat import cli
from mmf_hm_concat.inference.member import load_member
from mmf_hm_concat.inference.splits import labelled_splits, predict_memes
from mmf_hm_concat.inference.statistics import best_threshold
from mmf_hm_concat.training import checkpoints

pytestmark = pytest.mark.slow


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file, memes):
    file.write_text("".join(json.dumps(meme) + "\n" for meme in memes))


@pytest.fixture(scope="module")
def phase_2(sample, tmp_path_factory):
    """The sample's files under phase 2's names; test_seen with labels, test_unseen without."""
    data = tmp_path_factory.mktemp("phase2")
    (data / "img").symlink_to(sample / "img")
    truth = pd.read_csv(sample / "test_truth.csv", dtype={"id": str})
    label = {int(i): int(y) for i, y in zip(truth["id"], truth["label"], strict=True)}
    test = lines_of(sample / "test.jsonl")
    shutil.copy(sample / "train.jsonl", data)
    write(data / "dev_seen.jsonl", lines_of(sample / "dev.jsonl"))
    write(data / "test_seen.jsonl", [{**meme, "label": label[int(meme["id"])]} for meme in test])
    write(data / "test_unseen.jsonl", test)
    return data


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    """The run as it is; and one that is made to prefer the other class."""
    other = tmp_path_factory.mktemp("other") / "run"
    shutil.copytree(trained[0], other)
    state = checkpoints.load_checkpoint(other / checkpoints.BEST)
    weight = state["model"]["network.head.classifier.weight"]
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    state["model"]["network.head.classifier.weight"] = weight + noise * weight.std() * 3
    checkpoints.save_checkpoint(state, other / checkpoints.BEST)
    return str(trained[0]), str(other)


def evaluated(capsys, *arguments):
    """The report, as --json prints it."""
    assert cli.main(["evaluate", "--json", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def said(capsys, *arguments):
    assert cli.main(["evaluate", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def failed(capsys, *arguments):
    assert cli.main(["evaluate", *map(str, arguments)]) == 1
    return capsys.readouterr().err


def values(metrics):
    return {name: each["value"] for name, each in metrics.items()}


def test_a_whole_split_gets_the_bits_of_mmf_predict(trained, phase_2, cache):
    memes = labelled_splits(phase_2, ["test_seen"], cache)["test_seen"].memes
    found = predict_memes(load_member(trained[0]), memes, cache)
    assert found.tolist() == pd.read_csv(trained[0] / "submission.csv")["proba"].tolist()


def test_the_numbers_are_scikit_learns_from_the_csv(runs, trained, phase_2, capsys, cache):
    report = evaluated(capsys, runs[0], "--data", phase_2)
    table = pd.read_csv(trained[0] / "submission.csv")
    labels = [meme["label"] for meme in lines_of(phase_2 / "test_seen.jsonl")]
    (run,) = report["runs"]
    dev = labelled_splits(phase_2, ["dev_seen"], cache)["dev_seen"]
    threshold = best_threshold(dev.labels, predict_memes(load_member(trained[0]), dev.memes, cache))
    assert run["threshold"] == threshold
    assert values(run["splits"]["test_seen"]) == pytest.approx(
        {
            "auroc": roc_auc_score(labels, table["proba"]),
            "accuracy": accuracy_score(labels, table["label"]),
            "accuracy_at_threshold": accuracy_score(labels, table["proba"] >= threshold),
            "macro_f1": f1_score(labels, table["label"], average="macro"),
        }
    )
    assert report["splits"] == {
        "dev_seen": {"memes": len(dev.labels), "hateful": int(dev.labels.sum())},
        "test_seen": {"memes": len(labels), "hateful": sum(labels)},
    }
    for metric in run["splits"]["test_seen"].values():
        assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
    assert evaluated(capsys, runs[0], "--data", phase_2) == report
    text = " ".join(said(capsys, runs[0], "--data", phase_2).split())
    assert "test_unseen: none of its" in text
    assert "were chosen on dev_seen, so dev_seen flatters the run" in text


def test_two_runs_are_averaged_combined_and_compared(runs, phase_2, capsys):
    report = evaluated(capsys, *runs, "--data", phase_2, "--splits", "test_seen", "train")
    assert list(report["splits"]) == ["test_seen", "train"]
    for name, found in report["mean"]["test_seen"].items():
        each = [run["splits"]["test_seen"][name]["value"] for run in report["runs"]]
        assert found["mean"] == pytest.approx(np.mean(each))
        assert found["std"] == pytest.approx(np.std(each, ddof=1))
        gap = report["difference"]["test_seen"][name]
        assert gap["value"] == pytest.approx(each[1] - each[0])
        assert gap["is_clear"] == (gap["low"] > 0 or gap["high"] < 0)
    assert cli.main(["evaluate", runs[0], runs[0], "--data", str(phase_2)]) == 0
    text = capsys.readouterr().out
    assert "test_seen, AUROC: the same." in text and "ensemble" in text.lower()
    three = evaluated(capsys, *runs, runs[0], "--data", phase_2)
    assert three["difference"] is None and len(three["runs"]) == 3


def test_the_papers_protocol(runs, phase_2, tmp_path, capsys):
    data = shutil.copytree(phase_2, tmp_path / "data", symlinks=True)
    shutil.copy(data / "test_seen.jsonl", data / "test_unseen.jsonl")
    shutil.copy(data / "train.jsonl", data / "dev_unseen.jsonl")
    report = evaluated(capsys, runs[0], "--data", data, "--protocol", "papers")
    assert list(report["splits"]) == ["dev_seen", "test_seen", "test_unseen"]
    chosen = f"{runs[0]}: its checkpoint was chosen on dev_seen+dev_unseen, not on dev_seen"
    assert any(chosen in note and "splits.val=dev_seen" in note for note in report["notes"])
    (data / "dev_unseen.jsonl").unlink()  # now validation is dev_seen alone
    report = evaluated(capsys, runs[0], "--data", data, "--protocol", "papers")
    assert not any("protocol" in note for note in report["notes"])
    refused = failed(capsys, runs[0], "--protocol", "papers", "--splits", "dev_seen")
    assert "leave --splits out" in refused


def test_a_submission_is_worth_its_run(runs, trained, phase_2, capsys):
    where = ["--data", phase_2, "--splits", "test_seen"]
    csv = trained[0] / "submission.csv"
    of_run = evaluated(capsys, runs[0], *where)["runs"][0]["splits"]["test_seen"]
    (found,) = evaluated(capsys, csv, *where)["runs"]
    assert found["threshold"] is None
    del of_run["accuracy_at_threshold"]
    assert found["splits"]["test_seen"] == of_run
    both = evaluated(capsys, runs[0], csv, *where)
    assert all(each["value"] == 0 for each in both["difference"]["test_seen"].values())
    assert "--splits dev_seen --data DIR" in failed(capsys, csv)
    wrong = failed(capsys, csv, "--data", phase_2, "--splits", "dev_seen")
    assert "It has no row for" in wrong and "of another split, or cut" in wrong


def test_a_run_of_another_model_is_told_the_way(runs, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder)
    state = checkpoints.load_checkpoint(folder / checkpoints.BEST)
    state["config"]["model"] = "mmbt"
    checkpoints.save_checkpoint(state, folder / checkpoints.BEST)
    message = failed(capsys, folder)
    assert "this is mmbt" in message
    assert f"mmf_predict config={folder}/config.yaml" in message
    assert "hm_concat evaluate dev_seen.csv --splits dev_seen --data DIR" in message


def test_what_labels_cannot_show_is_said(runs, phase_2, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    (data / "img").symlink_to((phase_2 / "img").resolve())
    memes = lines_of(phase_2 / "test_seen.jsonl")
    benign = [meme for meme in memes if meme["label"] == 0]
    ten = [*benign[:8], *[meme for meme in memes if meme["label"] == 1][:2]]
    write(data / "dev_seen.jsonl", benign)
    write(data / "test_seen.jsonl", ten)
    write(data / "test_unseen.jsonl", [{**m, "label": None} for m in memes[:3]] + memes[3:])
    report = evaluated(capsys, runs[0], "--data", data)
    splits, notes = report["runs"][0]["splits"], "\n".join(report["notes"])
    assert splits["dev_seen"]["auroc"]["value"] is None
    assert "dev_seen: all memes are benign, so AUROC is not defined." in notes
    assert splits["test_seen"]["auroc"]["low"] is None
    assert "test_seen: 2 hateful and 8 benign: too few for intervals" in notes
    assert "test_unseen: 3 memes without a label left out." in notes
    said(capsys, *runs, "--data", data)  # as a text, too
    (data / "test_seen.jsonl").unlink()
    (data / "dev_seen.jsonl").unlink()
    write(data / "test_unseen.jsonl", [{**meme, "label": None} for meme in memes])
    assert "no labels in test_unseen" in failed(capsys, runs[0], "--data", data)
    gone = failed(capsys, runs[0], "--data", data, "--splits", "dev_seen")
    assert "no files for dev_seen" in gone
    assert "does not exist" in failed(capsys, runs[0], "--data", tmp_path / "nowhere")

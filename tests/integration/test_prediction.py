"""mmf_predict on other splits, files and settings: what it writes, says and refuses."""

import json
import re
import shutil

import pandas as pd
import pytest

from mmf_hm_concat import cli
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.scoring import read_truth, score
from mmf_hm_concat.inference.submission import check_submission

pytestmark = pytest.mark.slow

SPLIT = "dataset_config.hm_competition.splits.test"


@pytest.fixture
def predict(trained, mmf, tmp_path):
    """`predict(test=..., "key=value", ...)` gives the path of the CSV and what was logged."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("best.ckpt", "text_model.bin"):
        (folder / name).hardlink_to(trained[0] / name)

    def run(test, *options):
        path = tmp_path / "out" / "predicted.csv"
        mmf(folder, f"{SPLIT}={test}", f"evaluation.predict_file={path}", *options, predict=True)
        return path, (folder / "train.log").read_text()

    return run


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def jsonl(path, memes):
    path.write_text("".join(json.dumps(meme) + "\n" for meme in memes))
    return path


def test_another_split_with_labels_is_one_override(predict, sample):
    path, log = predict("dev")
    memes = lines_of(sample / "dev.jsonl")
    assert check_submission(path, [int(meme["id"]) for meme in memes]) == []
    scores = score(path, read_truth(sample / "dev.jsonl"))
    assert f"accuracy {scores['accuracy']:.4f}" in log
    assert f"roc_auc {scores['auroc']:.4f}" in log


def test_a_file_anywhere_with_ids_of_both_kinds(predict, trained, sample, tmp_path):
    memes = lines_of(sample / "test.jsonl")[::-3]  # in another order, with gaps
    for meme in memes[::2]:
        meme["id"] = int(meme["id"])
    path, log = predict(jsonl(tmp_path / "own.jsonl", memes))
    assert check_submission(path, [int(meme["id"]) for meme in memes]) == []
    table, whole = (pd.read_csv(p, index_col="id") for p in (path, trained[0] / "submission.csv"))
    assert (table.proba == whole.proba[table.index]).all()
    assert "Against the labels" not in log
    count, share = len(table), table.label.mean()
    assert f"Wrote {path}: {count} memes, {share:.1%} labelled hateful, mean proba of the" in log


def test_threshold_and_form_of_the_ids(predict, sample, tmp_path):
    middle = pd.read_csv(predict("dev")[0]).proba.median()  # which CPU trained decides where it is
    options = [f"evaluation.threshold={middle}", "evaluation.id_format=padded"]
    micro_f1 = "evaluation.metrics=[{type: f1, params: {average: micro}}]"
    path, log = predict("dev", *options, micro_f1, f"env.report_dir={tmp_path / 'reports'}")
    memes = lines_of(sample / "dev.jsonl")
    table = pd.read_csv(path, dtype={"id": str})
    assert table.id.tolist() == [f"{int(meme['id']):05}" for meme in memes]
    assert (table.label == (table.proba >= middle)).all() and 0 < table.label.mean() < 1
    assert f"accuracy {(table.label == [meme['label'] for meme in memes]).mean():.4f}" in log
    assert "hm_competition/f1 0." in log and "hm_competition/macro_f1 0." in log
    (report,) = (pd.read_csv(each) for each in (tmp_path / "reports").iterdir())
    assert report.label.tolist() == table.label.tolist()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("evaluation.threshold=2", "evaluation.threshold = 2 .*: give a number"),
        ("evaluation.threshold=half", "evaluation.threshold = 'half' .*: give a number"),
        (
            "evaluation.id_format=string",
            "evaluation.id_format = 'string' .*: give number or padded",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_before_the_work(predict, option, message):
    with pytest.raises(InputError, match=message):
        predict("dev", option)


@pytest.mark.parametrize("label", [{}, {"label": None}, {"label": 1}])
def test_one_meme(predict, trained, sample, tmp_path, label):
    meme = {k: v for k, v in lines_of(sample / "test.jsonl")[4].items() if k != "label"}
    path, log = predict(jsonl(tmp_path / "one.jsonl", [{**meme, **label}]))
    whole = (trained[0] / "submission.csv").read_text().splitlines()
    assert path.read_text().splitlines() == [whole[0], whole[5]]
    assert "1 meme," in log
    assert bool(re.search(r"accuracy [01]\.0000, hm_competition/roc_auc nan", log)) == (
        label == {"label": 1}
    )


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_no_memes_are_refused(predict, tmp_path, content):
    (tmp_path / "none.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"test: no memes in .*none\.jsonl"):
        predict(tmp_path / "none.jsonl")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("image_cache", ["auto", "off"])
def test_broken_images_are_all_listed_before_the_work(predict, sample, tmp_path, image_cache):
    data = tmp_path / "data"
    shutil.copytree(sample / "img", data / "img")
    memes = lines_of(sample / "test.jsonl")
    jsonl(data / "test.jsonl", memes)
    broken = [data / meme["img"] for meme in memes[3:5]]
    broken[0].write_bytes(broken[0].read_bytes()[:200])
    broken[1].write_text("no image")
    options = [
        f"dataset_config.hm_competition.data_dir={data}",
        f"dataset_config.hm_competition.image_cache={image_cache}",
    ]
    with pytest.raises(InputError, match=r"2 of .* images cannot be used") as error:
        predict("test", *options)
    assert all(str(path) in str(error.value) for path in broken)
    assert not (tmp_path / "out").exists()
    options += ["dataset_config.hm_competition.on_bad_image=blank"]
    path, log = predict("test", *options)
    assert check_submission(path, [int(meme["id"]) for meme in memes]) == []
    assert "grey ones stand in for them" in log


def test_validation_alone_gives_the_metrics_of_the_training(trained, mmf, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("best.ckpt", "text_model.bin"):
        (tmp_path / "run" / name).hardlink_to(trained[0] / name)
    mmf(tmp_path / "run", "run_type=val")
    log = (tmp_path / "run" / "train.log").read_text()
    best = [line for line in trained[1].splitlines() if "Best checkpoint on val" in line][-1]
    assert best.split("Best checkpoint")[1] in log


def test_ensemble_of_submissions(trained, predict, sample, tmp_path, capsys):
    first = trained[0] / "submission.csv"
    second = shutil.copy(first, tmp_path / "second.csv")
    table = pd.read_csv(second)
    table.proba = 1 - table.proba / 2
    table.label = (table.proba >= 0.5).astype(int)
    table.to_csv(second, index=False)
    out = tmp_path / "both.csv"
    command = ["ensemble", str(trained[0]), str(second), "--out", str(out), "--data", str(sample)]
    assert cli.main(command) == 0
    assert f"Wrote {out}: {len(table)} memes" in capsys.readouterr().out
    mean = pd.read_csv(out)
    expected = (pd.read_csv(first).proba + table.proba) / 2
    assert mean.proba.tolist() == pytest.approx(expected.tolist())
    assert cli.main([*command, "--by", "rank"]) == 0
    assert pd.read_csv(out).proba.tolist() == pytest.approx([0.5] * len(table))
    before = out.read_bytes()
    table[1:].to_csv(second, index=False)
    assert cli.main(command) == 1
    assert f"{second}: cannot be combined with others. 1 id is missing" in capsys.readouterr().err
    assert out.read_bytes() == before

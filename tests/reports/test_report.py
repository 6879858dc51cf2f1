"""`hm_concat report`: numbers that can be checked, pages for every kind of run, blur, browser."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CHROMIUM, screenshot
from PIL import Image
from sklearn.metrics import accuracy_score, roc_auc_score
from torch import nn

from mmf_hm_concat import MemeClassifier
from mmf_hm_concat.cli import main
from mmf_hm_concat.data.synthetic import make_sample
from mmf_hm_concat.encoders.image_preprocessing import IMAGENET
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.member import load_member
from mmf_hm_concat.models.fusions import Concat
from mmf_hm_concat.models.network import FusionNetwork
from mmf_hm_concat.reports.calibration import (
    expected_calibration_error,
    fit_temperature,
    with_temperature,
)
from mmf_hm_concat.reports.group_scores import pairs_right
from mmf_hm_concat.reports.learning_curves import learning_curves
from mmf_hm_concat.reports.mistakes import nearest
from mmf_hm_concat.reports.report import write_report
from mmf_hm_concat.reports.run_memes import predict
from mmf_hm_concat.reports.saliency import saliency, words_that_matter


def sigmoid(logit):
    return 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize("factor", [3.0, 0.4])
def test_temperature_scaling_undoes_a_planted_miscalibration(factor):
    generator = np.random.default_rng(0)
    logit = generator.normal(size=20_000) * 1.5
    label = (generator.random(20_000) < sigmoid(logit)).astype(int)
    planted = sigmoid(factor * logit)
    temperature = fit_temperature(label[:10_000], planted[:10_000])
    assert temperature == pytest.approx(factor, rel=0.05)
    scaled = with_temperature(planted[10_000:], temperature)
    assert expected_calibration_error(label[10_000:], planted[10_000:]) > 0.08
    assert expected_calibration_error(label[10_000:], scaled) < 0.02
    assert (scaled >= 0.5).tolist() == (planted[10_000:] >= 0.5).tolist()


def test_calibration_error_is_the_mean_over_memes():
    # Bins 0.0 to 0.1 and 0.9 to 1: three memes off by |1/3 - 0.05|, one by |1 - 0.95|.
    label, proba = np.array([0, 0, 1, 1]), np.array([0.05, 0.05, 0.05, 0.95])
    expected = (3 * (1 / 3 - 0.05) + 0.05) / 4
    assert expected_calibration_error(label, proba) == pytest.approx(expected)


def test_pairs_count_ties_half():
    label, proba = np.array([1, 0, 0, 0]), np.array([0.5, 0.5, 0.4, 0.6])
    assert pairs_right(label, proba) == (1.5, 3)


class TopLeft(nn.Module):
    """Features of the upper left quarter of an image alone."""

    preprocessing = IMAGENET

    def forward(self, image_B3HW):
        size = image_B3HW.shape[-1] // 2
        return image_B3HW[..., :size, :size].mean(dim=(1, 2, 3))[:, None]


def member_of(vision):
    head = nn.Linear(1, 2)
    network = FusionNetwork(None, vision, Concat([1]), head).eval()
    cpu = torch.device("cpu")
    return SimpleNamespace(network=network, preprocessing=IMAGENET, device=cpu)


def test_saliency_lies_where_the_network_looks():
    pixels = torch.full((3, 16, 16), 200, dtype=torch.uint8)
    found = saliency(member_of(TopLeft()), None, pixels)
    assert found.shape == (16, 16)
    assert (found[:8, :8] > 0).all()
    assert found.sum() == pytest.approx(found[:8, :8].sum())


def test_an_encoder_without_gradient_has_no_saliency():
    class Detached(TopLeft):
        def forward(self, image_B3HW):
            return super().forward(image_B3HW.detach())

    member = member_of(Detached())
    for parameter in member.network.parameters():
        parameter.requires_grad = False
    assert saliency(member, None, torch.zeros(3, 16, 16, dtype=torch.uint8)) is None


def test_a_run_without_metrics_file_is_told_so():
    not_shown = []
    assert learning_curves([], not_shown).blocks == ()
    assert "metrics.jsonl" in not_shown[0]


# ---- real runs ----


@pytest.fixture(scope="module")
def memes(tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "memes"
    make_sample(out, memes=400)
    return out


@pytest.fixture(scope="module")
def run(mmf, memes, tmp_path_factory):
    """A run that has learnt the sample."""
    folder = tmp_path_factory.mktemp("report") / "run"
    # fp32, so that it learns the same on every kind of CPU.
    options = [f"dataset_config.hm_competition.data_dir={memes}", "training.max_epochs=8"]
    mmf(folder, "run_type=train_val", "training.precision=fp32", *options)
    return folder


def report_of(run, cache, **more):
    lines = []
    page = write_report(run, cache_dir=cache, log=lines.append, **more)
    numbers = json.loads((page.parent / "report.json").read_text())
    return page.read_text(), numbers, "\n".join(lines)


@pytest.mark.slow
def test_numbers_are_those_of_the_predictions_and_each_modality_alone_tells_nothing(
    run, memes, cache
):
    html, numbers, text = report_of(run, cache)
    dev = pd.read_json(memes / "dev.jsonl", lines=True)
    proba = MemeClassifier.load(run)([memes / img for img in dev.img], dev.text.tolist())
    found = predict(load_member(run), dev.assign(path=[f"{memes}/{i}" for i in dev.img]), cache)
    assert found.proba.tolist() == proba
    assert numbers["metrics"]["auroc"] == pytest.approx(roc_auc_score(dev.label, proba))
    assert numbers["metrics"]["accuracy"] == accuracy_score(dev.label, np.array(proba) >= 0.5)
    of = {name: each["auroc"] for name, each in numbers["ablation"].items()}
    assert of.pop("image and text") >= 0.95
    assert len(of) == 4 and all(0.4 <= auroc <= 0.6 for auroc in of.values())
    assert "this run uses both" in html
    groups = numbers["confounders"]
    assert groups["the same text, other images"]["pairs_right"] >= 0.9
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert numbers["learning_curves"] == records
    for name in ("loss", "metrics", "roc", "precision_recall", "confusion", "calibration"):
        assert (run / f"report/{name}.png").is_file()
    assert "AUROC" in text
    first = {file.name: file.read_bytes() for file in (run / "report").iterdir()}
    report_of(run, cache)
    assert first == {file.name: file.read_bytes() for file in (run / "report").iterdir()}


@pytest.mark.slow
def test_a_training_ends_with_its_report_and_well_where_that_fails(mmf, tmp_path, monkeypatch):
    options = ["run_type=train_val", "training.report=true", "training.max_epochs=1"]
    mmf(tmp_path / "run", *options)
    numbers = json.loads((tmp_path / "run/report/report.json").read_text())
    assert numbers["split"] == "val" and len(numbers["learning_curves"]) == 1

    def fail(*arguments, **more):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("mmf_hm_concat.reports.report.write_page", fail)
    mmf(tmp_path / "other", *options)
    assert (tmp_path / "other/best.ckpt").is_file()
    log = (tmp_path / "other/train.log").read_text()
    assert "The report could not be written: out of memory" in log and "hm_concat report" in log


@pytest.mark.slow
def test_a_run_of_another_model_of_mmf_has_what_needs_no_network(mmf, cache, tmp_path):
    options = ["training.report=true", "training.max_epochs=1"]
    dev = "dataset_config.hm_competition.splits.test=dev"
    mmf(tmp_path, "run_type=train_val", *options, project="mmf/unimodal_text")
    page = tmp_path / "report/index.html"
    assert "all but the learning curves" in page.read_text()
    mmf(tmp_path, dev, predict=True, project="mmf/unimodal_text")
    _, numbers, text = report_of(tmp_path, cache)
    assert "ablation, neighbours, saliency and words: only MMF" in text
    dev = pd.read_csv(tmp_path / "submission.csv")
    assert numbers["memes"] == len(dev) and 0 <= numbers["metrics"]["auroc"] <= 1


@pytest.mark.slow
def test_reasons_are_those_of_the_network(run, memes, cache):
    member, classifier = load_member(run), MemeClassifier.load(run)
    train = pd.read_json(memes / "train.jsonl", lines=True)
    train = train.assign(path=[f"{memes}/{img}" for img in train.img], number=train.id)
    training = predict(member, train, cache)
    (((first, similarity), *_),) = nearest(member, training.features.rows([5]), training, [-1])
    assert (first, round(similarity, 4)) == (5, 1.0)
    (((other, _), *_),) = nearest(member, training.features.rows([5]), training, [train.number[5]])
    assert other != 5
    text = train.text[5]
    image_ND = training.features.rows([5]).image_ND
    (words,) = words_that_matter(member, [text], image_ND, training.proba[[5]], most=99)
    assert {word for word, _ in words} == set(text.split())
    for word, without in words[:2]:
        rest = " ".join(each for each in text.split() if each != word)
        assert classifier(train.path[5], rest) == pytest.approx(without, abs=1e-6)
    changes = [abs(without - training.proba[5]) for _, without in words]
    assert changes == sorted(changes, reverse=True)


def dev_of(memes, folder, change, images=True):
    """A data set with those dev memes alone that ``change`` makes of the sample's."""
    folder.mkdir()
    rows = map(json.loads, (memes / "dev.jsonl").read_text().splitlines())
    (folder / "dev.jsonl").write_text("\n".join(map(json.dumps, change(list(rows)))))
    if images:
        (folder / "img").symlink_to(memes / "img")
    else:
        (folder / "img").mkdir()
    return folder


def unlabelled(rows):
    return [{key: row[key] for key in ("id", "img", "text")} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, images, missing",
    [
        (unlabelled, True, "the val split has no labels"),
        (lambda rows: [row for row in rows if row["label"]], True, "memes of val are hateful"),
        (lambda rows: rows[:10], True, "the train split"),
        (lambda rows: rows, False, "it has no meme that can be predicted"),
        (lambda rows: [*rows, {"id": 3}], True, "1 line left out"),
    ],
)
def test_the_page_says_what_it_could_not_show(run, memes, cache, tmp_path, change, images, missing):
    data = dev_of(memes, tmp_path / "data", change, images)
    html, numbers, text = report_of(run, cache, data_dir=data)
    assert missing in text
    assert any(missing in line for line in numbers["not_shown"])
    assert missing in html.split("</ul>")[0]


@pytest.mark.slow
@pytest.mark.parametrize("absent, other", [("vision", "text"), ("language", "image")])
def test_a_run_of_one_modality(mmf, cache, tmp_path, absent, other):
    mmf(tmp_path, f"model_config.concat_vl.{absent}=null", "training.max_epochs=1")
    _, numbers, text = report_of(tmp_path, cache)
    gone = {"vision": "image", "language": "text"}[absent]
    assert f"this run has no {gone} branch" in text
    assert len(numbers["ablation"]) == 3
    # Every text and every image of dev comes once with each label.
    assert numbers["metrics"]["auroc"] == 0.5
    shared = {"text": "the same text, other images", "image": "images that look alike, other texts"}
    assert numbers["confounders"][shared[other]]["pairs_right"] == 0.5


@pytest.mark.slow
def test_hateful_memes_are_blurred_until_one_asks(run, cache):
    html, _, _ = report_of(run, cache, split="train")
    assert 'id="unblur">' in html
    cards = [part.split("</figure>")[0] for part in html.split('<figure class="card">')[1:]]
    assert len(cards) >= 8
    for card in cards:
        own, near = card.split('<div class="near">')
        if "label: hateful" in own:  # image, where it looked, text, and at least one word
            assert own.count('class="blurred"') >= 4
        for each in near.split('<div class="image">')[1:]:
            assert ('class="blurred"' in each) == ("hateful, similarity" in each)
    assert 'id="unblur" checked>' in report_of(run, cache, split="train", unblur=True)[0]


@pytest.mark.slow
def test_the_command_and_its_errors(run, memes, cache, tmp_path, capsys):
    assert main(["report", str(run), "--split", "dev"]) == 0
    assert f"The page is {run / 'report/index.html'}" in capsys.readouterr().out
    assert main(["report", str(run), "--split", "dev_seen"]) == 1
    assert "no files for dev_seen" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 1
    assert "best.ckpt" in capsys.readouterr().err
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "metrics.jsonl").unlink()
    shutil.rmtree(copy / "report")
    (copy / "report").write_text("")
    with pytest.raises(InputError, match="cannot be written there"):
        report_of(copy, cache)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_it_without_a_word_on_its_console(run, cache, tmp_path, width):
    report_of(run, cache)
    png, console = screenshot(run / "report/index.html", tmp_path, width, 9000)
    assert "CONSOLE" not in console, console
    with Image.open(png) as shot:
        inside = shot.convert("RGB").crop((0, 0, width, 9000))
        assert len(inside.getcolors(1 << 25)) > 1000  # plots and memes, not an error

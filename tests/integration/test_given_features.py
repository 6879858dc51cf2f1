"""`features_file`: vectors made elsewhere in place of an encoder, through the commands' code."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mmf_hm_concat import MemeClassifier
from mmf_hm_concat.data.layout import find_layout
from mmf_hm_concat.data.table import read_splits
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.export import export
from mmf_hm_concat.inference.member import load_member
from mmf_hm_concat.inference.splits import predict_memes
from mmf_hm_concat.reports.evaluation import evaluate
from mmf_hm_concat.reports.report import write_report

VISION = "model_config.concat_vl.vision.features_file"
LANGUAGE = "model_config.concat_vl.language.features_file"


BOW = "model_config.concat_bow"


def labels(sample):
    """id -> label of all memes of a sample."""
    rows = [json.loads(x) for s in ("train", "dev") for x in (sample / f"{s}.jsonl").open()]
    truth = pd.read_csv(sample / "test_truth.csv")
    return {int(row["id"]): row["label"] for row in rows} | dict(
        zip(truth.id, truth.label, strict=True)
    )


def image_vectors(ids, known, width=12):
    """Vectors that tell the label, in numbers that only standardised tell anything."""
    signal = np.array([known[number] for number in ids])[:, None] * np.eye(width)[3]
    noise = np.array([np.random.default_rng(number).standard_normal(width) for number in ids])
    return (5 + 0.001 * (noise + 6 * signal)).astype(np.float32)


@pytest.fixture(scope="module")
def files(sample, tmp_path_factory):
    """An .npz for the images, one for those of the test split alone, and a .parquet of noise."""
    folder, known = tmp_path_factory.mktemp("vectors"), labels(sample)
    ids = np.random.default_rng(0).permutation(list(known))
    test = [int(json.loads(x)["id"]) for x in (sample / "test.jsonl").open()][::-1]
    np.savez(folder / "image.npz", ids=ids, features=image_vectors(ids, known))
    np.savez(
        folder / "test.npz", ids=[f"{n:05}" for n in test], features=image_vectors(test, known)
    )
    scaled = (image_vectors(ids, known) - 5) * 1000
    np.savez(folder / "scaled.npz", ids=ids, features=scaled)
    np.savez(folder / "wide.npz", ids=test, features=image_vectors(test, known, width=13))
    noise = np.random.default_rng(1).standard_normal((len(ids), 7), np.float32)
    pd.DataFrame({"id": ids, "vector": list(noise)}).to_parquet(folder / "text.parquet")
    return folder


@pytest.fixture(scope="module")
def run(mmf, files, tmp_path_factory):
    """(folder, log): a run of both branches' vectors, and its submission."""
    folder = tmp_path_factory.mktemp("run") / "run"
    options = [f"{VISION}={files}/image.npz", f"{LANGUAGE}={files}/text.parquet"]
    mmf(folder, *options, "training.max_epochs=4", "optimizer.params.lr=0.002")
    mmf(folder, *options, predict=True)
    return folder, (folder / "train.log").read_text()


def predicted(run):
    return (run / "submission.csv").read_bytes()


@pytest.mark.slow
def test_a_run_of_given_vectors_learns_from_them_and_says_what_it_cannot_do(run, sample):
    folder, log = run
    assert "78 of its 94 vectors of 12 numbers" in log
    assert "This run cannot score new memes without their vectors" in log
    assert f"to mmf_predict: {LANGUAGE}=FILE {VISION}=FILE." in log
    written = pd.read_csv(folder / "submission.csv")
    truth = written.id.map(labels(sample)).to_numpy()
    assert roc_auc_score(truth, written.proba) > 0.9
    assert not (folder / "text_model.bin").exists()  # no text is read


@pytest.mark.slow
def test_a_file_of_the_test_split_alone_predicts_the_same_bytes(run, mmf, files):
    folder, _ = run
    before = predicted(folder)
    options = [f"{VISION}={files}/test.npz", f"{LANGUAGE}={files}/text.parquet"]
    mmf(folder, *options, "training.num_workers=2", predict=True)
    assert predicted(folder) == before
    assert "another config" not in (folder / "train.log").read_text()


@pytest.mark.slow
def test_vectors_that_do_not_fit_the_run_are_one_message(run, mmf, files, tmp_path):
    folder, _ = run
    text = f"{LANGUAGE}={files}/text.parquet"
    with pytest.raises(InputError, match=r"wide\.npz has vectors of 13 .*trained with 12"):
        mmf(folder, f"{VISION}={files}/wide.npz", text, predict=True)
    missing = (
        r"features_file: .*test\.npz has no vector for \d+ of the \d+ memes of the train split"
    )
    with pytest.raises(InputError, match=missing):
        mmf(tmp_path, f"{VISION}={files}/test.npz", text)


@pytest.mark.slow
@pytest.mark.parametrize("use", [MemeClassifier.load, lambda run: export(run, run / "x.onnx")])
def test_what_takes_no_vectors_says_so(run, use):
    with pytest.raises(
        InputError, match=rf"{run[0]}: this run does not read texts, but a vector.*{LANGUAGE}=FILE"
    ):
        use(run[0])


@pytest.mark.slow
def test_the_tools_that_know_the_ids_give_the_same_as_mmf_predict(run, sample, cache):
    folder, _ = run
    test = find_layout(sample, {"test": "test"}, cache_dir=cache, needed=("test",))
    memes = read_splits(test, labels={})["test"]
    written = pd.read_csv(folder / "submission.csv").proba.tolist()
    assert predict_memes(load_member(folder), memes, cache).tolist() == written
    found = evaluate([str(folder)], data=str(sample), splits=["dev"], cache_dir=cache)
    best = json.loads((folder / "results.json").read_text())["val"]["hm_competition/roc_auc"]
    assert found["runs"][0]["splits"]["dev"]["auroc"]["value"] == pytest.approx(best)


@pytest.mark.slow
def test_the_report_of_given_vectors_shows_which_branch_matters(run, sample, cache):
    page = write_report(run[0], data_dir=sample, cache_dir=cache, log=lambda lines: None)
    report = json.loads((page.parent / "report.json").read_text())
    ablation = report["ablation"]
    assert ablation["image and text"]["auroc"] > 0.9
    assert ablation["the mean image"]["auroc"] < 0.7  # the label is in the image's vectors alone
    assert ablation["no text"]["auroc"] > 0.9
    assert (
        "where it looked in the image: this run takes vectors, not images." in report["not_shown"]
    )
    assert "words that matter: this run takes vectors, not texts." in report["not_shown"]


@pytest.mark.slow
def test_a_changed_vector_changes_its_own_meme_alone(run, mmf, files, tmp_path):
    folder, _ = run
    before = pd.read_csv(folder / "submission.csv")
    given = np.load(files / "test.npz")
    features = given["features"].copy()
    features[0] += 0.01
    np.savez(tmp_path / "other.npz", ids=given["ids"], features=features)
    options = [f"{VISION}={tmp_path}/other.npz", f"{LANGUAGE}={files}/text.parquet"]
    mmf(folder, *options, f"evaluation.predict_file={tmp_path}/other.csv", predict=True)
    after = pd.read_csv(tmp_path / "other.csv")
    changed = before.id[before.proba != after.proba].tolist()
    assert changed == [int(given["ids"][0])]


@pytest.fixture(scope="module")
def bow(mmf, files):
    """Train MMF's concat_bow by its project, on vectors of 12 numbers and of 7."""
    return lambda folder, *options, **more: mmf(
        folder,
        f"{BOW}.modal_encoder.features_file={files}/scaled.npz",
        f"{BOW}.modal_encoder.params.in_dim=12",
        f"{BOW}.text_encoder.features_file={files}/text.parquet",
        f"{BOW}.text_hidden_size=7",
        *options,
        project="mmf/concat_bow_features",
        **more,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoder", [[], [f"{BOW}.modal_encoder.type=default", f"{BOW}.modal_hidden_size=12"]]
)
def test_a_model_of_mmf_learns_from_given_vectors(bow, sample, tmp_path, encoder):
    options = [*encoder, "training.max_epochs=6", "optimizer.params.lr=0.01"]
    bow(tmp_path, *options)
    bow(tmp_path, *options, predict=True)
    written = pd.read_csv(tmp_path / "submission.csv")
    truth = written.id.map(labels(sample)).to_numpy()
    assert roc_auc_score(truth, written.proba) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "key"),
    [
        ([f"{BOW}.text_hidden_size=8"], r"text_hidden_size = 8: .*parquet has vectors of 7"),
        ([f"{BOW}.modal_encoder.params.in_dim=11"], r"in_dim = 11: .*npz has vectors of 12"),
        (
            [f"{BOW}.modal_encoder.type=default", f"{BOW}.modal_hidden_size=13"],
            r"modal_hidden_size = 13: .*npz has vectors of 12",
        ),
    ],
)
def test_another_width_in_the_config_of_a_model_of_mmf_is_told(bow, tmp_path, options, key):
    with pytest.raises(InputError, match=rf"model_config\.concat_bow\..*{key}"):
        bow(tmp_path, *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([f"{VISION}=gone.npz"], r"vision\.features_file = 'gone.npz' .*there is no such file"),
        ([f"{VISION}=README.md"], r"ends in \.npz or \.parquet"),
        (
            [
                f"{LANGUAGE}=a.npz",
                "model_config.concat_vl.language.mmf_encoder={'type': 'identity'}",
            ],
            r"language\.features_file .*mmf_encoder is given as well",
        ),
    ],
)
def test_a_wrong_features_file_is_told_before_anything_is_read(build, options, message):
    with pytest.raises(InputError, match=message):
        build(*options)


def test_names_and_widths_of_an_encoder_do_not_matter_beside_vectors(build, files):
    build(
        f"{VISION}={files}/image.npz",
        "model_config.concat_vl.vision.weights=/gone.pt",
        "dataset_config.hm_competition.image_size=1",
        f"{LANGUAGE}={files}/text.parquet",
        "dataset_config.hm_competition.processors.text_processor=null",
    )


def test_the_network_takes_vectors_in_place_of_inputs(files):
    from mmf_hm_concat.models.build import build_network

    branch = {"features_file": "x.npz", "in_features": 12, "out_features": 8}
    head = {"fusion": "concat", "fusion_features": 4, "head_layers": 1, "dropout": 0.1}
    more = {"fusion_dropout": 0.0, "projection_dropout": 0.0, "num_classes": 2}
    network = build_network(
        {"language": None, "vision": branch, "standardize_text": True, **head, **more}
    ).eval()
    vectors = torch.from_numpy(np.load(files / "image.npz")["features"])
    assert network(None, None, {"vision": vectors}).shape == (len(vectors), 2)

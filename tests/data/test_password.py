"""The archive's password opens it, and is neither printed nor kept in anything a run leaves."""

import io
import shutil
import tarfile

import pytest
import torch
from conftest import ROOT
from zipcrypto import encrypted_zip

pytestmark = pytest.mark.slow

PASSWORD = "0Geheim=7"  # looks like a number and holds a `=`
KEY = "dataset_config.hm_competition.zip_password"


@pytest.fixture(scope="module")
def archive(sample, tmp_path_factory):
    """The sample as it is downloaded: a zip with a password, the images in img.tar.gz."""
    images = io.BytesIO()
    with tarfile.open(fileobj=images, mode="w:gz") as tar:
        tar.add(sample / "img", "img")
    files = {f"hm/{path.name}": path.read_bytes() for path in sample.glob("*.jsonl")}
    files["hm/img.tar.gz"] = images.getvalue()
    return encrypted_zip(tmp_path_factory.mktemp("zip") / "hm.zip", files, PASSWORD)


def holding(folder, secret):
    """The files below a folder in which a secret is found."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if secret.encode() in path.read_bytes()]


def test_on_the_command_line(command, archive, cache, tmp_path):
    done = command(
        "mmf_run",
        tmp_path / "run",
        "training.max_updates=1",
        f"dataset_config.hm_competition.data_dir={archive}",
        f"{KEY}={PASSWORD}",
    )
    assert "unpacking" in done.stdout and "Next: mmf_predict" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr
    assert torch.load(tmp_path / "run" / "best.ckpt", weights_only=True)["config"]
    assert holding(tmp_path / "run", PASSWORD) == holding(cache, PASSWORD) == []


def test_in_the_yaml(mmf, archive, cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HM_ZIP_PASSWORD", "the YAML's counts more")
    shutil.rmtree(cache / "mmf_hm_concat" / "unpacked", ignore_errors=True)
    own = tmp_path / "own.yaml"
    own.write_text(
        f"includes: [{ROOT}/projects/concat/sample.yaml]\n"
        f"dataset_config: {{hm_competition: {{zip_password: '{PASSWORD}'}}}}\n"
    )
    data = f"dataset_config.hm_competition.data_dir={archive}"
    mmf(tmp_path / "run", f"config={own}", data, "training.max_updates=1")
    assert PASSWORD not in "".join(capsys.readouterr())
    assert holding(tmp_path / "run", PASSWORD) == holding(cache, PASSWORD) == []

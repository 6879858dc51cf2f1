"""`hm_concat cache`: what lies in the cache, what nothing reads any more, and what is removed."""

import json
import os
import tarfile
import time

import pytest
from filelock import FileLock
from PIL import Image

from mmf_hm_concat.cli import main
from mmf_hm_concat.data.layout import find_layout
from mmf_hm_concat.encoders.fasttext_model import fit_text_model
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.cache import ImageCache
from mmf_hm_concat.reports.cache import clear_cache, list_cache
from mmf_hm_concat.utils.files import LEFT_OVER_AFTER


@pytest.fixture
def folder(tmp_path):
    """A cache with an image, a text model and an unpacked archive, made by what makes them."""
    cache, data = tmp_path / "cache", tmp_path / "data"
    data.mkdir()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "1.png")
    with tarfile.open(data / "img.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "1.png", "img/1.png")
    (data / "train.jsonl").write_text('{"id": 1, "img": "img/1.png", "text": "a", "label": 0}')
    find_layout(data, {"train": "train"}, cache_dir=cache, needed=())
    ImageCache([str(tmp_path / "1.png")], 8, cache, "error", "bilinear")
    fit_text_model(["one text and another"], epochs=1, dim=4, bucket=100, cache_dir=cache)
    return cache


def by_kind(folder):
    return {each.name.split("-")[0]: each for each in list_cache(folder)}


def test_what_lies_there_is_listed_and_all_of_it_is_in_use(folder, tmp_path):
    found = by_kind(folder)
    assert {*found} == {"images", "text", "unpacked/img"}
    assert found["unpacked/img"].what == f"unpacked {tmp_path}/data/img.tar.gz"
    assert all(each.old is None and each.bytes > 0 for each in found.values())
    assert all(abs(each.used - time.time()) < 600 for each in found.values())
    before = sorted(folder.rglob("*"))
    assert clear_cache(folder, ["old"]) == ([], [])
    assert sorted(folder.rglob("*")) == before


def test_what_nothing_reads_any_more_is_old_and_removed(folder, tmp_path, monkeypatch):
    kept = by_kind(folder)["text"].name
    (tmp_path / "data/img.tar.gz").write_bytes(b"another one")
    (folder / ".text-0.bin.12345678.tmp").write_bytes(b"of a process that was killed")
    os.utime(folder / ".text-0.bin.12345678.tmp", (time.time() - LEFT_OVER_AFTER - 9,) * 2)
    (folder / ".text-1.bin.12345678.tmp").write_bytes(b"of a process that is writing it")
    (folder / "text-0123456789abcdef.lock").touch()
    (folder / "features-1").mkdir()
    (folder / "notes.md").write_text("of the user")
    monkeypatch.setattr("PIL.__version__", "99.0")
    old = {each.name: each.old for each in list_cache(folder) if each.old}
    assert sorted(old.values())[:3] == [
        "a lock without a file",
        "a process was killed",
        f"of another decoder, Pillow {next(iter(folder.glob('images-*'))).name.split('pillow')[1]}",
    ]
    assert sorted(old.values())[3:] == [
        "the archive has changed",
        "their identity.json is missing or damaged",
    ]
    removed, busy = clear_cache(folder, ["old"])
    assert {each.name for each in removed} == {*old} and not busy
    left = {path.name for path in folder.iterdir()}
    of_text = {f"{kept}.{ending}" for ending in ("bin", "sha256", "lock")}
    assert left == {".text-1.bin.12345678.tmp", "notes.md", "unpacked", *of_text}
    assert not [*(folder / "unpacked").iterdir()]


def test_what_is_removed_is_made_again(folder, tmp_path):
    clear_cache(folder, ["all"])
    assert [path.name for path in folder.rglob("*")] == ["unpacked"]
    cached = ImageCache([str(tmp_path / "1.png")], 8, folder, "error", "bilinear")
    assert cached.batch([0])[0, :, 0, 0].tolist() == [1, 2, 3]


def test_what_a_process_is_writing_is_kept(folder, capsys):
    images = by_kind(folder)["images"]
    with FileLock(folder / images.name / "lock"):
        assert main(["cache", "--dir", str(folder), "--clear", "all"]) == 1
        assert f"{images.name}: kept, a process is writing it." in capsys.readouterr().out
    assert {*by_kind(folder)} == {"images"}
    assert main(["cache", "--dir", str(folder), "--clear", images.name]) == 0
    assert list_cache(folder) == []


def test_links_lead_nowhere(folder, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (folder / "features-2").symlink_to(tmp_path / "precious")
    (folder / "text-0123.bin").symlink_to(tmp_path / "precious" / "file")
    clear_cache(folder, ["all"])
    assert (tmp_path / "precious" / "file").is_file()


def test_the_command(folder, tmp_path, capsys, monkeypatch):
    assert main(["cache", "--dir", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "fitted text model" in said and "MB  last used 20" in said and "old" not in said
    assert main(["cache", "--dir", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["what"] for each in found} >= {"decoded images", "fitted text model"}
    assert main(["cache", "--dir", str(folder), "--clear", "nothing"]) == 1
    assert "has no nothing. Name one that `hm_concat cache` lists" in capsys.readouterr().err
    monkeypatch.setenv("MMF_CACHE_DIR", str(tmp_path / "none"))
    assert main(["cache"]) == 0
    assert f"{tmp_path}/none/mmf_hm_concat: nothing is cached there." in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_a_cache_of_another_user_is_left_alone(folder):
    os.chown(folder, 12345, 12345)
    with pytest.raises(InputError, match="belongs to another user"):
        clear_cache(folder, ["all"])

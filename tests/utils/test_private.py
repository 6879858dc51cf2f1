"""A cache that others can write into: links, and what belongs to somebody else, are refused."""

import os
import stat
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmf_hm_concat.data.layout import find_layout
from mmf_hm_concat.encoders.fasttext_model import fit_text_model
from mmf_hm_concat.encoders.word_vectors import cut_word_vectors
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.store import ImageStore
from mmf_hm_concat.utils.private import check_private, make_private

TEXTS = ["look at the dog", "good dog"]


def text_model(source, cache):
    fit_text_model(TEXTS, dim=4, epochs=1, bucket=10, cache_dir=cache)


def word_vectors(source, cache):
    if not (source / "words.vec").exists():
        (source / "words.vec").write_text("dog 1 2\ngood 3 4\n")
    cut_word_vectors(source / "words.vec", TEXTS, cache)


def images(source, cache):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(source / "1.png")
    list(ImageStore(cache, 8).add([str(source / "1.png")]))


def archive(source, cache):
    if not (source / "img.tar.gz").exists():
        (source / "img").mkdir()
        (source / "img" / "1.png").write_bytes(b"image")
        (source / "test.jsonl").write_text("{}")
        with tarfile.open(source / "img.tar.gz", "w:gz") as tar:
            tar.add(source / "img", "img")
        (source / "img" / "1.png").unlink()
    find_layout(source, {"test": "test"}, cache_dir=cache, needed=())


USERS = [text_model, word_vectors, images, archive]


@pytest.fixture(params=USERS, ids=lambda user: user.__name__)
def use(request, tmp_path):
    """Use the cache in tmp_path/cache."""
    (tmp_path / "source").mkdir()
    return lambda: request.param(tmp_path / "source", tmp_path / "cache")


def others(path, monkeypatch):
    """Let a path belong to somebody else, and to this one all that is made from now on."""
    if os.geteuid() == 0:
        os.lchown(path, 4321, -1)
    else:  # which cannot give files away
        monkeypatch.setattr(os, "geteuid", lambda: 4321)


def entries(cache):
    """All that a filled cache holds, but for the images themselves, which are in a folder."""
    return [path for path in cache.rglob("*") if "img" not in path.parts]


def test_what_is_made_is_for_this_user_alone(use, tmp_path):
    before = os.umask(0)
    try:
        use()
    finally:
        os.umask(before)
    folders = [tmp_path / "cache", *(p for p in entries(tmp_path / "cache") if p.is_dir())]
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in folders} == {"0o700"}


def test_a_link_in_place_of_anything_is_refused_and_nothing_is_written_through_it(use, tmp_path):
    use()
    for path in entries(tmp_path / "cache"):
        kept, target = path.rename(tmp_path / "kept"), tmp_path / "target"
        for content in (kept, None):
            if content is None:
                target.write_text("precious")
            path.symlink_to(content or target)
            with pytest.raises(InputError, match=f"{path}: is a link.*MMF_CACHE_DIR"):
                use()
            path.unlink()
        assert target.read_text() == "precious"
        kept.rename(path)
    use()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_somebody_else_is_refused(use, tmp_path):
    use()
    for path in [tmp_path / "cache", *entries(tmp_path / "cache")]:
        os.chown(path, 4321, -1)
        with pytest.raises(InputError, match=f"{path}: belongs to another user .number 4321"):
            use()
        os.chown(path, 0, -1)
    use()


def test_a_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    make_private(tmp_path / "cache")
    others(tmp_path / "cache", monkeypatch)
    with pytest.raises(InputError, match="belongs to another user"):
        check_private(tmp_path / "cache")


def test_what_others_put_into_a_folder_that_they_can_write_is_refused(tmp_path):
    folder = tmp_path / "unpacked" / "img"
    folder.mkdir(parents=True)
    (folder / "1.png").symlink_to("/etc/passwd")
    check_private(tmp_path, "unpacked")  # nobody else can have put it there
    for path in (folder, folder.parent):
        path.chmod(0o777)
    with pytest.raises(InputError, match=r"1\.png: is a link"):
        check_private(tmp_path, "unpacked")


def test_the_folder_itself_may_be_a_link_of_this_user(tmp_path):
    make_private(tmp_path / "large_disk")
    (tmp_path / "cache").symlink_to("large_disk")
    text_model(None, tmp_path / "cache")
    check_private(tmp_path / "cache", "nosuch")
    check_private(Path("/nosuch"), "x")

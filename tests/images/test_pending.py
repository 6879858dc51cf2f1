"""images/pending.py: read while it is decoded, a cache gives what it gives afterwards."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images import cache as image_cache
from mmf_hm_concat.images import store as image_store
from mmf_hm_concat.images.cache import ImageCache

SIZE = 24
# Reads a batch of four images in order, slowly, until it is killed.
READ = """
import sys, time
from pathlib import Path
from mmf_hm_concat.images.cache import ImageCache
paths = sorted(map(str, Path(sys.argv[1]).glob("*.png")))
cache = ImageCache(paths, 24, Path(sys.argv[2]), ahead=True)
for i in range(0, len(paths), 4):
    cache.batch(range(i, min(i + 4, len(paths))))
    print(i, flush=True)
    time.sleep(0.05)
"""


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "img"
    folder.mkdir()
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05}.png", compress_level=0)
    return sorted(map(str, folder.glob("*.png")))


@pytest.fixture(autouse=True)
def few_ahead(monkeypatch):
    monkeypatch.setattr(image_cache, "AHEAD_BYTES", 3 * 3 * SIZE * SIZE)


@pytest.fixture
def decoded(monkeypatch):
    """The files decoded so far, each after a moment."""
    names = []
    decode = image_store.decode

    def slow(data, name):
        time.sleep(0.002 * (len(names) % 3))
        names.append(name)
        return decode(data, name)

    monkeypatch.setattr(image_store, "decode", slow)
    return names


def ahead(paths, tmp_path, folder="cache"):
    return ImageCache(paths, SIZE, tmp_path / folder, ahead=True)


def right(paths, indices=None):
    return ImageCache(paths, SIZE, None).batch(range(len(paths)) if indices is None else indices)


def test_it_is_read_while_it_is_decoded(images, tmp_path, decoded):
    cache = ahead(images, tmp_path)
    assert not decoded and cache.is_decoding
    assert (cache.batch(range(4)) == right(images, range(4))).all()
    assert 4 <= len(decoded) <= 4 + 3 + 1 and cache.is_decoding
    assert (cache.batch(range(4, 24)) == right(images, range(4, 24))).all()
    assert sorted(decoded) == images and not cache.is_decoding
    assert (cache.batch(range(24)) == right(images)).all()
    # What it left is what a cache that waits for all leaves.
    assert (ImageCache(images, SIZE, tmp_path / "cache").batch(range(24)) == right(images)).all()
    assert len(decoded) == 24


def test_any_order_and_copies(images, tmp_path, decoded):
    order = [*np.random.default_rng(0).permutation(24), 3, 3]
    paths = [*images, images[3], images[5]]
    cache = ahead(paths, tmp_path)
    for i in [*order, 24, 25]:
        assert (cache[i] == right(paths, [i])[0]).all()
    assert sorted(decoded) == images


def test_a_complete_cache_is_only_read(images, tmp_path, decoded):
    ImageCache(images, SIZE, tmp_path / "cache")
    (tmp_path / "cache").chmod(0o500)
    del decoded[:]
    cache = ahead(images, tmp_path)
    assert not cache.is_decoding and not decoded
    assert (cache.batch(range(24)) == right(images)).all()


def test_what_was_there_is_not_decoded_again(images, tmp_path, decoded):
    ImageCache(images[6:12], SIZE, tmp_path / "cache")
    assert (ahead(images, tmp_path).batch(range(24)) == right(images)).all()
    assert sorted(decoded) == images


def test_contents_need_no_pixels(images, tmp_path, decoded):
    paths = [*images, images[0]]
    cache = ahead(paths, tmp_path)
    cache.batch([0, 1])
    contents = cache.contents
    assert len(decoded) <= 2 + 3 + 1
    assert contents == ImageCache(paths, SIZE, tmp_path / "other").contents
    cache.batch(range(24))
    assert cache.contents == ImageCache(paths, SIZE, tmp_path / "cache").contents


def test_bad_images_are_told_together_when_the_first_is_read(images, tmp_path):
    for i in (9, 17, 20):
        Path(images[i]).write_bytes(Path(images[i]).read_bytes()[:500])
    Path(images[21]).unlink()
    cache = ahead(images, tmp_path)
    assert (cache.batch(range(9)) == right(images[:9])).all()
    for asked in ([9], [9], range(8, 12)):  # and ever after
        with pytest.raises(InputError, match="4 of 24 images cannot be used") as caught:
            cache.batch(asked)
        assert all(images[i] in str(caught.value) for i in (9, 17, 20, 21))
    # The others are kept: once the four are mended, only they are decoded.
    assert len(ImageCache(images[:9], SIZE, tmp_path / "cache")) == 9


def test_with_blank_all_is_decoded_first(images, tmp_path):
    Path(images[9]).write_bytes(b"")
    cache = ImageCache(images, SIZE, tmp_path / "cache", "blank", ahead=True)
    assert not cache.is_decoding and list(cache.bad) == [images[9]]


def test_an_image_that_changes_meanwhile_is_refused(images, tmp_path):
    cache = ahead(images, tmp_path)
    assert len(set(cache.contents)) == 24
    Path(images[20]).write_bytes(Path(images[0]).read_bytes())
    assert len(cache.batch(range(12))) == 12
    with pytest.raises(InputError, match=f"{images[20]}: was changed meanwhile"):
        cache.batch(range(12, 24))


def test_a_disk_that_fills_up_is_told(images, tmp_path, monkeypatch):
    cache = ahead(images, tmp_path)
    cache.batch(range(4))
    monkeypatch.setattr(os, "pwrite", lambda *given: 0)
    with pytest.raises(InputError, match=r"decoded images cannot be kept there.*disk is full"):
        cache.batch(range(24))


def test_closed_it_lets_others_decode(images, tmp_path):
    cache = ahead(images, tmp_path)
    cache.batch([0])
    cache.close()
    other = ahead(images, tmp_path)
    assert (other.batch(range(24)) == right(images)).all()
    with pytest.raises(AssertionError, match="read after close"):
        cache.batch([23])


def test_threads_read_at_once(images, tmp_path, decoded):
    cache = ahead(images, tmp_path)
    expected = right(images)
    start = threading.Barrier(8)

    def read(seed):
        start.wait()
        order = np.random.default_rng(seed).permutation(24)
        return all((cache[i] == expected[i]).all() for i in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
    assert sorted(decoded) == images


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_that_start_meanwhile_read_the_same(images, tmp_path, method):
    cache = ahead(images, tmp_path)
    cache.batch([0])
    loader = DataLoader(cache, batch_size=5, num_workers=2, multiprocessing_context=method)
    assert (torch.cat(list(loader)) == right(images)).all()


def test_pickled_it_is_complete(images, tmp_path, decoded):
    copy = pickle.loads(pickle.dumps(ahead(images, tmp_path)))
    assert len(decoded) == 24 and not copy.is_decoding
    assert (copy.batch(range(24)) == right(images)).all()


def test_killed_half_way_nothing_is_lost(images, tmp_path, decoded):
    process = subprocess.Popen(
        [sys.executable, "-c", READ, str(Path(images[0]).parent), str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        text=True,
    )
    while process.stdout.readline().strip() != "8":
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    del decoded[:]
    assert (ahead(images, tmp_path).batch(range(24)) == right(images)).all()
    assert len(decoded) <= 24 - 12

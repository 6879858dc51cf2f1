"""images/cache.py and images/store.py: equal to decoding anew, whatever happens to the files."""

import logging
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images import store as image_store
from mmf_hm_concat.images.cache import BLANK, ImageCache

SIZE = 24
ROW = SIZE * SIZE * 3
# Builds the cache in another process, without torch; prints a digest of every image in order.
BUILD = """
import hashlib, sys
from pathlib import Path
from mmf_hm_concat.images.store import ImageStore
folder, cache, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
paths = sorted(map(str, folder.glob("*.png")))
store = ImageStore(cache, size)
lines, problems = {}, []
for path, line in store.add(paths):
    lines[path] = line
    problems += [line] * isinstance(line, str)
assert not problems and "torch" not in sys.modules
pixels, row_bytes = store.pixels.read_bytes(), store.row_bytes
whole = b"".join(pixels[lines[p].row * row_bytes:][:row_bytes] for p in paths)
print(hashlib.sha256(whole).hexdigest())
"""


def draw(path, seed, side=60):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "img"
    folder.mkdir()
    for i in range(12):
        draw(folder / f"{i:05}.png", i)
    return sorted(map(str, folder.glob("*.png")))


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded, in no particular order."""
    names = []
    decode = image_store.decode

    def spy(data, name):
        names.append(Path(name).name)
        return decode(data, name)

    monkeypatch.setattr(image_store, "decode", spy)
    return names


def cached(paths, folder, **options):
    return ImageCache(paths, SIZE, folder, **options)


def assert_right(cache, paths):
    """Every image is what decoding it now gives."""
    fresh = cached(paths, None).batch(range(len(paths)))
    assert (cache.batch(range(len(paths))) == fresh).all()


def pixels_file(folder):
    return next(folder.glob("*/pixels.bin"))


def test_shapes_and_equality_with_and_without(images, tmp_path):
    import torch

    on, off = cached(images, tmp_path / "c"), cached(images, None)
    assert len(on) == len(off) == 12
    for cache in (on, off):
        batch = cache.batch([3, 0, 3, -1])
        assert (batch.shape, batch.dtype) == ((4, 3, SIZE, SIZE), torch.uint8)
        assert batch.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(batch[0], cache[3])
        assert torch.equal(batch[3], cache[11])
        with pytest.raises(IndexError):
            cache[12]
    assert torch.equal(on.batch(range(12)), off.batch(range(12)))


def test_it_is_torchvisions_resize(images, tmp_path):
    from torchvision import transforms

    steps = transforms.Compose([transforms.Resize((SIZE, SIZE)), transforms.PILToTensor()])
    for path, image in zip(images, cached(images, tmp_path), strict=True):
        assert (image == steps(Image.open(path).convert("RGB"))).all()


def test_each_interpolation_has_its_own_cache(images, tmp_path):
    for interpolation in ("bilinear", "bicubic", "bilinear"):
        found = [
            ImageCache(images, SIZE, folder, interpolation=interpolation).batch(range(12))
            for folder in (tmp_path, None)
        ]
        mode = Image.Resampling[interpolation.upper()]
        with Image.open(images[0]) as image:
            expected = np.asarray(image.convert("RGB").resize((SIZE, SIZE), mode))
        assert (found[0] == found[1]).all()
        assert (found[0][0].permute(1, 2, 0).numpy() == expected).all()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_the_same(images, tmp_path, method):
    from torch.utils.data import DataLoader

    cache = cached(images, tmp_path)
    cache[0]  # the file is open when it is forked
    if method == "spawn":  # starting a worker costs seconds; this is what it would be sent
        cache = pickle.loads(pickle.dumps(cache))
    loader = DataLoader(cache, 4, num_workers=int(method == "fork"))
    assert (next(iter(loader)) == cached(images, None).batch(range(4))).all()


def test_rows_are_shared_and_only_what_is_new_is_decoded(images, tmp_path, decoded):
    folder = tmp_path / "c"
    cached(images[:5], folder)
    assert len(decoded) == 5
    cached(images[3:9] + images[3:9], folder)  # another split; oversampled
    assert len(decoded) == 9
    moved = tmp_path / "moved"
    shutil.copytree(Path(images[0]).parent, moved)
    again = sorted(map(str, moved.glob("*.png")))
    os.utime(images[0])
    assert_right(cached(images[:1] + again[:9], folder), images[:1] + again[:9])
    assert len(decoded) == 9
    assert pixels_file(folder).stat().st_size == 9 * ROW


def test_a_warm_start_reads_no_image_and_needs_no_writing(images, tmp_path, monkeypatch):
    folder = tmp_path / "c"
    cached(images, folder)
    monkeypatch.setattr(image_store, "read_file", None)
    monkeypatch.setattr(image_store, "locked", None)
    cached(images[::-1], folder)


def test_a_changed_image_is_noticed(images, tmp_path, decoded):
    folder = tmp_path / "c"
    cached(images, folder)
    before = Path(images[4]).stat()
    draw(images[4], 99)  # another image of as many bytes
    os.utime(images[4], ns=(before.st_atime_ns, before.st_mtime_ns))  # and as old
    assert Path(images[4]).stat().st_size == before.st_size
    decoded.clear()
    assert_right(cached(images, folder), images)
    assert decoded == ["00004.png"]


@pytest.mark.parametrize("where", range(6))
def test_a_flipped_byte_in_the_pixels_is_made_good(images, tmp_path, decoded, caplog, where):
    folder = tmp_path / "c"
    cached(images, folder)
    content = bytearray(pixels_file(folder).read_bytes())
    at = (where * 2 + 1) * ROW - 1
    content[at] ^= 1
    pixels_file(folder).write_bytes(content)
    decoded.clear()
    assert_right(cached(images, folder), images)
    assert decoded == [f"{where * 2:05}.png"]
    assert "1 damaged images are decoded again" in caplog.text
    decoded.clear()
    cached(images, folder)
    assert decoded == []


def test_any_damage_to_the_index_or_a_cut_file_is_made_good(images, tmp_path):
    dice = random.Random(0)
    folder = tmp_path / "c"
    cached(images, folder)
    index = pixels_file(folder).with_name("index.txt")
    for step in range(40):
        path = index if step % 4 else pixels_file(folder)
        content = bytearray(path.read_bytes())
        if step % 3:
            content[dice.randrange(len(content))] = dice.randrange(256)
        else:
            del content[dice.randrange(len(content)) :]
        path.write_bytes(content)
        chosen = dice.sample(images, 8)
        assert_right(cached(chosen, folder), chosen)
    index.unlink()
    assert_right(cached(images, folder), images)


def test_bad_images_are_all_named_before_training(images, tmp_path, caplog):
    for path in images[2:5]:
        Path(path).write_bytes(Path(path).read_bytes()[:-5])
    Path(images[7]).unlink()
    for folder in (tmp_path / "c", tmp_path / "c", None):
        with pytest.raises(InputError) as caught:
            cached(images, folder)
        message = str(caught.value)
        assert "4 of 12 images cannot be used" in message
        assert all(images[i] in message for i in (2, 3, 4, 7))
        assert "on_bad_image: blank" in message
        caplog.clear()
        cache = cached(images, folder, on_bad_image="blank")
        assert list(cache.bad) == [images[i] for i in (2, 3, 4, 7)]
        assert all(path in caplog.text for path in cache.bad)
        assert (cache[7] == BLANK).all() and (cache[3] == BLANK).all()
        assert (cache[6] == cached(images[6:7], None)[0]).all()
    with pytest.raises(InputError, match=r"29 of 37[\s\S]*and 9 more"):
        cached([*(f"none{i}" for i in range(25)), *images] * 2, None, on_bad_image="error")
    draw(images[2], 2)
    assert len(cached(images, tmp_path / "c", on_bad_image="blank").bad) == 3
    with pytest.raises(InputError, match="neither error nor blank"):
        cached(images, None, on_bad_image="ignore")


def test_a_nearly_full_disk(images, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "c"
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 12 * ROW - 1))
    with pytest.raises(InputError, match=r"no room.*needed.*free.*image_cache: off") as caught:
        cached(images, folder)
    assert str(folder) in str(caught.value)
    assert not list(folder.glob("*/pixels.bin"))
    cached(images[:11], folder)
    assert "decoding 11 images" in caplog.text
    moved = tmp_path / "moved"
    shutil.copytree(Path(images[0]).parent, moved)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 5))
    cached(sorted(map(str, moved.glob("*.png")))[:11], folder)  # needs no room

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 10**9))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InputError, match="No space left on device"):
        cached(images, folder)


def test_a_folder_that_cannot_be_used(images, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be kept there"):
        cached(images, tmp_path / "file")


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("read_before", [False, True])
def test_a_cache_removed_and_rebuilt_by_another_run_gives_the_first_its_own_images(
    images, tmp_path, warm, read_before
):
    folder = tmp_path / "c"
    if warm:
        cached(images, folder)
    cache = cached(images, folder)
    if read_before:
        cache[0]
    sent = pickle.dumps(cache)  # what a worker that is started by spawn gets
    shutil.rmtree(folder)
    assert_right(cache, images)
    with pytest.raises(InputError, match="removed or replaced"):
        pickle.loads(sent)[0]
    other = cached(images[::-1], folder)
    assert_right(other, images[::-1])
    assert_right(cache, images)
    with pytest.raises(InputError, match="removed or replaced"):
        pickle.loads(sent)[0]


def test_a_cache_replaced_between_looking_and_writing_is_noticed(images, tmp_path, monkeypatch):
    folder = tmp_path / "c"
    cached(images[:6], folder)
    check_space = image_store.ImageStore._check_space

    def replace(*args):
        monkeypatch.undo()
        shutil.rmtree(folder)
        cached(images[::-1], folder)
        return check_space(*args)

    monkeypatch.setattr(image_store.ImageStore, "_check_space", replace)
    with pytest.raises(InputError, match="another process removed it"):
        cached(images, folder)


def test_a_cache_cut_during_the_run_is_an_error(images, tmp_path):
    cache = cached(images, tmp_path / "c")
    os.truncate(pixels_file(tmp_path / "c"), 5 * ROW - 1)
    cache[3]
    with pytest.raises(InputError, match="was cut"):
        cache[4]


def start(folder, cache):
    command = [sys.executable, "-c", BUILD, str(folder), str(cache), str(SIZE)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for i in range(60):
        draw(folder / f"{i:05}.png", i, side=400)
    return folder


def test_killed_at_random_moments_and_restarted(many, tmp_path):
    dice = random.Random(0)
    whole, _ = start(many, tmp_path / "undisturbed").communicate()
    folder = tmp_path / "killed"

    def decoded_so_far():
        lines = [path.read_bytes().count(b"\n") for path in folder.glob("*/index.txt")]
        return sum(lines)

    seen = [0]
    for _ in range(5):
        process = start(many, folder)
        while process.poll() is None and decoded_so_far() == seen[-1]:
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen.append(decoded_so_far())
        if seen[-1] == 60:  # too fast for us
            break
    assert seen == sorted(set(seen))  # each went on where the last one was killed
    assert start(many, folder).communicate()[0] == whole
    # A kill can waste the one row it was writing, not more.
    assert pixels_file(folder).stat().st_size <= (60 + 5) * ROW


def test_two_processes_at_once_build_one_cache(many, tmp_path):
    both = [start(many, tmp_path) for _ in range(2)]
    one, two = (process.communicate()[0] for process in both)
    assert one == two != ""
    assert pixels_file(tmp_path).stat().st_size == 60 * ROW


def test_threads_read_at_once(images, tmp_path):
    cache = cached(images, tmp_path)
    expected = cached(images, None).batch(range(12))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(cache.batch, [range(12)] * 20):
            assert (found == expected).all()

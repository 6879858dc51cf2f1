"""encoders/fasttext_model.py: one fit whoever asks, and no vector from a damaged file."""

import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmf_hm_concat.encoders import fasttext_model as text
from mmf_hm_concat.encoders.fasttext_model import (
    MAGIC,
    TextModel,
    fit_text_model,
    load_text_model,
    mean_and_std,
)
from mmf_hm_concat.errors import InputError

SMALL = {"dim": 10, "epochs": 2, "bucket": 500}
WORDS = [*"abcdefghij", "look", "love", "people", "when", "dog", "good", "boy", "snows", "june"]
TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, 8)) for i in range(60)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fit_text_model(TEXTS, **SMALL, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def no_fit(monkeypatch):
    def fit(*_):
        raise AssertionError("fitted again")

    monkeypatch.setattr(text, "_fit", fit)


def test_sentence_vectors(model):
    vectors = model.vectors(["love dog", "", " \n", "love\ndog", "  love \t dog ", "neverseen"])
    assert (vectors.shape, vectors.dtype) == ((6, 10), np.float32)
    assert not vectors[1:3].any()
    assert (vectors[3] == vectors[0]).all() and (vectors[4] == vectors[0]).all()
    assert vectors[5].any()  # from its parts
    single = model.vectors(["love", "dog"])
    assert vectors[0] == pytest.approx(
        (single / np.linalg.norm(single, axis=1, keepdims=True)).mean(0), abs=1e-6
    )
    assert model.vectors([]).shape == (0, 10)
    assert model.vectors(["", ""]).shape == (2, 10)


def test_strange_texts(model, tmp_path):
    strange = ["\0", "a\0b", "\ud83d broken", "</s>", "__label__1", "\u540d\u524d \U0001f600"]
    assert np.isfinite(model.vectors(strange)).all()
    assert fit_text_model(strange, **SMALL, cache_dir=tmp_path).vectors(strange).any()


def test_the_same_texts_give_the_same_file_in_another_process(model, tmp_path):
    program = f"""
from pathlib import Path
from mmf_hm_concat.encoders.fasttext_model import fit_text_model
print(fit_text_model({TEXTS}, **{SMALL}, cache_dir=Path({str(tmp_path)!r})).checksum)
"""
    command = [sys.executable, "-c", program]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [p.communicate()[0].strip() for p in both] == [model.checksum] * 2
    assert len(list(tmp_path.glob("*.bin"))) == 1
    assert not list(tmp_path.glob(".*tmp"))


def test_cbow_is_fitted_unless_skipgram_is_asked_for(model, tmp_path):
    explicit = fit_text_model(TEXTS, **SMALL, model="cbow", cache_dir=tmp_path)
    assert (explicit.path.name, explicit.checksum) == (model.path.name, model.checksum)
    skipgram = fit_text_model(TEXTS, **SMALL, model="skipgram", cache_dir=tmp_path)
    kinds = {}
    for each in (model, skipgram):  # the eighth argument after magic and layout
        kinds[each.checksum] = struct.unpack_from("<i", each.path.read_bytes(), 4 * (2 + 7))[0]
    assert list(kinds.values()) == [1, 2]  # model_name::cbow and sg in fastText's args.h


def test_the_cache_is_used_for_the_same_fit_only(model, no_fit):
    folder = model.path.parent
    spread = [f"  {line}\n" for line in TEXTS]
    assert fit_text_model([*spread, "", " "], **SMALL, cache_dir=folder) == model
    for texts, config in [
        (TEXTS[1:], SMALL),
        (TEXTS, SMALL | {"dim": 11}),
        (TEXTS, SMALL | {"epochs": 3}),
        (TEXTS, SMALL | {"bucket": 501}),
        (TEXTS, SMALL | {"min_count": 2}),
        (TEXTS, SMALL | {"model": "skipgram"}),
    ]:
        with pytest.raises(AssertionError, match="fitted again"):
            fit_text_model(texts, **config, cache_dir=folder)


@pytest.mark.parametrize("damage", ["flip", "cut", "note", "no note"])
def test_a_damaged_cache_is_fitted_again(model, tmp_path, damage):
    shutil.copytree(model.path.parent, tmp_path, dirs_exist_ok=True)
    first = replace(model, path=tmp_path / model.path.name)
    content = bytearray(first.path.read_bytes())
    note = first.path.with_suffix(".sha256")
    if damage == "flip":
        content[-100] ^= 1
        first.path.write_bytes(content)
    elif damage == "cut":
        first.path.write_bytes(content[:-100])
    elif damage == "note":
        note.write_bytes(b"\xff")
    else:
        note.unlink()
    again = fit_text_model(TEXTS, **SMALL, cache_dir=tmp_path)
    assert again == first == load_text_model(again.path, first.checksum)


def test_few_texts_are_enough_and_none_are_refused(tmp_path):
    for texts in (["one"], ["a b", "c"]):
        model = fit_text_model(texts, **SMALL, cache_dir=tmp_path)
        assert model.vectors(texts).any()
    for texts in ([], ["", " \n "]):
        with pytest.raises(InputError, match="All texts are empty"):
            fit_text_model(texts, **SMALL, cache_dir=tmp_path)
    with pytest.raises(InputError, match="cannot fit 1 texts"):
        fit_text_model(["one"], **SMALL, min_count=5, cache_dir=tmp_path)


def test_a_cache_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be kept there"):
        fit_text_model(TEXTS, **SMALL, cache_dir=tmp_path / "file")


def test_a_full_disk_while_fasttext_writes_is_noticed(tmp_path):
    """fastText does not look whether its file could be written, and says nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    larger = SMALL | {"bucket": 50_000}  # 2 MB
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # as a full disk to the writer
    try:
        with pytest.raises(InputError, match=r"cannot be kept there.*free some space"):
            fit_text_model(TEXTS, **larger, cache_dir=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.glob("*.bin"))
    assert fit_text_model(TEXTS, **larger, cache_dir=tmp_path).vectors(TEXTS).any()


def test_what_a_killed_fit_left_is_removed_by_the_next(model, tmp_path):
    left = tmp_path / f".{model.path.name}.0123abcd.tmp"
    other = tmp_path / ".text-of-another-fit.bin.0123abcd.tmp"
    for path in (left, other):
        path.write_bytes(b"half")
    fit_text_model(TEXTS, **SMALL, cache_dir=tmp_path)
    assert not left.exists() and other.exists()  # that one may be under way


def test_it_travels(model, tmp_path):
    copy = tmp_path / "text_model.bin"
    copy.write_bytes(model.path.read_bytes())
    loaded = pickle.loads(pickle.dumps(load_text_model(str(copy), model.checksum)))
    assert loaded == TextModel(copy, model.checksum, 10)
    assert (loaded.vectors(TEXTS) == model.vectors(TEXTS)).all()
    copy.unlink()
    with pytest.raises(InputError, match="cannot load"):
        loaded.vectors(TEXTS)


def test_another_model_than_asked_for_is_refused(model):
    with pytest.raises(InputError) as caught:
        load_text_model(model.path, "0" * 64)
    assert model.checksum[:12] in str(caught.value) and "0" * 12 in str(caught.value)
    assert model.checksum not in str(caught.value)


def test_every_cut_is_noticed(model, tmp_path):
    content = model.path.read_bytes()
    path = tmp_path / "cut.bin"
    for kept in [*range(0, len(content), 1009), len(content) - 4, len(content) - 1]:
        path.write_bytes(content[:kept])
        with pytest.raises(InputError, match=r"cut\.bin"):
            load_text_model(path)


QUANTIZE = """
import json, sys, fasttext
texts, path, options = sys.argv[1:]
config = {"dim": 10, "epoch": 1, "bucket": 500, "wordNgrams": 2, "thread": 1, "lr": 0.01}
model = fasttext.train_supervised(texts, **config)
model.quantize(**json.loads(options))
model.save_model(path)
"""


@pytest.mark.parametrize("options", ["{}", '{"qnorm": true}', '{"qnorm": true, "qout": true}'])
def test_every_cut_of_a_quantized_model_is_noticed(tmp_path, options):
    texts, path = tmp_path / "texts", tmp_path / "model.ftz"
    # 300 labels: qout needs more than 256.
    texts.write_text("".join(f"__label__{i} w{i} look at dog {i % 7}\n" for i in range(300)))
    subprocess.run(
        [sys.executable, "-c", QUANTIZE, str(texts), str(path), options],
        env={**os.environ, "MALLOC_PERTURB_": "255"},
        check=True,
    )
    assert load_text_model(path).vectors(["look at w7"]).any()
    content = path.read_bytes()
    cut = tmp_path / "cut.ftz"
    for kept in [*range(0, len(content), 97), *range(len(content) - 4, len(content))]:
        cut.write_bytes(content[:kept])
        with pytest.raises(InputError, match=r"cut\.ftz"):
            load_text_model(cut)
    cut.write_bytes(content + b"\0")
    with pytest.raises(InputError, match="goes on after its end"):
        load_text_model(cut)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.bin")
    for path, kind in ((tmp_path / "pipe.bin", "named pipe"), (Path("/dev/zero"), "device")):
        with pytest.raises(InputError, match=kind):
            load_text_model(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"word2vec 10 300\n",
        os.urandom(5000),
        struct.pack("<2i", MAGIC, 12),
        struct.pack("<2i", MAGIC, 13) + bytes(1000),
        struct.pack("<2i", MAGIC, 12) + b"\xff" * 1000,
        struct.pack("<2i", MAGIC, 12) + bytes(1000),
    ],
)
def test_foreign_files_are_refused(content, tmp_path):
    path = tmp_path / "foreign.bin"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"foreign\.bin.*not a whole fastText model"):
        load_text_model(path)


def test_files_of_zeros_or_nonsense_are_refused(model, tmp_path):
    content = bytearray(model.path.read_bytes())
    path = tmp_path / "zeros.bin"
    # The two matrices are at the end: those of the words and of the contexts.
    words = len(set(WORDS)) + 1  # and fastText's end of line
    start = len(content) - 4 * 10 * (words + words + 500) - 17
    for junk in (b"\0", b"\xff"):
        damaged = (
            content[:start]
            + junk * (4 * 10 * (words + 500))
            + content[start + 40 * (words + 500) :]
        )
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="zero or not finite"):
            load_text_model(path)
    with pytest.raises(InputError, match="no such file"):
        load_text_model(Path("nowhere.bin"))
    with pytest.raises(InputError, match="not a whole"):
        load_text_model(tmp_path)


def test_mean_and_std_standardise_and_leave_out_zeros():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(500, 3)) * [1e-4, 1, 100] + [0.2, 0, -5]).astype(np.float32)
    vectors = np.column_stack([vectors, np.full(500, 0.1, np.float32), np.zeros(500, np.float32)])
    mean, deviation = mean_and_std(vectors)
    assert mean.dtype == deviation.dtype == np.float32
    assert mean == pytest.approx(vectors.astype(float).mean(0), rel=1e-6)
    assert deviation[:3] == pytest.approx(vectors[:, :3].astype(float).std(0), rel=1e-6)
    assert (deviation[3:] == 1).all()
    scaled = (vectors - mean) / deviation
    assert scaled[:, :3].std(0) == pytest.approx(np.ones(3), rel=1e-3)
    assert np.abs(scaled[:, 3:]).max() < 1e-6
    assert (mean_and_std(vectors[:1])[1] == 1).all()
    with_wordless = np.concatenate([vectors, np.zeros((50, 5), np.float32)])
    assert np.array_equal(mean_and_std(with_wordless), mean_and_std(vectors))
    with pytest.raises(InputError):
        mean_and_std(vectors[:0])

"""Vectors of words from a text file: what is kept of it, sentences, and damaged files."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmf_hm_concat.encoders import word_vectors
from mmf_hm_concat.encoders.fasttext_model import load_text_model
from mmf_hm_concat.encoders.word_vectors import cut_word_vectors
from mmf_hm_concat.errors import InputError

ROWS = {"the": [3, 4], ", .": [1, 1], "cat": [0, 2], "Ω": [-1, 0], "rare": [5, 0]}


@pytest.fixture(params=["vec", "txt"])
def source(request, tmp_path):
    """The same vectors as fastText (with a first line) and as GloVe write them."""
    lines = [f"{word} {a} {b}" for word, (a, b) in ROWS.items()]
    if request.param == "vec":
        lines.insert(0, f"{len(lines)} 2")
    path = tmp_path / f"words.{request.param}"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_a_sentence_is_the_mean_of_its_words_of_length_one(source, tmp_path):
    model = cut_word_vectors(source, ["The cat, rare!"], tmp_path / "cache")
    found = model.vectors(["The cat", "CAT!", "unheard of", "", "Ω rare Ω"])
    expected = [[0.3, 0.9], [0, 1], [0, 0], [0, 0], [-1 / 3, 0]]
    assert model.dim == 2 and np.allclose(found, expected)


def test_the_words_of_the_texts_and_the_most_frequent_ones_are_kept(source, tmp_path, monkeypatch):
    monkeypatch.setattr(word_vectors, "MOST_FREQUENT", 1)
    model = cut_word_vectors(source, ["rare things"], tmp_path / "cache")
    known = model.vectors(["the", "cat", "rare"]).any(axis=1)
    assert known.tolist() == [True, False, True]


def test_what_is_kept_is_one_file_that_is_checked(source, tmp_path):
    cache = tmp_path / "cache"
    model = cut_word_vectors(source, ["cat"], cache)
    again = cut_word_vectors(source, ["cat"], cache)
    assert (again.path, again.checksum) == (model.path, model.checksum)
    loaded = load_text_model(model.path, model.checksum)
    assert np.array_equal(loaded.vectors(["the cat"]), model.vectors(["the cat"]))
    whole = model.path.read_bytes()
    for damaged in (whole[:-1], whole + b"x", whole[:20], whole[:8] + b"\xff" * 40):
        copy = tmp_path / "copy.bin"
        copy.write_bytes(damaged)
        with pytest.raises(InputError, match=r"copy\.bin"):
            load_text_model(copy)
    model.path.write_bytes(whole[:-1])
    assert cut_word_vectors(source, ["cat"], cache).checksum == model.checksum


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 1 2\ncat 1\n", r"line 2: not a word and 2 numbers"),
        ("2 3\nthe 1 2 3\ncat 1 2\n", r"line 3: not a word and 3 numbers"),
        ("the 1 x\n", r"line 1: what follows the word are no finite numbers"),
        ("the 1 nan\n", r"line 1: what follows"),
        ("the 1  2\n", r"line 1: what follows"),
        ("\n", r"line 1: not a word"),
        ("", r"has none of the words"),
        ("le 1 2\n", r"has none of the words"),
    ],
)
def test_a_damaged_file_names_the_line(tmp_path, content, message):
    (tmp_path / "words.vec").write_text(content)
    with pytest.raises(InputError, match=rf"words\.vec.*{message}"):
        cut_word_vectors(tmp_path / "words.vec", ["the cat"], tmp_path / "cache")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nosuch\.vec: cannot be read"):
        cut_word_vectors(tmp_path / "nosuch.vec", ["the"], tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=80))
def test_any_bytes_are_vectors_or_one_message(tmp_path, content):
    (tmp_path / "any.txt").write_bytes(content)
    try:
        cut_word_vectors(tmp_path / "any.txt", ["the cat"], tmp_path / "cache")
    except InputError as error:
        assert str(error)


PEAK = """
import resource, sys
from pathlib import Path
from mmf_hm_concat.encoders.word_vectors import cut_word_vectors
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cut_word_vectors(Path(sys.argv[1]), ["w7 w150000"], Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_holds_what_is_kept_and_not_the_file(tmp_path):
    numbers = " ".join(["0.123456"] * 50)
    with (tmp_path / "large.vec").open("w") as file:
        for row in range(200_000):
            file.write(f"w{row} {numbers}\n")
    size = (tmp_path / "large.vec").stat().st_size
    arguments = [sys.executable, "-c", PEAK, tmp_path / "large.vec", tmp_path / "cache"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    kept = word_vectors.MOST_FREQUENT * 50 * 4
    assert int(done.stdout) * 1024 < size / 2 and int(done.stdout) * 1024 < 5 * kept

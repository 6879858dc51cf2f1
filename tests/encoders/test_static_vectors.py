"""wordllama's vectors as a text encoder: the package's own numbers, from its files alone."""

import logging

import numpy as np
import pytest
import torch

from mmf_hm_concat.encoders.static_vectors import StaticEncoder, StaticVectors
from mmf_hm_concat.errors import InputError

TEXTS = ["look how many people love you", "", "x\ud800y", "Ωμέγα 🙂", "word " * 300]


def test_vectors_are_those_of_the_package():
    before = logging.getLogger().handlers[:]
    found = StaticVectors("").prepare(TEXTS)
    assert logging.getLogger().handlers == before
    from tokenizers import Tokenizer
    from wordllama import WordLlamaInference
    from wordllama.wordllama import safe_open

    made = StaticVectors("l2_supercat_256")
    folder = __import__("wordllama").__path__[0]
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizers/l2_supercat_tokenizer_config.json")
    with safe_open(f"{folder}/weights/l2_supercat_256.safetensors", "np") as file:
        theirs = WordLlamaInference(file.get_tensor("embedding.weight"), tokenizer)
    expected = theirs.embed([t.encode("utf-8", "replace").decode() for t in TEXTS if t])
    assert found.dtype == torch.float32 and found.shape == (5, 256) and not found[1].any()
    assert np.allclose(found[[0, 2, 3, 4]], expected, atol=1e-5)
    assert made.checksum == StaticVectors("").checksum and made.checksum in made.identity


def test_a_vector_does_not_depend_on_the_texts_beside_it():
    vectors = StaticVectors("")
    together = vectors.prepare(TEXTS)
    assert all(
        torch.equal(vectors.prepare([t])[0], v) for t, v in zip(TEXTS, together, strict=True)
    )


def test_the_encoder_has_their_length_whatever_in_features_says():
    encoder = StaticEncoder.from_config("", {"out_features": 4, "in_features": 150}, True)
    assert encoder(StaticVectors("").prepare(TEXTS)).shape == (5, 4)


def test_an_unknown_model_is_named():
    with pytest.raises(InputError, match=r"wordllama/l3: there is no model 'l3'.*l2_supercat_256"):
        StaticEncoder.check("l3", None)

"""The encoder of sentence vectors: what it standardises, and which batches it reads."""

import pytest
import torch

from mmf_hm_concat.encoders.sentence_vectors import SentenceVectorEncoder, Standardize
from mmf_hm_concat.errors import InputError


def test_standardize_removes_mean_and_scale_and_travels_in_the_state_dict():
    vectors = torch.randn(500, 7) * torch.arange(1, 8) + 100
    layer = Standardize(7)
    assert torch.equal(layer(vectors), vectors)
    layer.set_statistics(vectors.mean(0), vectors.std(0, unbiased=False))
    assert layer(vectors).mean(0).abs().max() < 1e-4
    assert (layer(vectors).std(0, unbiased=False) - 1).abs().max() < 1e-4
    assert set(layer.state_dict()) == {"mean", "std"}


def test_a_text_without_words_is_the_mean_text():
    layer = Standardize(7)
    layer.set_statistics(torch.full((7,), 0.3), torch.full((7,), 0.01))
    vectors = torch.stack([torch.zeros(7), torch.full((7,), 0.31)])
    assert torch.equal(layer(vectors)[0], torch.zeros(7))
    assert torch.allclose(layer(vectors)[1], torch.ones(7))


def test_statistics_reach_the_vectors_only_when_they_are_standardised():
    vectors, statistics = torch.randn(3, 7), (torch.full((7,), 0.5), torch.full((7,), 2.0))
    for standardize in (True, False):
        encoder = SentenceVectorEncoder(7, 5, standardize)
        before = encoder(vectors)
        encoder.set_statistics(*statistics)
        assert torch.equal(encoder(vectors), before) != standardize


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({}, "the data set gives no text"),
        ({"text": ["some", "words"]}, "the data set gives words"),
        ({"text": torch.randn(3, 8)}, "vectors of 8 numbers, the model expects 7"),
    ],
)
def test_a_batch_without_sentence_vectors_of_its_length_is_refused(batch, message):
    with pytest.raises(InputError, match=message):
        SentenceVectorEncoder(7, 5, True).read(batch)


def test_statistics_of_another_length_are_refused():
    with pytest.raises(InputError, match="vectors of 8 numbers, the model expects 7"):
        SentenceVectorEncoder(7, 5, True).set_statistics(torch.zeros(8), torch.ones(8))

"""Static pretrained text encoders: `language.name: wordllama`, whose weights are in its package.

A text's vector is the mean of its tokens' rows in one matrix, as WordLlamaInference.embed computes
it. The package's files are read without importing it: the import makes every library's log lines
appear, and its own loader (0.4.0) looks for the tokenizer in a folder that does not exist, and
then on the network.
"""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmf_hm_concat.config.check import unknown
from mmf_hm_concat.encoders.libraries import library, version
from mmf_hm_concat.encoders.sentence_vectors import SentenceVectorEncoder
from mmf_hm_concat.errors import InputError

KEY = "model_config.concat_vl.language.name"
DEFAULT = "l2_supercat_256"
# Name -> length of its vectors, weights and tokenizer in the package.
MODELS = {
    DEFAULT: (256, "weights/l2_supercat_256.safetensors", "l2_supercat_tokenizer_config.json")
}


class StaticVectors:
    """Texts to vectors of a model of `MODELS`; see `encoders.base.TextPreparation`.

    Raises:
        InputError: wordllama or what it needs is not installed, or it lacks the model.
    """

    are_vectors = True

    def __init__(self, name: str):
        self.dim, weights, tokenizer = MODELS[_known(name)]
        folder = _package()
        try:
            tensors = library("safetensors.numpy", KEY).load_file(folder / weights)
            given = (folder / "tokenizers" / tokenizer).read_bytes()
            self._rows = tensors["embedding.weight"].astype(np.float32)
            self._tokenizer = library("tokenizers", KEY).Tokenizer.from_str(given.decode())
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{KEY}: {version('wordllama')} has no usable {weights} ({error}). Install it "
                "again: make EXTRAS=encoders install."
            ) from None
        self._tokenizer.no_truncation()
        digest = hashlib.sha256(given)
        digest.update(tensors["embedding.weight"].tobytes())
        self.checksum = digest.hexdigest()
        self.identity = f"{version('wordllama')} {name or DEFAULT} {self.checksum}"

    def prepare(self, texts: Sequence[str]) -> Tensor:
        """float32 (N, dim); a text without tokens has zeros."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        # A lone surrogate, which JSON can contain, has no UTF-8.
        plain = [text.encode("utf-8", "replace").decode() for text in texts]
        encoded = self._tokenizer.encode_batch(plain, add_special_tokens=False)
        for vector, each in zip(vectors, encoded, strict=True):
            if each.ids:
                vector[:] = self._rows[each.ids].mean(axis=0)
        return torch.from_numpy(vectors)


class StaticEncoder(SentenceVectorEncoder):
    """`SentenceVectorEncoder` of `StaticVectors`."""

    @classmethod
    def from_config(
        cls, name: str, language: Mapping[str, Any], standardize: bool
    ) -> "StaticEncoder":
        return cls(MODELS[_known(name)][0], language["out_features"], standardize)

    @classmethod
    def check(cls, name: str, weights: str | None) -> None:
        """Raise InputError if there is no such model, or it is not installed."""
        _known(name)
        for module in ("safetensors", "tokenizers"):
            library(module, KEY)
        _package()

    @classmethod
    def preparation_of(cls, name: str) -> StaticVectors:
        """What makes its vectors."""
        return StaticVectors(name)


def _known(name: str) -> str:
    name = name or DEFAULT
    if name not in MODELS:
        raise InputError(f"{KEY} = wordllama/{name}: {unknown('model', name, MODELS)}")
    return name


def _package() -> Path:
    found = importlib.util.find_spec("wordllama")
    if found is None or not found.submodule_search_locations:
        library("wordllama", KEY)  # raises, with the command
        raise InputError(f"{KEY}: wordllama is not a package here. Install it again.")
    return Path(found.submodule_search_locations[0])

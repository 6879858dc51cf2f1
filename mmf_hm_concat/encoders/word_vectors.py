"""Pretrained vectors of words, from a text file of gigabytes: .vec of fastText or word2vec, GloVe.

The file is read once, line by line, and only the rows of the words wanted are kept: those of the
data, and the most frequent ones (such files begin with them), for texts that come later. What is
kept is one small binary file of our own, which holds no code:

    MAGIC, count, dim and the words' length in bytes as uint64, the words in UTF-8 with a newline
    after each, count x dim float32; little-endian.
"""

import hashlib
import json
import logging
import re
import string
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.files import atomic_write, identity, open_regular, remove_leftovers, sha256
from mmf_hm_concat.utils.locks import locked
from mmf_hm_concat.utils.private import ELSEWHERE, check_private, make_private

logger = logging.getLogger("mmf_hm_concat")

MAGIC = b"HMWORDS1"
HEADER = struct.Struct("<3Q")
# 60 MB at dimension 300, as much as a fitted fastText model.
MOST_FREQUENT = 50_000
PUNCTUATION = string.punctuation + "\u2018\u2019\u201c\u201d\u2026"
ENDINGS = (".vec", ".txt")


@dataclass(frozen=True)
class WordVectors:
    """A checked file of the form above; `encoders.fasttext_model.TextModel` in its place.

    Attributes:
        path: the file.
        checksum: hexadecimal SHA-256 of it.
        dim: length of its vectors.
    """

    path: Path
    checksum: str
    dim: int

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Sentence vectors, float32 (N, dim): the mean of the words' vectors, each of length 1.

        As fastText makes them of its words. Words without a vector do not count; a text without
        any gives zeros.
        """
        rows, matrix = self._table
        sentences = np.zeros((len(texts), self.dim), np.float32)
        for sentence, text in zip(sentences, texts, strict=True):
            known = [
                next((rows[form] for form in forms if form in rows), None)
                for forms in map(_forms, text.split())
            ]
            if known := [row for row in known if row is not None]:
                words = matrix[known]
                lengths = np.linalg.norm(words, axis=1, keepdims=True)
                sentence[:] = (words / np.maximum(lengths, 1e-12)).mean(axis=0)
        return sentences

    @cached_property
    def _table(self) -> tuple[dict[str, int], np.ndarray]:
        words, matrix = _read(self.path)
        return {word: row for row, word in enumerate(words)}, matrix


def _forms(token: str) -> list[str]:
    """How a word may be written in the file: as it stands, in lower case, without punctuation."""
    # A lone surrogate, which JSON can contain, has no UTF-8.
    token = token.encode("utf-8", "replace").decode()
    lower = token.lower()
    return [token, lower, lower.strip(PUNCTUATION)]


def load_word_vectors(path: Path) -> WordVectors:
    """Check a file that `cut_word_vectors` wrote.

    Raises:
        ValueError or OSError: it is damaged, cut short, or cannot be read.
    """
    _, matrix = _read(path)
    return WordVectors(path, sha256(path), matrix.shape[1])


def _read(path: Path) -> tuple[list[str], np.ndarray]:
    with open_regular(path) as file:
        content = file.read()
    start = len(MAGIC) + HEADER.size
    if not content.startswith(MAGIC) or len(content) < start:
        raise ValueError("it does not begin like a file of word vectors")
    count, dim, length = HEADER.unpack_from(content, len(MAGIC))
    if start + length + 4 * count * dim != len(content) or not count * dim:
        raise ValueError("it ends too early, or goes on after its end")
    words = content[start : start + length].decode().split("\n")[:-1]
    matrix = np.frombuffer(content, "<f4", offset=start + length).reshape(count, dim)
    if len(words) != count or not np.isfinite(matrix).all():
        raise ValueError("its words or numbers are damaged")
    return words, matrix


def cut_word_vectors(source: Path, texts: Sequence[str], cache_dir: Path) -> WordVectors:
    """Keep of ``source`` the words of ``texts`` and the `MOST_FREQUENT` first ones.

    Kept in ``cache_dir`` for later runs with the same file and words. The first of several
    processes reads, the others wait and use its file.

    Raises:
        InputError: the file is missing or damaged, has none of the words, or the folder cannot be
            used.
    """
    wanted = {form for text in texts for token in text.split() for form in _forms(token)}
    try:
        about = source.stat()
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error}).") from None
    of_file = [str(source.resolve()), *identity(source), MOST_FREQUENT]
    key = hashlib.sha256(json.dumps([of_file, sorted(wanted)]).encode()).hexdigest()[:16]
    try:
        make_private(cache_dir)
        path = cache_dir / f"words-{key}.bin"
        check_private(cache_dir, path.name, f"words-{key}.lock")
        with locked(cache_dir / f"words-{key}.lock", f"reads {source}"):
            try:
                return load_word_vectors(path)
            except (OSError, ValueError):
                remove_leftovers(cache_dir, path.name)
            logger.info("%s: reading %.1f GB of word vectors, once", source, about.st_size / 1e9)
            words, rows = _chosen(source, wanted)
            _write(path, words, rows)
            return load_word_vectors(path)
    except OSError as error:
        raise InputError(
            f"{cache_dir}: the word vectors of {source} cannot be kept there ({error}). Make the "
            f"folder writable, or free some space. {ELSEWHERE}"
        ) from None


def _chosen(source: Path, wanted: set[str]) -> tuple[list[str], list[np.ndarray]]:
    rows: dict[str, np.ndarray] = {}
    for index, (number, word, numbers) in enumerate(_lines(source)):
        if word in rows or not (word in wanted or index < MOST_FREQUENT):
            continue
        try:
            rows[word] = np.array(numbers.split(b" "), np.float32)
        except ValueError:
            rows[word] = np.full(1, np.nan, np.float32)
        if not np.isfinite(rows[word]).all():
            raise InputError(
                f"{source}, line {number}: what follows the word are no finite numbers."
            )
    if wanted.isdisjoint(rows):
        raise InputError(
            f"{source}: has none of the words of the texts. Give vectors of their language."
        )
    return list(rows), list(rows.values())


def _lines(source: Path) -> Iterator[tuple[int, str, bytes]]:
    """Line number, word and numbers, as they are written, of each line of a file of vectors."""
    dim = 0
    with open_regular(source) as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip()
            if number == 1 and re.fullmatch(rb"\d+ \d+", line):  # how many words, how many numbers
                dim = int(line.split()[1])
                continue
            blanks = line.count(b" ")
            dim = dim or blanks
            if blanks < dim or not dim:
                raise InputError(
                    f"{source}, line {number}: not a word and {dim or 'its'} numbers. Give a .vec "
                    "of fastText or word2vec, or a .txt of GloVe, whole."
                )
            word, _, numbers = line.partition(b" ")
            if blanks > dim:  # a word of GloVe may have blanks in it
                word = line.rsplit(b" ", dim)[0]
                numbers = line[len(word) + 1 :]
            yield number, word.decode("utf-8", "replace"), numbers


def _write(path: Path, words: Sequence[str], rows: Sequence[np.ndarray]) -> None:
    text = "".join(f"{word}\n" for word in words).encode()
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(MAGIC + HEADER.pack(len(words), len(rows[0]), len(text)) + text)
        for row in rows:
            file.write(row.astype("<f4").tobytes())

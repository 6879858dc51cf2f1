"""Texts to sentence vectors: fitting, caching, checking and using a fastText model.

A fitted model is one `.bin` file; `TextModel` is its path and checksum and holds nothing that
cannot be pickled. fastText itself loads a damaged file and then gives zeros, so every file is
checked here before fastText sees it.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import mmap
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import fasttext
import numpy as np

from mmf_hm_concat.encoders import word_vectors
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.utils.files import atomic_write, open_regular, remove_leftovers, sha256
from mmf_hm_concat.utils.locks import locked
from mmf_hm_concat.utils.private import ELSEWHERE, check_private, make_private

logger = logging.getLogger("mmf_hm_concat")

# The beginning of every fastText model (FASTTEXT_FILEFORMAT_MAGIC_INT32 in fasttext.cc), and
# the newest layout that its last release reads and writes (FASTTEXT_VERSION).
MAGIC = 793712314
NEWEST_LAYOUT = 12
# What fastText can fit without labels.
TEXT_MODELS = ("cbow", "skipgram")


@dataclass(frozen=True)
class TextModel:
    """A checked fastText model file.

    Attributes:
        path: the `.bin`.
        checksum: hexadecimal SHA-256 of the file.
        dim: length of its vectors.
    """

    path: Path
    checksum: str
    dim: int

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Sentence vectors, float32 (N, dim): the mean of the words' vectors, each of length 1.

        Newlines and runs of white space count as one blank; an empty text gives zeros. The file
        is loaded for this call only, so ask for many texts at once.

        Raises:
            InputError: the file is gone, or gives numbers that are not finite.
        """
        vectors = np.zeros((len(texts), self.dim), np.float32)
        lines = [_one_line(text) for text in texts]
        if any(lines):
            try:
                # Not fasttext.load_model: in some releases it prints a warning at every call.
                model = fasttext.FastText._FastText(model_path=str(self.path))
            except (ValueError, RuntimeError, MemoryError) as error:
                raise InputError(f"{self.path}: fastText cannot load it ({error}).") from None
            for vector, line in zip(vectors, lines, strict=True):
                if line:
                    vector[:] = model.get_sentence_vector(line)
        if not np.isfinite(vectors).all():
            raise InputError(
                f"{self.path}: its sentence vectors are not finite. Use another text model."
            )
        return vectors


def fit_text_model(
    texts: Sequence[str],
    *,
    model: str = "cbow",
    dim: int = 150,
    epochs: int = 40,
    min_count: int = 1,
    bucket: int = 100_000,
    cache_dir: Path,
) -> TextModel:
    """Fit fastText (unsupervised) on ``texts``, or take the same fit from ``cache_dir``.

    One thread, in a process of its own: the same texts and arguments give the same file. The
    first of several processes fits, the others wait and use its file.

    Args:
        texts: training texts; empty ones are left out.
        model: "cbow", which predicts a word from those around it, as the tutorial's; or "skipgram",
            which predicts those from the word.
        dim: length of the vectors; the tutorial's 150.
        epochs: passes over the texts. fastText's 5 are meant for a web crawl; a few thousand
            sentences want more before their vectors tell them apart.
        min_count: words rarer than this have no vector of their own, only those of their parts.
            fastText's 5 is meant for a web crawl: it leaves nothing of ten memes of one's own
            and little of a few hundred. 1 works from one text up.
        bucket: rows for parts of words (3 to 6 letters), of 4 x dim bytes each. fastText's
            2,000,000 would be 1.2 GB at dim 150, nearly all of it unused by 8,500 short texts;
            100,000 are 60 MB.

    Raises:
        InputError: no text has a word, fastText finds no numbers, or the folder cannot be used.
    """
    lines = [line for line in map(_one_line, texts) if line]
    if not lines:
        raise InputError("All texts are empty: there is nothing to fit a text model on.")
    config: dict[str, int | str] = {
        **{"model": model, "dim": dim, "epoch": epochs, "minCount": min_count, "bucket": bucket},
        **{"thread": 1, "verbose": 0},
    }
    corpus = "\n".join(lines) + "\n"
    key = json.dumps([config, _fasttext_version(), hashlib.sha256(corpus.encode()).hexdigest()])
    name = f"text-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    try:
        make_private(cache_dir)
        path, note = cache_dir / f"{name}.bin", cache_dir / f"{name}.sha256"
        check_private(cache_dir, path.name, note.name, f"{name}.lock")
        with locked(cache_dir / f"{name}.lock", f"fits {path}"):
            if path.is_file() and note.is_file():
                checksum = sha256(path)
                if checksum == note.read_text("ascii", "replace"):
                    return TextModel(path, checksum, dim)
                logger.warning("%s: damaged; the text model is fitted again.", path)
            remove_leftovers(cache_dir, path.name)  # nobody else writes under this lock
            with atomic_write(path) as temporary:
                _fit(corpus, config, temporary)
                try:
                    _check_layout(temporary)
                except (ValueError, struct.error) as error:  # on a full disk fastText says nothing
                    raise OSError(f"fastText wrote only a part of it: {error}") from None
                checksum = sha256(temporary)
            with atomic_write(note) as temporary:
                temporary.write_text(checksum, "ascii")
    except OSError as error:
        raise InputError(
            f"{cache_dir}: the text model cannot be kept there ({error}). Make the folder "
            f"writable, or free some space. {ELSEWHERE}"
        ) from None
    return TextModel(path, checksum, dim)


# Those that have a package `fasttext`, in alphabetical order.
DISTRIBUTIONS = ("fasttext", "fasttext-numpy2", "fasttext-numpy2-wheel", "fasttext-wheel")

# fastText reads memory that it never wrote: in a process with a history, the same texts give
# other vectors, or NaN. So it is fitted in a process of its own, whose memory is handed out
# zeroed: 255 is glibc's way to say so (mallopt(3), M_PERTURB); fresh pages are zero anyway.
_ZEROED_MEMORY = {"MALLOC_PERTURB_": "255"}
_PROGRAM = """
import json, sys, fasttext
lines, model, config = sys.argv[1:]
try:
    fasttext.train_unsupervised(lines, **json.loads(config)).save_model(model)
except (ValueError, RuntimeError) as error:  # an empty vocabulary, or NaN on the way
    sys.exit(str(error))
"""


def _fit(corpus: str, config: dict[str, int | str], path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "texts"
        lines.write_bytes(corpus.encode())
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(lines), str(path), json.dumps(config)],
            env={**os.environ, **_ZEROED_MEMORY},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InputError(
            f"fastText cannot fit {corpus.count(chr(10))} texts ({reason}). Give it more texts "
            "or a pretrained file (model_file)."
        )


def load_text_model(
    path: str | Path, checksum: str | None = None
) -> "TextModel | word_vectors.WordVectors":
    """Check a fastText `.bin` from anywhere: a pretrained one, or the copy in a run's folder.

    The latter may also be what `encoders.word_vectors` keeps of pretrained vectors of words.

    Args:
        checksum: the SHA-256 it must have, if known.

    Raises:
        InputError: no such file, another checksum, not a fastText model, cut short, or empty.
    """
    path = Path(path)
    try:
        if _begins_with(path, word_vectors.MAGIC):
            model: TextModel | word_vectors.WordVectors = word_vectors.load_word_vectors(path)
        else:
            model = TextModel(path, "", _check_layout(path))
            model = dataclasses.replace(model, checksum=sha256(path))
    except (OSError, ValueError, struct.error) as error:
        if isinstance(error, FileNotFoundError):
            reason = "no such file"
        else:
            reason = f"not a whole fastText model ({error})"
        raise InputError(
            f"{path}: {reason}. Give a .bin file that fastText saved, or vectors of words as text "
            f"({', '.join(word_vectors.ENDINGS)})."
        ) from None
    if checksum is not None and model.checksum != checksum:
        raise InputError(
            f"{path}: not the text model that is asked for: its checksum is "
            f"{model.checksum[:12]}, wanted "
            f"is {checksum[:12]}. Use the text model that was made together with this run."
        )
    return model


def _begins_with(path: Path, magic: bytes) -> bool:
    with open_regular(path) as file:
        return file.read(len(magic)) == magic


def _check_layout(path: Path) -> int:
    """Walk through the file as fastText's loadModel does; return the dimension.

    Raises ValueError or struct.error when something is missing, left over or empty.
    """
    with (
        open_regular(path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        magic, layout, dim = struct.unpack_from("<3i", data, 0)
        if magic != MAGIC or layout > NEWEST_LAYOUT:
            raise ValueError("it does not begin like one")
        # Two numbers of the file, 12 of the arguments and one double are 64 bytes.
        words, _, _, _, pruned = struct.unpack_from("<3i2q", data, 64)
        at = 64 + struct.calcsize("<3i2q")
        for _ in range(words):
            end_of_word = data.find(b"\0", at)
            if end_of_word < 0:
                raise ValueError("it ends within the words")
            at = end_of_word + 1 + struct.calcsize("<qb")  # how often, and which kind
        at += 8 * max(pruned, 0)
        # Two matrices, words and contexts, each after a byte that says whether it is quantized;
        # the second byte counts in a quantized model (.ftz) only.
        quantized = data[at : at + 1] == b"\1"
        sample, at = _matrix(data, at + 1, dim, quantized)
        if not (sample.any() and np.isfinite(sample).all()):
            raise ValueError("its vectors are zero or not finite")
        _, at = _matrix(data, at + 1, dim, quantized and data[at : at + 1] == b"\1")
        if at != len(data):
            raise ValueError("it goes on after its end")
    return dim


def _matrix(data: mmap.mmap, at: int, dim: int, quantized: bool) -> tuple[np.ndarray, int]:
    """The first numbers of a matrix (of a quantized one: its centroids), and where it ends.

    As DenseMatrix::load, QuantMatrix::load and ProductQuantizer::load of fastText read it.
    """
    normed, codes = False, 0
    if quantized:
        normed, rows, columns, codes = struct.unpack_from("<?2qi", data, at)
        start = at + struct.calcsize("<?2qi") + codes + 16  # 4 numbers about the centroids
        count = 256
    else:
        rows, columns = struct.unpack_from("<2q", data, at)
        start = at + struct.calcsize("<2q")
        count = rows
    end = start + 4 * count * columns
    if normed:  # a code for each row's length, and their own centroids, of dimension 1
        end += rows + 16 + 4 * 256
    if rows < 0 or codes < 0 or columns != dim or end > len(data):
        raise ValueError("it ends too early")
    return np.frombuffer(data[start : start + 4 * min(count, 1000) * dim], np.float32), end


def mean_and_std(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (of the population) of each column of (N, dim), float32 (dim,) each.

    Rows of zeros, which texts without words have, are left out: so far from all others, a few of
    them would make the deviation many times larger.

    Sentence vectors of a model fitted on a few thousand texts are nearly the same vector: only
    after subtracting the one and dividing by the other can a network tell them apart. A column
    without variation, up to the rounding of float32, has deviation 1.
    """
    vectors = vectors[vectors.any(axis=1)]
    if not len(vectors):
        raise InputError("There are no sentence vectors to take the mean and deviation of.")
    mean = vectors.mean(axis=0, dtype=np.float64)
    deviation = vectors.std(axis=0, dtype=np.float64)
    smallest = 4 * np.finfo(np.float32).eps * np.maximum(np.abs(vectors).max(axis=0), 1e-30)
    deviation[deviation <= smallest] = 1
    return mean.astype(np.float32), deviation.astype(np.float32)


def _one_line(text: str) -> str:
    # A lone surrogate, which JSON can contain, has no UTF-8.
    return " ".join(text.split()).encode("utf-8", "replace").decode()


@functools.cache
def _fasttext_version() -> list[str]:
    """Name and version of the distribution that `import fasttext` found; several have it."""
    found = []
    # By name: to look through all that is installed takes a tenth of a second.
    for name in DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return found

"""`hm_concat predict RUN MEMES --out OUT.csv`: P(hateful) of many memes, without MMF."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmf_hm_concat.data.new_memes import read_new_memes
from mmf_hm_concat.errors import InputError
from mmf_hm_concat.inference.member import load_member
from mmf_hm_concat.inference.splits import predict_memes
from mmf_hm_concat.inference.submission import Summary, csv_of, summary_of
from mmf_hm_concat.utils.files import atomic_write, why_unwritable


def predict_new_memes(
    runs: Sequence[str], source: Path, out: Path, *, threshold: float, cache_dir: Path
) -> Summary:
    """Write ``out``, `id,proba,label`; of a test.jsonl the same bytes as mmf_predict.

    Args:
        runs: as for `MemeClassifier.load`; of several, the mean.
        source: a folder of images, a .jsonl or a .csv (data/new_memes.py).
        threshold: label is 1 from this probability on.
        cache_dir: keeps decoded images and features of frozen encoders, as training does.

    Raises:
        InputError: a run cannot be loaded, a meme cannot be read, or ``out`` cannot be written.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"--threshold {threshold}: give a number above 0 and up to 1.")
    if out.resolve() == source.resolve():
        raise InputError(f"{out} is the input and would be overwritten: name another file.")
    if problem := why_unwritable(out.parent):
        raise InputError(f"{out}: cannot be written ({problem}).")
    memes = read_new_memes(source, cache_dir)
    columns = []
    for run in runs:
        member = load_member(Path(run))
        if "number" not in memes:  # by which vectors of a features_file are found
            member.without_vectors(run)
        columns.append(predict_memes(member, memes, cache_dir).tolist())
    probabilities = np.array([sum(row) / len(row) for row in zip(*columns, strict=True)])
    try:
        with atomic_write(out) as temporary:
            text = csv_of(memes["id"].tolist(), probabilities, threshold)
            temporary.write_text(text, "utf-8", newline="")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error}).") from None
    return summary_of(out, probabilities, threshold)

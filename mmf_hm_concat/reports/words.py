"""Which words tell the classes apart."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

METHOD = (
    "Log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, "
    "'Fightin' Words'), the prior being the counts of both classes together; "
    "z is the ratio in standard deviations. A word counts once a meme."
)


def telling_words(texts: Sequence[str], labels: Sequence[int]) -> pd.DataFrame:
    """Words by how much more usual they are in one class than in the other.

    Args:
        labels: 0 benign, 1 hateful, one a text.

    Returns:
        Columns ``word``, ``hateful`` and ``benign`` (memes that have it) and ``z`` (see `METHOD`;
        positive: hateful), from the most hateful word to the most benign. Empty when a class is
        missing or there are no words.
    """
    # Here, as importing it changes the process's warnings and environment, and takes seconds.
    from sklearn.feature_extraction.text import CountVectorizer

    empty = pd.DataFrame({"word": pd.Series(dtype=object), "hateful": [], "benign": [], "z": []})
    label_B = np.asarray(labels)
    if len(set(labels)) < 2 or not any(map(str.strip, texts)):
        return empty
    # Apostrophes stay within words; a word may be one letter, as "i".
    vectorizer = CountVectorizer(binary=True, token_pattern=r"\w[\w'\u2019]*")
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # texts of marks alone
        return empty
    hateful = np.asarray(counts[label_B == 1].sum(axis=0)).astype(float).ravel()
    benign = np.asarray(counts[label_B == 0].sum(axis=0)).astype(float).ravel()
    if not hateful.any() or not benign.any():
        return empty
    prior = hateful + benign
    z = _log_odds(hateful, prior) - _log_odds(benign, prior)
    z /= np.sqrt(1 / (hateful + prior) + 1 / (benign + prior))
    table = pd.DataFrame(
        {
            "word": vectorizer.get_feature_names_out().astype(object),
            "hateful": hateful.astype(int),
            "benign": benign.astype(int),
            "z": z,
        }
    )
    return table.sort_values(["z", "word"], ascending=[False, True], ignore_index=True)


def _log_odds(counts: np.ndarray, prior: np.ndarray) -> np.ndarray:
    with_prior = counts + prior
    rest = with_prior.sum() - with_prior
    # One word in all has no rest: its odds are endless in both classes, so they tell nothing.
    return np.log(with_prior) - np.log(np.maximum(rest, 1))

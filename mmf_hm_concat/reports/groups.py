"""Memes that belong together: the same text, the same image, or both, in one split or two."""

import itertools

import numpy as np
import pandas as pd

# Bits of 64 in which the perceptual hashes of two images that look alike may differ.
LOOK_BITS = 6


def with_keys(memes: pd.DataFrame) -> pd.DataFrame:
    """Add what tells memes apart (columns: survey.py).

    Returns:
        The memes with ``text_key`` (lower case, single spaces; None without text), ``image_key``
        (the file's content; its name where it cannot be read) and ``look_key`` (the same number
        for images that look alike, a chain of steps of at most `LOOK_BITS` bits).
    """
    text = memes["text"].map(lambda text: " ".join(text.casefold().split()) or None)
    image = memes["content"].where(memes["content"].notna(), "img:" + memes["img"].astype(object))
    return memes.assign(text_key=text, image_key=image, look_key=_look_keys(memes["look"], image))


def distinct(memes: pd.DataFrame) -> pd.DataFrame:
    """One row a meme that several files have; the labelled one where one of them is.

    Rows that say different labels of the same meme all stay.
    """
    same = ["number", "img", "text"]
    labelled = memes.groupby(same, dropna=False)["label"].transform("count") > 0
    rows = memes[memes["label"].notna() | ~labelled]
    return rows.drop_duplicates([*same, "label"])


def confounders(memes: pd.DataFrame, shared: str, other: str) -> list[pd.DataFrame]:
    """Groups that share a text (or an image), have both labels, and differ in the other.

    Args:
        memes: with keys, each once.
        shared, other: two of the key columns.
    """
    return [
        group
        for group in _groups(memes[memes["label"].notna()], [shared])
        if group["label"].nunique() > 1 and group[other].nunique() > 1
    ]


def duplicates(memes: pd.DataFrame) -> list[pd.DataFrame]:
    """Groups of memes with the same text (none is one, too) and the same image content."""
    readable = memes[memes["content"].notna()]
    return _groups(
        readable.assign(text_key=readable["text_key"].fillna("")), ["text_key", "content"]
    )


def overlap(memes: pd.DataFrame) -> pd.DataFrame:
    """For each two splits, how many memes of the first the second has, too, by four measures."""
    keyed = memes.assign(text_key=memes["text_key"].fillna(""))
    measures = {
        "the same id": ["number"],
        "the same image": ["content"],
        "the same text": ["text_key"],
        "the same text and image": ["text_key", "content"],
    }
    rows = []
    for one, two in itertools.combinations(memes["split"].unique(), 2):
        row = {"memes of": one, "that are also in": two}
        for title, columns in measures.items():
            usable = keyed
            if "content" in columns:
                usable = usable[usable["content"].notna()]
            if columns == ["text_key"]:
                usable = usable[usable["text_key"] != ""]
            first, second = (usable.loc[usable["split"] == split, columns] for split in (one, two))
            keys = set(second.itertuples(index=False, name=None))
            row[title] = sum(key in keys for key in first.itertuples(index=False, name=None))
        rows.append(row)
    return pd.DataFrame(rows, columns=["memes of", "that are also in", *measures])


def _groups(memes: pd.DataFrame, columns: list[str]) -> list[pd.DataFrame]:
    memes = memes.dropna(subset=columns)
    memes = memes[memes.duplicated(columns, keep=False)]
    return [group for _, group in memes.groupby(columns, sort=False)]


def _look_keys(looks: pd.Series, images: pd.Series) -> pd.Series:
    """Numbers, the same for looks in one chain; an image without a look is like itself alone."""
    # Here, as importing it changes the process's warning filters.
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    values = np.array(list(dict.fromkeys(looks.dropna())), dtype=np.uint64)
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(values), 256):  # 256 rows at a time: bounded memory
        block = values[start : start + 256, None] ^ values[None]
        rows, columns = np.nonzero(np.bitwise_count(block) <= LOOK_BITS)
        pairs.append(np.stack([rows + start, columns], axis=1))
    row, column = np.concatenate(pairs).T
    graph = coo_matrix((np.ones(len(row), bool), (row, column)), shape=(len(values),) * 2)
    chain = connected_components(graph, directed=False)[1].tolist() if len(values) else []
    chain_of = dict(zip(values.tolist(), chain, strict=True))
    alone: dict[str, int] = {}
    return pd.Series(
        [
            alone.setdefault(image, -1 - len(alone)) if look is None else chain_of[look]
            for look, image in zip(looks, images, strict=True)
        ],
        index=looks.index,
        dtype="int64",
    )

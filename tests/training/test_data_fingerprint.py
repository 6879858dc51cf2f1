"""What a resumed run is told about data that has changed."""

import pandas as pd

from mmf_hm_concat.training.data_fingerprint import changes, fingerprint


def memes(*rows):
    table = pd.DataFrame(rows, columns=["number", "label", "text"])
    return fingerprint(table.astype({"label": "Int8"}))


OLD = memes((1, 0, "a"), (2, 1, "b"), (3, None, "ü"))


def test_what_changed_is_named():
    assert changes(OLD, memes((1, 0, "a"), (2, 1, "b"), (3, None, "ü"))) == []
    new = memes((2, 0, "c"), (3, None, "ü"), (12, 1, "a"), (13, 1, "a"))
    assert changes(OLD, new) == [
        "1 meme is gone (1)",
        "2 memes are new (12, 13)",
        "1 meme is now labelled otherwise (2)",
        "1 meme is now of another text (2)",
    ]
    other_order = memes((2, 1, "b"), (1, 0, "a"), (3, None, "ü"))
    assert changes(OLD, other_order) == ["the memes are in another order"]


def test_many_are_counted():
    new = memes(*[(number, 0, "a") for number in range(1, 21)])
    assert changes(OLD, new)[0] == "17 memes are new (4, 5, 6, 7, 8, and 12 more)"

"""The memes that a run gets most wrong, and those it is least sure of, each with its reasons."""

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from mmf_hm_concat.errors import InputError
from mmf_hm_concat.images.decode import read_rgb
from mmf_hm_concat.inference.features import Features, fused
from mmf_hm_concat.inference.member import Member
from mmf_hm_concat.reports.page import Card, Cards, Section, thumbnail
from mmf_hm_concat.reports.run_memes import Predicted
from mmf_hm_concat.reports.saliency import heat, saliency, words_that_matter
from mmf_hm_concat.reports.scores import THRESHOLD

TITLE = "Mistakes and doubts"
SHOWN, NEIGHBOURS = 8, 3
SMALL = 120  # pixels, the longest side of a neighbour
CLASSES = {0: "benign", 1: "hateful"}
Neighbours = list[tuple[int, float]]  # rows of the training memes, and their similarity


def worst_and_most_uncertain(predicted: Predicted) -> tuple[list[int], list[int]]:
    """Rows of the most confident mistakes, and of the P(hateful) nearest to 0.5, at most 8 each."""
    proba_N = predicted.proba
    label_N = predicted.memes["label"].astype("Float64").fillna(-1).to_numpy(float)
    wrong = (label_N >= 0) & ((proba_N >= THRESHOLD) != (label_N == 1))
    by_error = np.argsort(-np.abs(label_N - proba_N), kind="stable")
    worst = [int(row) for row in by_error if wrong[row]][:SHOWN]
    by_doubt = np.argsort(np.abs(proba_N - THRESHOLD), kind="stable")
    return worst, [int(row) for row in by_doubt if row not in worst][:SHOWN]


def nearest(
    member: Member, queries: Features, training: Predicted, leave_out: Sequence[int]
) -> list[Neighbours]:
    """For each query the training memes of the highest cosine similarity of the fused feature.

    Args:
        leave_out: for each query the id of a meme that does not count: itself.
    """
    assert training.features is not None
    query_QD = torch.nn.functional.normalize(torch.cat(list(fused(member, queries))))
    numbers = training.memes["number"].tolist()
    best: list[list[tuple[float, int]]] = [[] for _ in range(len(query_QD))]
    start = 0
    for batch_BD in fused(member, training.features):
        similarity_QB = query_QD @ torch.nn.functional.normalize(batch_BD).T
        for query, row in enumerate(similarity_QB.tolist()):
            some = [
                (value, -(start + i))
                for i, value in enumerate(row)
                if numbers[start + i] != leave_out[query]
            ]
            best[query] = heapq.nlargest(NEIGHBOURS, [*best[query], *some])
        start += len(batch_BD)
    return [[(-row, value) for value, row in each] for each in best]


def mistakes(
    member: Member | None, predicted: Predicted, training: Predicted | None, not_shown: list[str]
) -> tuple[Section, dict[str, Any]]:
    """The section, and which memes it shows."""
    worst, uncertain = worst_and_most_uncertain(predicted)
    rows = [*worst, *uncertain]
    neighbours: list[Neighbours] = [[] for _ in rows]
    words: list[list[tuple[str, float]]] = [[] for _ in rows]
    heats: list[bytes | None] = [None for _ in rows]
    if member is not None and predicted.features is not None:
        of_shown = predicted.features.rows(rows)
        if training is not None:
            ids = predicted.memes["number"].iloc[rows].tolist()
            neighbours = nearest(member, of_shown, training, ids)
        texts = predicted.memes["text"].iloc[rows].tolist()
        if "language" in member.features_files:
            not_shown.append("words that matter: this run takes vectors, not texts.")
        words = words_that_matter(member, texts, of_shown.image_ND, predicted.proba[rows])
        heats = _heats(member, predicted, rows, not_shown)
    cards = [
        _card(predicted, row, training, like, without, heated)
        for row, like, without, heated in zip(rows, neighbours, words, heats, strict=True)
    ]
    blocks = []
    if worst:
        title = f"The {len(worst)} most confident mistakes"
        blocks.append(Cards(title, cards[: len(worst)], wide=True))
    elif predicted.is_labelled.any():
        not_shown.append("mistakes: there are none in this split.")
    if uncertain:
        title = f"The {len(uncertain)} memes nearest to P(hateful) = {THRESHOLD}"
        blocks.append(Cards(title, cards[len(worst) :], wide=True))
    text = [
        "Below each meme: what P(hateful) becomes without a word, for the words that change it "
        "most; and the training memes whose fused feature is most like it (cosine similarity). "
        "Beside it: how strongly each place of the image moves the prediction (absolute gradient; "
        "bright is strong). A gradient shows what a small change would do, not what was understood."
    ]
    names = predicted.memes["name"].tolist()
    numbers = {
        key: [{"id": names[row], "proba": float(predicted.proba[row])} for row in of]
        for key, of in (("worst", worst), ("most_uncertain", uncertain))
    }
    return Section(TITLE, text, blocks), numbers


def _heats(
    member: Member, predicted: Predicted, rows: Sequence[int], not_shown: list[str]
) -> list[bytes | None]:
    found: list[bytes | None] = [None for _ in rows]
    if predicted.images is None or predicted.features is None:
        why = "takes vectors, not images" if member.features_files else "has no image branch"
        not_shown.append(f"where it looked in the image: this run {why}.")
        return found
    for i, row in enumerate(rows):
        image = _image(predicted.memes["path"].iloc[row])
        text_1D = predicted.features.rows([row]).text_ND
        of_pixels = saliency(member, text_1D, predicted.images[row])
        if of_pixels is None:
            not_shown.append(
                "where it looked in the image: the image encoder is not differentiable end to end."
            )
            return found
        found[i] = None if image is None else heat(image, of_pixels)
    return found


def _card(
    predicted: Predicted,
    row: int,
    training: Predicted | None,
    neighbours: Neighbours,
    words: Sequence[tuple[str, float]],
    heated: bytes | None,
) -> Card:
    meme, proba = predicted.memes.iloc[row], float(predicted.proba[row])
    label = _label(meme["label"])
    image = _image(meme["path"])
    near = []
    for other, similarity in neighbours:
        assert training is not None
        like = training.memes.iloc[other]
        of_other, its_image = _label(like["label"]), _image(like["path"])
        near.append(
            Card(
                like["name"],
                like["text"],
                [f"{of_other}, similarity {similarity:.2f}"],
                None if its_image is None else thumbnail(its_image, SMALL),
                blurred=of_other != "benign",
            )
        )
    return Card(
        f"meme {meme['name']}",
        meme["text"],
        [f"P(hateful) = {proba:.3f}, label: {label}"],
        None if image is None else thumbnail(image),
        # A benign meme that looks hateful to the run may look so to people, too.
        blurred=label != "benign" or proba >= THRESHOLD,
        heat=heated,
        words=[f"without “{word}”: {without:.3f}" for word, without in words],
        near=near,
    )


def _label(label: Any) -> str:
    return "unlabelled" if pd.isna(label) else CLASSES[int(label)]


def _image(path: str | None) -> Image.Image | None:
    if not isinstance(path, str):
        return None
    try:
        return read_rgb(path)
    except InputError:
        return None

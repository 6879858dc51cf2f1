"""Whether a run uses both modalities: its metrics with one replaced, emptied or shuffled."""

from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from mmf_hm_concat.inference.features import (
    Features,
    image_features,
    mean_feature,
    probabilities,
    text_features,
)
from mmf_hm_concat.inference.member import Member
from mmf_hm_concat.reports import plots
from mmf_hm_concat.reports.page import Plot, Section, Table
from mmf_hm_concat.reports.run_memes import Predicted
from mmf_hm_concat.reports.scores import metrics_of

TITLE = "Whether it uses both image and text"
SHUFFLES = 10  # their metrics are averaged: one of a small split is a matter of luck
SEED = 0
# A loss of AUROC below this is none; what two trainings differ by is larger.
NONE = 0.02
WHOLE, NO_IMAGE, NO_TEXT = "image and text", "the mean image", "no text"
SHUFFLED_IMAGE, SHUFFLED_TEXT = "images shuffled", "texts shuffled"


def ablate(member: Member, predicted: Predicted, mean_pixels: Tensor | None) -> pd.DataFrame:
    """Metrics of the labelled memes, with each modality taken away in two ways.

    Args:
        mean_pixels: uint8 (3, S, S), what every image is replaced by; None without an image branch.

    Returns:
        Columns ``name``, ``auroc`` (NaN with one class), ``accuracy`` and ``change``: the mean
        absolute change of P(hateful). The same every time.
    """
    assert predicted.features is not None
    rows = np.flatnonzero(predicted.is_labelled)
    label_N, proba_N = predicted.labelled()
    whole = predicted.features.rows(rows)
    text_ND, image_ND = whole.text_ND, whole.image_ND
    inputs: dict[str, list[Features]] = {WHOLE: [whole]}
    orders = [np.random.default_rng(SEED + i).permutation(len(rows)) for i in range(SHUFFLES)]
    mean_1D = _without(member, "vision", mean_pixels)
    if image_ND is not None and mean_1D is not None:
        inputs[NO_IMAGE] = [Features(text_ND, mean_1D.expand_as(image_ND))]
        inputs[SHUFFLED_IMAGE] = [Features(text_ND, image_ND[order]) for order in orders]
    if text_ND is not None:
        empty_1D = _without(member, "language", None)
        assert empty_1D is not None
        inputs[NO_TEXT] = [Features(empty_1D.expand_as(text_ND), image_ND)]
        inputs[SHUFFLED_TEXT] = [Features(text_ND[order], image_ND) for order in orders]
    found = []
    for name, variants in inputs.items():
        of_each = []
        for features in variants:
            changed_N = probabilities(member, features)
            metrics = metrics_of(label_N, changed_N)
            auroc = np.nan if metrics["auroc"] is None else metrics["auroc"]
            of_each.append((auroc, metrics["accuracy"], np.abs(changed_N - proba_N).mean()))
        found.append((name, *np.mean(np.array(of_each, dtype=float), axis=0)))
    return pd.DataFrame(found, columns=["name", "auroc", "accuracy", "change"])


def _without(member: Member, branch: str, mean_pixels: Tensor | None) -> Tensor | None:
    """What a branch gives for no text or the mean image, (1, D); None without that image."""
    if branch in member.features_files:
        return mean_feature(member, branch)
    if branch == "language":
        return text_features(member, [""])
    if mean_pixels is None:
        return None
    return image_features(member, 1, lambda rows: mean_pixels[None])


def ablation(
    member: Member | None, predicted: Predicted, mean_pixels: Tensor | None, not_shown: list[str]
) -> tuple[Section, dict[str, Any]]:
    """The section, and its numbers."""
    if member is None or predicted.features is None:
        return Section(TITLE, ["Only MMF can run this model."]), {}
    if not predicted.is_labelled.any():
        not_shown.append("ablation: it needs labels.")
        return Section(TITLE, ["No meme of this split has a label."]), {}
    table = ablate(member, predicted, mean_pixels)
    for branch, module in (
        ("image", member.network.vision_module),
        ("text", member.network.language_module),
    ):
        if module is None:
            not_shown.append(f"ablation of the {branch}: this run has no {branch} branch.")
    of = dict(zip(table["name"], table["auroc"], strict=True))
    text = [
        "The same network and memes, with every image replaced by the mean training image, every "
        f"text emptied, or one of the two exchanged among the memes (mean of {SHUFFLES} shuffles, "
        f"seed {SEED}). A run that needs both falls towards 0.5 whichever is taken away."
    ]
    shown = table.rename(
        columns={"name": "memes with", "auroc": "AUROC", "change": "mean change of P(hateful)"}
    )
    blocks: list[Table | Plot] = [Table(shown, "Metrics of the labelled memes")]
    if np.isnan(of[WHOLE]):
        not_shown.append("AUROC of the ablation: the labelled memes are of one class.")
    else:
        text.append(_verdict(of))
        lost = [f"{of[name]:.2f} with {name}" for name in (NO_IMAGE, NO_TEXT) if name in of]
        title = f"AUROC is {of[WHOLE]:.2f}, {' and '.join(lost)}"
        blocks.append(plots.values("ablation", title, of, "AUROC (dashed: chance)", 0.5))
    keep = {row["name"]: row for row in table.to_dict("records")}
    return Section(TITLE, text, blocks), {
        name: {key: None if np.isnan(v) else v for key, v in row.items() if key != "name"}
        for name, row in keep.items()
    }


def _verdict(of: dict[str, float]) -> str:
    if NO_IMAGE not in of or NO_TEXT not in of:
        return "This run has one modality only."
    unused = [
        what
        for what, name in (("image", NO_IMAGE), ("text", NO_TEXT))
        if of[WHOLE] - of[name] < NONE
    ]
    if of[WHOLE] < 0.5 + NONE:
        return "This run does not tell the classes apart, so there is nothing to lose."
    if unused:
        return f"Without the {unused[0]} AUROC hardly changes: this run hardly uses it."
    return "AUROC falls whichever is taken away: this run uses both."

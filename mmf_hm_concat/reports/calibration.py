"""Whether probabilities mean what they say, and what temperature scaling makes of them.

Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks": divide the
logits by one number, the temperature, which makes the validation memes most likely. It changes
neither which class a meme gets at 0.5 nor AUROC.
"""

from typing import Any

import numpy as np
import pandas as pd

from mmf_hm_concat.reports import plots
from mmf_hm_concat.reports.page import Section, Table
from mmf_hm_concat.reports.run_memes import Predicted

TITLE = "Whether the probabilities can be believed"
BINS = 10
# Temperatures that are tried; where the validation memes have no mistake, the lower end is best.
LEAST, MOST = 0.05, 20.0
# Probabilities this near to 0 and 1 have logits that a double still tells apart.
NEAREST = 1e-12


def expected_calibration_error(label_N: np.ndarray, proba_N: np.ndarray) -> float:
    """Mean distance of P(hateful) from the share of hateful memes, over `BINS` equal bins of it.

    Bins count by their memes: Naeini, Cooper and Hauskrecht 2015, for the class "hateful".
    """
    share, mean, count = reliability(label_N, proba_N)
    return float((np.abs(share - mean) * count).sum() / count.sum())


def reliability(
    label_N: np.ndarray, proba_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each bin with memes: share of hateful ones, mean P(hateful), and number of memes."""
    from sklearn.calibration import calibration_curve

    share, mean = calibration_curve(label_N, proba_N, n_bins=BINS, strategy="uniform")
    # The bins of calibration_curve, which does not say how many memes each has.
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    count = np.bincount(np.searchsorted(inner, proba_N), minlength=BINS)
    return share, mean, count[count > 0]


def fit_temperature(label_N: np.ndarray, proba_N: np.ndarray) -> float:
    """The temperature in [`LEAST`, `MOST`] that makes the labels, of both classes, most likely."""
    # Here, as importing it changes the process's warning filters.
    from scipy.optimize import minimize_scalar
    from sklearn.metrics import log_loss

    def loss(log_temperature: float) -> float:
        scaled = with_temperature(proba_N, float(np.exp(log_temperature)))
        return log_loss(label_N, scaled, labels=[0, 1])

    bounds = (np.log(LEAST), np.log(MOST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def with_temperature(proba_N: np.ndarray, temperature: float) -> np.ndarray:
    """P(hateful) after dividing the logits by ``temperature``."""
    clipped = np.clip(proba_N, NEAREST, 1 - NEAREST)
    logit = (np.log(clipped) - np.log1p(-clipped)) / temperature
    return 1 / (1 + np.exp(-logit))


def calibration(
    predicted: Predicted, validation: Predicted | None, split: str, not_shown: list[str]
) -> tuple[Section, dict[str, Any]]:
    """The section, and its numbers."""
    label_N, proba_N = predicted.labelled()
    if not len(label_N):  # said where the metrics are
        return Section(TITLE, ["No meme of this split has a label."]), {}
    before = expected_calibration_error(label_N, proba_N)
    numbers: dict[str, Any] = {"ece": before, "temperature": None, "ece_scaled": None}
    rows = [("as predicted", 1.0, before)]
    series = {"as predicted": _points(label_N, proba_N)}
    text = [
        f"Of the memes with P(hateful) around 0.8, 80% should be hateful. The calibration error is "
        f"the mean distance from that over {BINS} equal bins of P(hateful). Temperature scaling "
        "divides the logits by one number, fitted on the validation split."
    ]
    title = f"Probabilities are off by {before:.3f} on average"
    fitted_on = validation.labelled() if validation else (np.empty(0), np.empty(0))
    if len(np.unique(fitted_on[0])) < 2:
        not_shown.append("temperature scaling: it needs validation memes of both classes.")
    else:
        temperature = fit_temperature(*fitted_on)
        scaled = with_temperature(proba_N, temperature)
        after = expected_calibration_error(label_N, scaled)
        numbers |= {"temperature": temperature, "ece_scaled": after}
        rows.append(("with temperature scaling", temperature, after))
        series["with temperature scaling"] = _points(label_N, scaled)
        title += f", after scaling by {after:.3f}"
        text.append(_meaning(temperature))
        if validation is predicted:
            text.append(
                f"The temperature was fitted on this very split ({split}), which flatters it: "
                "look at another split, too."
            )
    columns = ["probabilities", "temperature", "expected calibration error"]
    plot = plots.lines(
        "calibration",
        title,
        series,
        "mean P(hateful) of the bin",
        "share of hateful memes in the bin",
        by_chance=([0, 1], [0, 1]),
        unit_square=True,
    )
    return Section(TITLE, text, [Table(pd.DataFrame(rows, columns=columns), title), plot]), numbers


def _points(label_N: np.ndarray, proba_N: np.ndarray) -> tuple[list[float], list[float]]:
    share, mean, _ = reliability(label_N, proba_N)
    return mean.tolist(), share.tolist()


def _meaning(temperature: float) -> str:
    if temperature < 1.02 * LEAST:
        return (
            "The validation memes are told apart without a mistake, so the most extreme "
            f"probabilities fit them best: the temperature is the least that is tried, {LEAST}."
        )
    if temperature > 1.05:
        return f"The run is overconfident: its logits are {temperature:.2f} times too large."
    if temperature < 0.95:
        return f"The run is underconfident: its logits are {1 / temperature:.2f} times too small."
    return "The run is about as confident as it should be."

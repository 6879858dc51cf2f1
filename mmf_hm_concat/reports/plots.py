"""Plots as PNG: one style, colours that colour-blind people can tell apart, the same bytes."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmf_hm_concat.reports.page import Plot

# Okabe and Ito (2008), "Color Universal Design": blue, vermillion, grey, orange, green.
BENIGN, HATEFUL, UNKNOWN = "#0072b2", "#d55e00", "#999999"
COLOURS = {"benign": BENIGN, "hateful": HATEFUL, "unlabelled": UNKNOWN}
# Lines differ in colour, dash and marker; Okabe and Ito's green, black and purple among them.
LINES = ((BENIGN, "-", "o"), (HATEFUL, "--", "s"), ("#009e73", "-.", "^"), ("#000000", ":", "d"))
# A hatch tells the classes apart in grey print, too.
HATCHES = {"benign": "", "hateful": "///", "unlabelled": "..."}
STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "hatch.color": "white",
    "legend.frameon": False,
    "text.parse_math": False,  # a name may hold a dollar sign
    "figure.dpi": 160,
}


def bars(name: str, title: str, counts: Mapping[str, Mapping[str, int]], unit: str) -> Plot:
    """Stacked bars: for each name (a split) its parts (a class) and their counts of ``unit``."""

    def draw(axes: Axes) -> None:
        left = np.zeros(len(counts))
        for part in COLOURS:
            width = np.array([of_one.get(part, 0) for of_one in counts.values()])
            if width.any():
                axes.barh(
                    list(counts),
                    width,
                    left=left,
                    label=part,
                    color=COLOURS[part],
                    hatch=HATCHES[part],
                )
                left += width
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        _legend(axes)

    return _plot(name, title, draw, height=1.7 + 0.32 * len(counts))


def histogram(
    name: str,
    title: str,
    values: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    edges: Sequence[float] | None = None,
) -> Plot:
    """Values of each class, as outlines over common bins, shares of the class in percent.

    Args:
        edges: of the bins; None: the values are whole numbers, and bins are made for them.
    """

    def draw(axes: Axes) -> None:
        bins = _whole_bins(values) if edges is None else np.asarray(edges)
        for part, of_class in values.items():
            share = np.full(len(of_class), 100 / len(of_class))
            axes.hist(
                of_class,
                bins.tolist(),
                weights=share,
                histtype="step",
                linewidth=2,
                label=part,
                color=COLOURS[part],
                linestyle="--" if part == "hateful" else "-",
            )
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        if edges is None:
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        else:
            axes.set_xlim(edges[0], edges[-1])
        _legend(axes)

    return _plot(name, title, draw)


def lines(
    name: str,
    title: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    *,
    by_chance: tuple[Sequence[float], Sequence[float]] | None = None,
    mark: float | None = None,
    markers: bool = True,
    unit_square: bool = False,
) -> Plot:
    """Lines by name, each the x and the y of its points.

    Args:
        by_chance: a thin grey line: what one gets without knowing anything.
        mark: an x where a thin vertical line stands.
        markers: show each point.
        unit_square: both axes go from 0 to 1; else x counts, in whole numbers.
    """

    def draw(axes: Axes) -> None:
        if by_chance is not None:
            axes.plot(*by_chance, color=UNKNOWN, linewidth=1.2, linestyle=(0, (1, 1)))
        if mark is not None:
            axes.axvline(mark, color=UNKNOWN, linewidth=1.2)
        for number, (label, (x, y)) in enumerate(series.items()):
            colour, dash, marker = LINES[number % len(LINES)]
            axes.plot(
                x,
                y,
                label=label,
                color=colour,
                linestyle=dash,
                linewidth=1.8,
                marker=marker if markers else "",
                markersize=4.5,
            )
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        if unit_square:
            axes.set_xlim(-0.02, 1.02)
            axes.set_ylim(-0.02, 1.02)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        _legend(axes)

    return _plot(name, title, draw)


def matrix(
    name: str, title: str, counts: Sequence[Sequence[int]], xlabel: str, ylabel: str
) -> Plot:
    """Counts of benign and hateful, predicted (columns) and true (rows)."""
    classes = ("benign", "hateful")

    def draw(axes: Axes) -> None:
        values = np.asarray(counts)
        axes.imshow(values, cmap="Blues", vmin=0, vmax=max(1, values.max()), aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            dark = value > 0.6 * values.max()
            axes.text(
                *(column, row, f"{value:,}"),
                ha="center",
                va="center",
                color="white" if dark else "black",
                fontsize=14,
            )
        axes.set_xticks((0, 1), classes)
        axes.set_yticks((0, 1), classes)
        axes.grid(visible=False)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)

    return _plot(name, title, draw)


def values(name: str, title: str, of: Mapping[str, float], xlabel: str, by_chance: float) -> Plot:
    """One bar a name, from 0 to 1, with its value; a grey line at what chance gives."""

    def draw(axes: Axes) -> None:
        axes.barh(list(of), list(of.values()), color=BENIGN, height=0.6)
        for row, value in enumerate(of.values()):
            axes.text(value + 0.01, row, f"{value:.2f}", va="center")
        axes.axvline(by_chance, color=HATEFUL, linewidth=1.4, linestyle="--")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 1.1)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_xlabel(xlabel)

    return _plot(name, title, draw, height=1.7 + 0.32 * len(of))


def sizes(name: str, title: str, width: Sequence[int], height: Sequence[int]) -> Plot:
    """Images by width and height; a larger dot stands for more images of that size."""

    def draw(axes: Axes) -> None:
        at, count = np.unique(np.stack([width, height]), axis=1, return_counts=True)
        area = 8 + 90 * count / count.max()
        axes.scatter(at[0], at[1], area, color=BENIGN, alpha=0.45, linewidths=0)
        axes.set_xlabel("width (pixels)")
        axes.set_ylabel("height (pixels)")
        axes.set_xlim(0, 1.08 * max(width))
        axes.set_ylim(0, 1.08 * max(height))

    return _plot(name, title, draw)


def _whole_bins(values: Mapping[str, Sequence[float]]) -> np.ndarray:
    top = max(max(of_class) for of_class in values.values())
    step = max(1, int(np.ceil((top + 1) / 40)))
    return np.arange(0, top + 1 + step, step) - 0.5


def _legend(axes: Axes) -> None:
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0.1)


def _plot(name: str, title: str, draw: Callable[[Axes], None], height: float = 3.4) -> Plot:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, height), layout="constrained")
        draw(figure.add_subplot())
        figure.suptitle(title, x=0.02, ha="left", fontsize=11, wrap=True)
        content = BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})
    return Plot(name, title, content.getvalue())

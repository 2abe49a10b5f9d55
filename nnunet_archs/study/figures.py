"""Figures of the report: SVG to stand in HTML, in the text's colour and font, and the same figure in words."""

from __future__ import annotations

import io
import math
import re
import textwrap
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .statistics import Comparison, Interval
from .wording import interval, listed, number

INK, PAPER = "#0a0b0c", "#fdfcfb"  # in the SVG, the colours of the page's text and paper take their place
# a dot keeps all of its colour, for on dark paper little is left of half of it; an edge parts it from its neighbours
DOT: dict[str, Any] = {"ms": 4.5, "mec": PAPER, "mew": 0.5}
# legible on light and dark paper (a contrast of 3 or more); when they begin again, markers are others
PALETTE = ("#1f6fb5", "#d2600a", "#0f9070", "#c4589c", "#8f7fe6", "#8f7a14", "#808080")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
WIDTH = 5.2  # inches
NAME_WIDTH = 24  # characters in a line
STYLE = {
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "nnunet-archs",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.18,
    "grid.color": INK,
    "legend.frameon": False,
    **dict.fromkeys(["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"], INK),
}


@dataclass(frozen=True)
class Drawing:
    """A figure: `svg`, and `text` for who cannot see it."""

    svg: str
    text: str


@dataclass(frozen=True)
class Look:
    """How a network is drawn, the same in all figures."""

    colour: str
    marker: str


def looks(networks: Sequence[str]) -> dict[str, Look]:
    """A look for every network."""
    n = len(PALETTE)
    return {name: Look(PALETTE[i % n], MARKERS[(i + i // n) % n]) for i, name in enumerate(networks)}


def rank_plot(ranks: Mapping[str, Interval], of: Mapping[str, Look]) -> Drawing:
    """Mean ranks with their intervals, the best on top."""
    ordered = dict(sorted(ranks.items(), key=lambda item: item[1].value))

    def draw(figure: Figure) -> None:
        axes = row_axes(figure, list(ordered), "mean rank over cases (1 is best)")
        for y, (name, rank) in enumerate(ordered.items()):
            bar(axes, y, rank, of[name])
        axes.set_xlim(0.9, len(ordered) + 0.1)
        axes.set_xticks(range(1, len(ordered) + 1))

    told = [f"{name} {interval(rank, 2)}" for name, rank in ordered.items()]
    return drawing(draw, len(ordered), f"Mean ranks, the best first: {listed(told)}.")


def case_plot(scores: pd.DataFrame, of: Mapping[str, Look], title: str) -> Drawing:
    """Scores by case and network: a box a network, a dot a case, a line through the dots of one case."""
    places = jitter(len(scores))

    def draw(figure: Figure) -> None:
        axes = row_axes(figure, list(scores), f"{title} of a case")
        y = np.arange(scores.shape[1]) + places[:, None]
        lines = np.stack([scores.to_numpy(), y], axis=-1)
        axes.add_collection(LineCollection([*lines], colors=INK, linewidths=0.5, alpha=min(0.25, 10 / len(scores))))
        for i, name in enumerate(scores):
            axes.plot(scores[name], i + places, of[name].marker, color=of[name].colour, **DOT)
            edge = {"color": INK, "linewidth": 1.1}
            axes.boxplot(
                scores[name],
                orientation="horizontal",
                positions=[i],
                widths=0.62,
                showfliers=False,
                manage_ticks=False,
                boxprops=edge,
                whiskerprops=edge,
                capprops=edge,
                medianprops={**edge, "linewidth": 2.4},
            )

    told = [f"{name} {interval(Interval(*scores[name].quantile([0.5, 0.25, 0.75])))}" for name in scores]
    return drawing(draw, scores.shape[1], f"{title} of every case. Median (quartiles): {listed(told)}.")


def difference_plot(
    scores: pd.DataFrame, compared: Sequence[Comparison], of: Mapping[str, Look], title: str, baseline: str | None
) -> Drawing:
    """Differences of two networks in every case, with the Hodges–Lehmann difference and its interval."""
    names = [one.a if baseline else f"{one.a} − {one.b}" for one in compared]
    title = f"difference in {title}" + (f" from {baseline}" if baseline else "")

    def draw(figure: Figure) -> None:
        axes = row_axes(figure, names, title)
        axes.axvline(0, color=INK, linewidth=1)
        places = jitter(len(scores))
        for y, one in enumerate(compared):
            look = of[one.a]
            axes.plot(scores[one.a] - scores[one.b], y + places, "o", color=look.colour, **DOT)
            bar(axes, y, one.difference, Look(INK, look.marker))

    told = [f"{name} {interval(one.difference, 4)}" for name, one in zip(names, compared, strict=True)]
    return drawing(draw, len(compared), f"By case, {title}. Hodges–Lehmann: {listed(told)}.")


def fold_plot(scores: pd.DataFrame, folds: pd.Series, of: Mapping[str, Look], title: str) -> Drawing:
    """Every fold's mean, and the mean of a network."""
    means = scores.groupby(folds.reindex(scores.index)).mean()

    def draw(figure: Figure) -> None:
        axes = row_axes(figure, list(scores), f"mean {title} of a fold")
        for y, name in enumerate(scores):
            axes.plot(means[name], [y] * len(means), "-", color=of[name].colour, linewidth=1)
            axes.plot(means[name], [y] * len(means), of[name].marker, color=of[name].colour, **DOT | {"ms": 6.5})
            axes.plot([scores[name].mean()] * 2, [y - 0.3, y + 0.3], "-", color=INK, linewidth=2)

    told = [f"{name} {number(means[name].min())} to {number(means[name].max())}" for name in scores]
    return drawing(draw, scores.shape[1], f"Mean {title} of the folds, least to most: {listed(told)}.")


def pseudo_dice_plot(curves: Mapping[str, Sequence[Sequence[float]]], of: Mapping[str, Look]) -> Drawing:
    """nnU-Net's pseudo Dice by epoch, of all networks: folds thin, their mean thick."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel="epoch", ylabel="pseudo Dice")
        axes.grid(True)
        for name, folds in curves.items():
            curve(axes, folds, of[name], label=name)
        figure.legend(loc="outside lower center", ncols=2)

    told = [f"{name} {number(mean_curve(folds)[-1])}" for name, folds in curves.items()]
    text = f"Pseudo Dice by epoch. In the last epoch, the mean of the folds: {listed(told)}."
    return drawing(draw, 5 + len(curves) / 4, text)


def loss_plot(
    training: Mapping[str, Sequence[Sequence[float]]],
    validation: Mapping[str, Sequence[Sequence[float]]],
    of: Mapping[str, Look],
) -> Drawing:
    """Losses by epoch, a panel a network: those of networks need not be of one kind."""
    rows = math.ceil(len(training) / 2)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(rows, 2, squeeze=False, sharex=True).ravel()
        for axes, name in zip(panels, training, strict=False):
            axes.set_title(wrapped(name), fontsize=10)
            axes.grid(True)
            curve(axes, training[name], of[name], label="training", style="--")
            curve(axes, validation[name], of[name], label="validation")
        for axes in panels[len(training) :]:
            axes.set_axis_off()
        for axes in panels[max(len(training) - 2, 0) : len(training)]:
            axes.set_xlabel("epoch")
            axes.tick_params(labelbottom=True)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, handlelength=5)

    told = [
        f"{name} {number(mean_curve(training[name])[-1])} in training, {number(mean_curve(validation[name])[-1])} in "
        "validation"
        for name in training
    ]
    return drawing(draw, 4.2 * rows, f"Losses by epoch. In the last epoch, the mean of the folds: {'; '.join(told)}.")


def curve(axes: Axes, folds: Sequence[Sequence[float]], look: Look, *, label: str, style: str = "-") -> None:
    """A line a fold, and their mean, which ends in the network's marker."""
    for values in folds:
        axes.plot(range(1, len(values) + 1), values, style, color=look.colour, linewidth=0.6, alpha=0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    mean = mean_curve(folds)
    (line,) = axes.plot(range(1, len(mean) + 1), mean, style, color=look.colour, linewidth=2.2, label=label)
    line.set(marker=look.marker, markevery=[-1])


def mean_curve(folds: Sequence[Sequence[float]]) -> Sequence[float]:
    """The mean of the folds, of the epochs that all of them have."""
    epochs = min(map(len, folds))
    return np.mean([np.array(values[:epochs], float) for values in folds], axis=0).tolist()


def bar(axes: Axes, y: float, of: Interval, look: Look) -> None:
    """An interval and its value."""
    axes.plot([of.low, of.high], [y, y], "-", color=look.colour, linewidth=2.6, solid_capstyle="round")
    axes.plot([of.value], [y], look.marker, color=look.colour, ms=7, mew=0)


def jitter(n: int) -> np.ndarray[Any, Any]:
    """Where the dots of n cases stand beside the middle of their row, without order."""
    return np.random.default_rng(0).permutation(np.linspace(-0.26, 0.26, n))


def row_axes(figure: Figure, names: Sequence[str], title: str) -> Axes:
    """Axes with a row a name, the first on top."""
    axes = figure.add_subplot(xlabel=title, ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), [wrapped(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    return axes


def wrapped(name: str) -> str:
    """A name in lines that leave room for the figure."""
    return textwrap.fill(name, NAME_WIDTH)


def drawing(draw: Callable[[Figure], None], rows: float, text: str) -> Drawing:
    """Draw a figure of so many rows; the SVG can stand in HTML beside others."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.5 * rows), layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    # XML's namespaces mean nothing in HTML; the style is for all of the page, and is in its own
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg .*?(viewBox="[^"]*").*?>', r'<svg \1 aria-hidden="true">', svg, count=1, flags=re.DOTALL)
    own = f"f{zlib.crc32(svg.encode()):08x}-"  # ids have to differ within the page
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{own}", svg)
    return Drawing(svg.replace(INK, "currentColor").replace(PAPER, "var(--paper)").strip(), text)

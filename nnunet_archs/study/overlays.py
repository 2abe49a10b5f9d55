"""Overlays: contours of segmentations over a slice of their image."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from .wording import number

# bright: they stand on grey
COLOURS = ("#ffb000", "#41b6ff", "#ff6db6", "#4ce0a0", "#d9a6ff", "#f8f06a")
BACKGROUND = "#111315"
REFERENCE = "white"
PANEL = 2.3  # inches
TALL = (0.4, 1.6)  # of a panel's width, at least and at most
DPI = 150
SURROUNDINGS = 0.25  # of the labels' extent, shown around them
MARGIN = 2  # voxels
WINDOW = (1, 99.5)  # percentiles shown as black and white

Image = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Overlay:
    """A case drawn: the `which` ("best", "median", "worst") of a network by its Dice; `text` for who cannot see it.

    `panels` stand side by side in it.
    """

    dataset: str
    configuration: str
    case: str
    which: str
    score: float
    network: str
    png: bytes
    text: str
    panels: int
    part: str = "validation"


def extremes(scores: pd.Series) -> dict[str, str]:
    """The best, median and worst case of a network by its scores, as far as there are so many."""
    ordered = scores.dropna().sort_values(kind="stable").index
    if len(ordered) < 3:
        return dict(zip(("best", "worst"), reversed(ordered), strict=False))
    return {"best": ordered[-1], "median": ordered[len(ordered) // 2], "worst": ordered[0]}


def draw_overlay(
    image: Image,
    reference: Labels,
    predictions: Mapping[str, Labels],
    spacing: Sequence[float],
    label_names: Mapping[int, str],
    dice: Mapping[str, float] | None = None,
) -> tuple[bytes, str]:
    """A PNG of one slice of a case `(z, y, x)`: the reference's contours, then those of each network, by name, over it.

    The slice is the one with most foreground, across the thickest voxels, near the labels; `spacing` in mm. What stands
    over the panels, the slice and every network's Dice of all of the case, is returned in words too.
    """
    axis = int(np.argmax(spacing))
    first = next((labels for labels in (reference, *predictions.values()) if (labels > 0).any()), reference)
    position = fullest_slice(first, axis)
    titles = [["reference", f"slice {position + 1} of {reference.shape[axis]}"]]
    titles += [[name, *told(labels, (dice or {}).get(name))] for name, labels in predictions.items()]
    image, reference, *flat = (np.take(array, position, axis) for array in (image, reference, *predictions.values()))
    low, high = window(image, reference)
    box = surroundings(np.asarray(np.any([reference, *flat], axis=0)))
    height, width = np.delete(spacing, axis)
    rows, columns = image[box].shape
    tall = PANEL * min(max(rows * height / (columns * width), TALL[0]), TALL[1])
    figure = Figure(figsize=(PANEL * (1 + len(flat)), tall + 0.7), layout="constrained", facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    colours = {value: COLOURS[i % len(COLOURS)] for i, value in enumerate(sorted(set(label_names) - {0}))}
    panels = figure.subplots(1, 1 + len(flat), squeeze=False)[0]
    for axes, title in zip(panels, titles, strict=True):
        axes.imshow(image[box], cmap="gray", vmin=low, vmax=high, aspect=height / width)
        axes.set_title(
            "\n".join(textwrap.fill(line, 24) for line in title), fontsize=9, color="white", parse_math=False
        )
        axes.set_axis_off()
    outline(panels[0], reference[box], colours)
    for axes, labels in zip(panels[1:], flat, strict=True):
        outline(axes, labels[box], colours)
        outline(axes, reference[box], dict.fromkeys(colours, REFERENCE), style=":")
    add_legend(figure, {label_names[value]: colour for value, colour in colours.items()})
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight")  # a title of several lines is not cut
    return file.getvalue(), "; ".join(", ".join(title) for title in titles)


def told(labels: Labels, dice: float | None) -> list[str]:
    """What stands below a network's name: its Dice, and whether it found nothing in any slice."""
    score = [] if dice is None else [f"Dice {number(dice)}"]
    return score if (labels > 0).any() else [*score, "no foreground predicted"]


def outline(axes: Axes, labels: Labels, colours: Mapping[int, str], style: str = "-") -> None:
    """Draw the contours of labels, closed at the image's edge."""
    y, x = (np.arange(-1, size + 1) for size in labels.shape)
    for value, colour in colours.items():
        if (labels == value).any():
            mask = np.pad(labels == value, 1).astype(float)
            lines = axes.contour(x, y, mask, [0.5], colors=[colour], linestyles=[style], linewidths=1.3)
            lines.set_path_effects([withStroke(linewidth=2.3, foreground=BACKGROUND)])  # seen on white, too


def add_legend(figure: Figure, colours: Mapping[str, str]) -> None:
    """Say below the panels what the contours are."""
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    handles.append(Line2D([], [], color=REFERENCE, linestyle=":", label="reference, over a network's"))
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set(color="white", parse_math=False)


def fullest_slice(labels: Labels, axis: int) -> int:
    """The position along `axis` of the slice that shows most of the labels, each counted as a share of it."""
    others = tuple(i for i in range(labels.ndim) if i != axis)
    masks = [labels == value for value in np.unique(labels[labels > 0])]
    return int(np.argmax(sum(mask.sum(axis=others) / mask.sum() for mask in masks))) if masks else 0


def window(image: Image, labels: Labels) -> tuple[float, float]:
    """The intensities to show as black and white: percentiles of the labels' bounding box and a margin."""
    low, high = np.percentile(image[bounding_box(labels > 0, [MARGIN] * labels.ndim)], WINDOW)
    return float(low), float(max(high, low + 1e-6))


def bounding_box(mask: npt.NDArray[np.bool_], margin: Sequence[int]) -> tuple[slice, ...]:
    """Where a mask is, with a margin; all of the image for an empty one."""
    positions = np.argwhere(mask)
    if not len(positions):
        return tuple(slice(0, size) for size in mask.shape)
    first, last = np.maximum(positions.min(axis=0) - margin, 0), positions.max(axis=0) + margin + 1
    return tuple(slice(int(start), int(stop)) for start, stop in zip(first, last, strict=True))


def surroundings(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Where a mask is, with something around it."""
    return bounding_box(
        mask, [math.ceil(SURROUNDINGS * (part.stop - part.start)) for part in bounding_box(mask, [0] * mask.ndim)]
    )

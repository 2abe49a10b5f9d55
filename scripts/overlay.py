"""Draw segmentations over images: image, truth and prediction side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nnunet_archs.study.overlays import fullest_slice, window

OPACITY = 0.45


@dataclass(frozen=True)
class Row:
    """A case as (z, y, x) arrays, with its spacing in mm."""

    title: str
    image: npt.NDArray[np.float32]
    truth: npt.NDArray[np.integer]
    prediction: npt.NDArray[np.integer]
    spacing: Sequence[float]


def draw_overlay(rows: Sequence[Row], label_names: Mapping[int, str], path: Path) -> None:
    """Write a PNG with a row a case: the slice with most foreground, truth and prediction over it in colours."""
    figure = Figure(figsize=(10, 3.4 * len(rows) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 3, squeeze=False)
    colours = {value: colormaps["tab10"](i % 10) for i, value in enumerate(sorted(set(label_names) - {0}))}
    for row, row_axes in zip(rows, axes, strict=True):
        _draw_row(row, row_axes, colours)
    handles = [Patch(color=colour, label=label_names[value]) for value, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _draw_row(row: Row, axes: npt.NDArray[np.object_], colours: Mapping[int, tuple[float, ...]]) -> None:
    axis = int(np.argmax(row.spacing))  # slices are cut where the voxels are thickest
    position = fullest_slice(row.truth if (row.truth > 0).any() else row.prediction, axis)
    image, truth, prediction = (np.take(array, position, axis) for array in (row.image, row.truth, row.prediction))
    height, width = np.delete(row.spacing, axis)
    low, high = window(image, truth)
    columns = {row.title: None, "truth": truth, "prediction": prediction}
    for ax, (title, labels) in zip(axes, columns.items(), strict=True):
        ax.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=height / width)
        if labels is not None:
            ax.imshow(_coloured(labels, colours), aspect=height / width, interpolation="nearest")
        ax.set_title(title, fontsize=10)
        ax.set_axis_off()


def _coloured(labels: npt.NDArray[np.integer], colours: Mapping[int, tuple[float, ...]]) -> npt.NDArray[np.float64]:
    """Return an RGBA image of the labels, transparent where there is none."""
    rgba = np.zeros((*labels.shape, 4))
    for value, colour in colours.items():
        rgba[labels == value] = (*colour[:3], OPACITY)
    return rgba

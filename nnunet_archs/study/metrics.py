"""Metrics of one label in one case: how a prediction overlaps its reference, and how far their surfaces are apart.

R, P and N are the voxels of reference, prediction and image, TP, FP and FN those of R and P, P alone and R alone.
Where one mask has no voxel:

| metric                  | both empty | reference alone empty | prediction alone empty |
|-------------------------|------------|-----------------------|------------------------|
| Dice, IoU               | NaN        | 0                     | 0                      |
| precision               | NaN        | 0                     | NaN                    |
| recall                  | NaN        | NaN                   | 0                      |
| specificity             | 1          | 1 - FP / N            | 1                      |
| over-segmentation rate  | NaN        | 1                     | 0                      |
| under-segmentation rate | NaN        | 0                     | 1                      |
| Hausdorff, HD95         | NaN        | inf                   | inf                    |
| surface Dice            | NaN        | 0                     | 0                      |

Specificity is NaN where the reference fills the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import surface_distance
from numpy.typing import NDArray

from nnunet_archs.measure.instances import check_shapes


@dataclass(frozen=True)
class Metric:
    """How a metric is written, and read."""

    title: str
    unit: str
    higher_is_better: bool


METRICS = {
    "dice": Metric("Dice", "", True),
    "iou": Metric("IoU", "", True),
    "precision": Metric("Precision", "", True),
    "recall": Metric("Recall", "", True),
    "specificity": Metric("Specificity", "", True),
    "over_segmentation": Metric("Over-segmentation rate", "", False),
    "under_segmentation": Metric("Under-segmentation rate", "", False),
    "hausdorff": Metric("Hausdorff distance", "mm", False),
    "hausdorff95": Metric("HD95", "mm", False),
    "surface_dice": Metric("Surface Dice", "", True),
}
# of objects, where the data set tells them apart: those of `nnunet_archs.measure.instances`, and of `measure.coco`
OBJECT_METRICS = {
    "object_f1": Metric("Object F1", "", True),
    "pq": Metric("Panoptic quality", "", True),
    "aji": Metric("AJI", "", True),
    "ap50": Metric("AP at 0.5", "", True),
    "ap": Metric("AP, 0.5 to 0.95", "", True),
    "coco_ap50": Metric("COCO's AP at 0.5", "", True),
    "coco_ap": Metric("COCO's AP, 0.5 to 0.95", "", True),
}
COUNTS = (
    "reference_voxels",
    "prediction_voxels",
    "true_positives",
    "false_positives",
    "false_negatives",
    "image_voxels",
)


def case_metrics(
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    spacing: Sequence[float],
    *,
    tolerance: float,
    ignored: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """All of `METRICS`, then `COUNTS` of voxels, of two masks `(z, y, x)` or `(y, x)`.

    `spacing` and `tolerance`, that of surface Dice, in mm. Voxels that are `ignored` are in neither mask, and no
    background either. One slice `(1, y, x)`, as nnU-Net has 2D images, counts as
    2D: as a volume, both of its faces would be surface.

    The over- and under-segmentation rate are FP / (R + FP) and FN / (R + FP): with IoU they add up to 1. The paper that
    reports them, Crosslink-Net, prints no formula; these are the customary ones, and its tables' sums are near 1.

    Raises:
        ValueError: if the masks' shapes differ, or `spacing` is not of their dimension.
    """
    check_shapes(reference, prediction)
    if len(spacing) != reference.ndim:
        raise ValueError(f"a spacing of {len(spacing)} numbers for a mask {reference.shape}; give one a dimension")
    n_voxels = reference.size
    if ignored is not None:
        reference, prediction = reference & ~ignored, prediction & ~ignored
        n_voxels -= int(np.count_nonzero(ignored))
    if reference.ndim == 3 and len(reference) == 1:
        reference, prediction, spacing = reference[0], prediction[0], spacing[1:]
    in_reference, in_prediction, true = (
        int(np.count_nonzero(mask)) for mask in (reference, prediction, reference & prediction)
    )
    over, under = in_prediction - true, in_reference - true
    union, background = in_reference + over, n_voxels - in_reference
    return {
        "dice": ratio(2 * true, in_reference + in_prediction),
        "iou": ratio(true, union),
        "precision": ratio(true, in_prediction),
        "recall": ratio(true, in_reference),
        "specificity": ratio(background - over, background),
        "over_segmentation": ratio(over, union),
        "under_segmentation": ratio(under, union),
        **surface_metrics(reference, prediction, spacing, tolerance=tolerance),
        "reference_voxels": in_reference,
        "prediction_voxels": in_prediction,
        "true_positives": true,
        "false_positives": over,
        "false_negatives": under,
        "image_voxels": n_voxels,
    }


def background_iou(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], ignored: NDArray[np.bool_] | None = None
) -> float:
    """IoU of what neither mask, of all labels together, has; NaN where both fill the image."""
    counted = True if ignored is None else ~ignored
    both, either = ~(reference | prediction) & counted, ~(reference & prediction) & counted
    return ratio(int(np.count_nonzero(both)), int(np.count_nonzero(either)))


def ratio(part: int, whole: int) -> float:
    """A part of a whole, NaN of nothing."""
    return part / whole if whole else math.nan


def surface_metrics(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Sequence[float], *, tolerance: float
) -> dict[str, float]:
    """Hausdorff distance, HD95 and surface Dice; every surface element counts by its area, in 2D by its length."""
    if not (reference.any() and prediction.any()):
        one_alone = reference.any() or prediction.any()
        distance, overlap = (math.inf, 0.0) if one_alone else (math.nan, math.nan)
        return {"hausdorff": distance, "hausdorff95": distance, "surface_dice": overlap}
    # the library crops to the masks' bounding box itself
    distances = surface_distance.compute_surface_distances(reference, prediction, spacing)
    return {
        "hausdorff": float(surface_distance.compute_robust_hausdorff(distances, 100)),
        "hausdorff95": float(surface_distance.compute_robust_hausdorff(distances, 95)),
        "surface_dice": float(surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)),
    }

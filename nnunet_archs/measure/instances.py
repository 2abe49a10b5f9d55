"""Metrics of instance maps, all of one matrix: how many voxels every reference object and every predicted one share.

| metric      | what it is                                                                                    |
|-------------|-----------------------------------------------------------------------------------------------|
| `object_f1` | 2 TP / (2 TP + FP + FN), objects matched at an IoU above 0.5                                  |
| `pq`        | panoptic quality: the matched pairs' summed IoU over TP + FP / 2 + FN / 2 (Kirillov 2019)     |
| `aji`       | aggregated Jaccard index (Kumar 2017, Algorithm 1)                                            |
| `ap50`      | TP / (TP + FP + FN) at an IoU of 0.5, as the 2018 Data Science Bowl has it: no scores are used |
| `ap`        | its mean over the IoU 0.5, 0.55, ..., 0.95                                                    |

All are NaN where neither map has an object, and 0 where one of them has none.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array

HALF = 0.5
THRESHOLDS = tuple(0.5 + 0.05 * step for step in range(10))
ROUNDING = 1e-9  # of thresholds, which an IoU may equal


def instance_metrics(reference: NDArray[Any], prediction: NDArray[Any]) -> dict[str, float]:
    """The metrics of two instance maps `(*spatial)`, 0 being background.

    Raises:
        ValueError: if their shapes differ.
    """
    check_shapes(reference, prediction)
    shared = overlaps(reference, prediction)
    sizes = shared.sum(axis=1)[1:, None], shared.sum(axis=0)[None, 1:]
    common = shared[1:, 1:]
    n_reference, n_prediction = common.shape
    if not n_reference + n_prediction:
        return dict.fromkeys(("object_f1", "pq", "aji", "ap50", "ap"), math.nan)
    union = sizes[0] + sizes[1] - common
    iou = common / union
    matched = iou[iou > HALF]  # of one object there is no second such pair
    mean = (n_reference + n_prediction) / 2
    precisions = [hits / (2 * mean - hits) for hits in (n_matched(iou, threshold) for threshold in THRESHOLDS)]
    return {
        "object_f1": len(matched) / mean,
        "pq": float(matched.sum()) / mean,
        "aji": aggregated_jaccard(common, sizes[0][:, 0], sizes[1][0]),
        "ap50": precisions[0],
        "ap": float(np.mean(precisions)),
    }


def check_shapes(reference: NDArray[Any], prediction: NDArray[Any]) -> None:
    """Check that a prediction is of its reference's shape.

    Raises:
        ValueError: if it is not.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"the prediction is {prediction.shape}, its reference {reference.shape}; predict it again")


def overlaps(reference: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.int64]:
    """Voxels that each id of the one shares with each of the other, background being row 0 and column 0."""
    rows, columns = (positions(image) for image in (reference, prediction))
    ones = np.ones(reference.size, dtype=np.int64)
    shape = int(rows.max(initial=0)) + 1, int(columns.max(initial=0)) + 1
    return coo_array((ones, (rows, columns)), shape=shape).toarray()


def positions(image: NDArray[Any]) -> NDArray[np.int64]:
    """Every voxel's row: 0 for background, then the ids in their order."""
    ids = np.unique(image[image > 0])
    return np.where(image > 0, np.searchsorted(ids, image) + 1, 0).ravel()


def n_matched(iou: NDArray[np.float64], threshold: float) -> int:
    """How many pairs of objects reach an IoU, none being in two of them."""
    reached = iou >= threshold - ROUNDING
    if (reached.sum(axis=0) > 1).any() or (reached.sum(axis=1) > 1).any():  # at 0.5 an object may halve another
        return int(reached[linear_sum_assignment(reached, maximize=True)].sum())
    return int(reached.sum())


def aggregated_jaccard(common: NDArray[np.int64], reference: NDArray[np.int64], prediction: NDArray[np.int64]) -> float:
    """Each reference object with the predicted one of highest IoU, then the predicted ones that none has chosen."""
    if not common.size:
        return 0.0
    union = reference[:, None] + prediction - common
    best, rows = (common / union).argmax(axis=1), np.arange(len(reference))
    shared = common[rows, best]
    unions = np.where(shared > 0, union[rows, best], reference)
    left = np.delete(prediction, best[shared > 0])
    return float(shared.sum() / (unions.sum() + left.sum()))

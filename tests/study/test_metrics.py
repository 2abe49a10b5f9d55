"""Metrics counted by hand, where masks are empty, and against MONAI's on random masks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
    get_confusion_matrix,
)
from monai.metrics.utils import get_edge_surface_distance
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nnunet_archs.study.metrics import COUNTS, METRICS, background_iou, case_metrics

pytestmark = [
    # surface-distance calls scipy by names that it is to lose, MONAI itself
    pytest.mark.filterwarnings("ignore:Please import .*scipy.ndimage:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),
]

Mask = NDArray[np.bool_]

TOLERANCE = 1.5
BOTH_EMPTY = {name: math.nan for name in METRICS} | {"specificity": 1}
REFERENCE_EMPTY = {
    "dice": 0,
    "iou": 0,
    "precision": 0,
    "recall": math.nan,
    "specificity": 0.75,
    "over_segmentation": 1,
    "under_segmentation": 0,
    "hausdorff": math.inf,
    "hausdorff95": math.inf,
    "surface_dice": 0,
}
PREDICTION_EMPTY = REFERENCE_EMPTY | {
    "precision": math.nan,
    "recall": 0,
    "specificity": 1,
    "over_segmentation": 0,
    "under_segmentation": 1,
}


def square(shape: tuple[int, ...], *corner: int, side: int = 4) -> Mask:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(start, start + side) for start in corner)] = True
    return mask


def test_square_moved_along_an_axis() -> None:
    reference, prediction = square((10, 12), 2, 2), square((10, 12), 2, 4)
    metrics = case_metrics(reference, prediction, (3, 0.5), tolerance=1)
    assert list(metrics) == [*METRICS, *COUNTS]
    assert metrics == pytest.approx(
        {
            "dice": 0.5,
            "iou": 8 / 24,
            "precision": 0.5,
            "recall": 0.5,
            "specificity": 96 / 104,
            "over_segmentation": 8 / 24,
            "under_segmentation": 8 / 24,
            "hausdorff": 1,  # two voxels of 0.5 mm
            "hausdorff95": 1,
            "surface_dice": 1,
            "reference_voxels": 16,
            "prediction_voxels": 16,
            "true_positives": 8,
            "false_positives": 8,
            "false_negatives": 8,
            "image_voxels": 120,
        }
    )
    assert 0 < case_metrics(reference, prediction, (3, 0.5), tolerance=0.9)["surface_dice"] < 1


def test_over_and_under_segmentation_and_iou_are_all_of_the_union() -> None:
    # 8 voxels of 16 in common, 9 * 9 - 8 too many
    metrics = case_metrics(square((12, 12), 0, 0), square((12, 12), 0, 2, side=9), (1, 1), tolerance=1)
    assert metrics["over_segmentation"] == pytest.approx(73 / 89)
    assert metrics["under_segmentation"] == pytest.approx(8 / 89)
    assert metrics["iou"] == pytest.approx(8 / 89)


@pytest.mark.parametrize("shape", [(8, 4), (1, 8, 4), (2, 4, 4)])
@pytest.mark.parametrize(
    ("in_reference", "in_prediction", "expected"),
    [(False, False, BOTH_EMPTY), (False, True, REFERENCE_EMPTY), (True, False, PREDICTION_EMPTY)],
    ids=["both", "reference", "prediction"],
)
def test_empty_masks(
    shape: tuple[int, ...], in_reference: bool, in_prediction: bool, expected: dict[str, float]
) -> None:
    quarter = np.zeros(shape, bool)
    quarter.flat[:8] = True
    metrics = case_metrics(quarter & in_reference, quarter & in_prediction, (1.0,) * len(shape), tolerance=1)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, nan_ok=True)
    voxels = [8 * in_reference, 8 * in_prediction]
    assert [metrics[name] for name in COUNTS] == [*voxels, 0, *reversed(voxels), 32]


def test_a_reference_that_fills_the_image_has_no_specificity() -> None:
    full = np.ones((3, 3), bool)
    metrics = case_metrics(full, full, (1, 1), tolerance=1)
    assert math.isnan(metrics.pop("specificity"))
    assert metrics["dice"] == metrics["surface_dice"] == 1
    assert metrics["hausdorff"] == 0


def test_what_is_ignored_counts_for_nothing() -> None:
    reference, prediction = square((8, 12), 2, 2), square((8, 12), 2, 3)
    ignored = np.zeros((8, 12), bool)
    ignored[4:] = True
    expected = case_metrics(reference[:4], prediction[:4], (1, 2), tolerance=1)
    assert case_metrics(reference, prediction, (1, 2), tolerance=1, ignored=ignored) == expected


def test_background_is_what_neither_mask_has() -> None:
    reference, prediction = square((10, 12), 2, 2), square((10, 12), 2, 4)
    assert background_iou(reference, prediction) == (120 - 24) / (120 - 8)
    ignored = np.zeros((10, 12), bool)
    ignored[:, 6:] = True
    assert background_iou(reference, prediction, ignored) == (60 - 16) / (60 - 8)
    assert math.isnan(background_iou(np.ones((3, 3), bool), np.ones((3, 3), bool)))


def test_one_slice_counts_as_2d() -> None:
    reference, prediction = square((10, 12), 2, 2), square((10, 12), 3, 5, side=5)
    flat = case_metrics(reference, prediction, (0.7, 0.9), tolerance=1)
    assert case_metrics(reference[None], prediction[None], (999, 0.7, 0.9), tolerance=1) == flat


def test_surface_at_the_edge_of_the_image_counts() -> None:
    inside, at_edge = square((20, 20, 20), 5, 5, 5), square((20, 20, 20), 0, 0, 0)
    metrics = case_metrics(at_edge, at_edge, (1, 1, 1), tolerance=0)
    assert metrics["surface_dice"] == 1
    # every point is 5 voxels away along each axis, 5, 10 and 10 mm
    assert case_metrics(at_edge, inside, (1, 2, 2), tolerance=1)["hausdorff"] == pytest.approx(15)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"the prediction is \(3, 4\), its reference \(4, 4\)"):
        case_metrics(np.ones((4, 4), bool), np.ones((3, 4), bool), (1, 1), tolerance=1)
    with pytest.raises(ValueError, match=r"a spacing of 3 numbers for a mask \(4, 4\)"):
        case_metrics(np.ones((4, 4), bool), np.ones((4, 4), bool), (1, 1, 1), tolerance=1)


@dataclass(frozen=True)
class Example:
    """Two masks, our metrics of them, and what MONAI takes."""

    spacing: tuple[float, ...]
    metrics: dict[str, float]
    masks: dict[str, torch.Tensor]

    @property
    def diagonal(self) -> float:
        return math.hypot(*self.spacing)


def examples(shape: tuple[int, ...], n: int) -> Iterator[Example]:
    """Smooth random shapes, each deformed in two ways."""
    rng = np.random.default_rng(len(shape))
    for _ in range(n):
        spacing = tuple(rng.uniform(0.4, 4, len(shape)).tolist())
        sigma = rng.uniform(1, 2.5)
        common, *own = (gaussian_filter(rng.standard_normal(shape), sigma) for _ in range(3))
        threshold = rng.uniform(0, 1) * common.std()
        reference, prediction = (common + rng.uniform(0, 1) * noise > threshold for noise in own)
        y, y_pred = (torch.tensor(mask)[None, None].float() for mask in (reference, prediction))
        metrics = case_metrics(reference, prediction, spacing, tolerance=TOLERANCE)
        yield Example(spacing, metrics, {"y_pred": y_pred, "y": y})


@pytest.fixture(scope="module", params=[(12, 16, 14), (24, 30)], ids=["3d", "2d"])
def monai_examples(request: pytest.FixtureRequest) -> list[Example]:
    return list(examples(request.param, 100))


def test_overlap_equals_monais(monai_examples: list[Example]) -> None:
    for example in monai_examples:
        tp, fp, tn, fn = get_confusion_matrix(**example.masks, include_background=True).flatten().tolist()
        expected = {
            "dice": compute_dice(**example.masks).item(),
            "iou": compute_iou(**example.masks).item(),
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "over_segmentation": fp / (tp + fn + fp),
            "under_segmentation": fn / (tp + fn + fp),
            "reference_voxels": tp + fn,
            "prediction_voxels": tp + fp,
        }
        assert {name: example.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_surfaces_equal_monais_of_sub_voxels(monai_examples: list[Example]) -> None:
    # the same surface elements and areas; of their distances MONAI itself takes surface Dice alone
    for example in monai_examples:
        sub_voxels = {"spacing": example.spacing, "use_subvoxels": True}
        surface_dice = compute_surface_dice(
            **example.masks, **sub_voxels, class_thresholds=[TOLERANCE], include_background=True
        )
        masks = (mask[0, 0] for mask in example.masks.values())
        edges, distances, areas = get_edge_surface_distance(*masks, **sub_voxels, symmetric=True)
        both = [(d.numpy(), area[edge].numpy()) for d, area, edge in zip(distances, areas, edges, strict=True)]
        expected = {
            "hausdorff": max(d.max() for d, _ in both),
            "hausdorff95": max(percentile95(*one) for one in both),
            "surface_dice": surface_dice.item(),
        }
        # MONAI's distances are in float32: what their last digit is depends on the version
        assert {name: example.metrics[name] for name in expected} == pytest.approx(expected, rel=2**-23, abs=1e-6)


def percentile95(distances: NDArray[np.float32], areas: NDArray[np.float32]) -> float:
    """The least distance that 95 % of a surface do not exceed."""
    ascending = distances.argsort()
    share = areas[ascending].cumsum(dtype=float) / areas.sum(dtype=float)
    return float(distances[ascending][share >= 0.95][0])


def test_distances_are_within_a_voxel_of_monais(monai_examples: list[Example]) -> None:
    """Surfaces lie half a voxel's diagonal apart, so the distance of two differs by a diagonal at most.

    surface-distance's lie on the voxels' corners, MONAI's on the centres of the masks' outermost voxels. HD95 differs
    in one more way, by the share of a surface's area there, of its voxels here: where about 5 % of a surface lie on an
    island, one reaches it and the other does not. So for few masks it is within a diagonal of other percentiles alone.
    """
    n_alike = 0
    for example in monai_examples:
        of_all, of_90, of_95, of_99 = (
            compute_hausdorff_distance(
                **example.masks, include_background=True, percentile=percent, spacing=example.spacing
            ).item()
            for percent in (None, 90, 95, 99)
        )
        assert example.metrics["hausdorff"] == pytest.approx(of_all, abs=example.diagonal)
        hd95 = example.metrics["hausdorff95"]
        assert of_90 - example.diagonal <= hd95 <= of_99 + example.diagonal
        n_alike += abs(hd95 - of_95) <= example.diagonal
    assert n_alike >= 0.97 * len(monai_examples)

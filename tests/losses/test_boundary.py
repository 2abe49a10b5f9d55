"""Inf-Net's losses against their equations, pixel by pixel in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from examples import IGNORE, example, ignored, ignoring, kinds
from numpy.typing import NDArray

from nnunet_archs.losses import BoundaryWeightedLoss, EdgeLoss
from nnunet_archs.losses.boundary import boundary_weight


def weight_by_pixel(y: NDArray[Any], valid: NDArray[Any]) -> NDArray[Any]:
    weight = np.zeros(y.shape)
    for i, j in np.argwhere(valid):
        window = (slice(max(i - 15, 0), i + 16), slice(max(j - 15, 0), j + 16))
        weight[i, j] = 1 + 5 * abs(y[window][valid[window]].mean() - y[i, j])
    return weight


def reference(p: NDArray[Any], y: NDArray[Any], valid: NDArray[Any]) -> float:
    """L_seg of one class of one sample."""
    weight = weight_by_pixel(y, valid)
    cross_entropy = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    inter, both = (weight * p * y).sum(), (weight * (p + y)).sum()
    return float((weight * cross_entropy).sum() / max(weight.sum(), 1e-9) + 1 - (inter + 1) / (both - inter + 1))


@kinds
@ignoring
def test_equals_the_equations(channels: int, regions: bool, ignore: bool) -> None:
    logits, target = example(channels, (20, 40), regions=regions, ignore=ignore)
    target[0, :channels, :, 10:] = 0  # hardly any foreground
    valid = ~ignored(target, regions=regions)[:, 0].numpy() if ignore else np.ones((2, 20, 40), bool)
    p = (logits.double().sigmoid() if regions else logits.double().softmax(1)).numpy()
    terms = [
        reference(
            p[b, c], ((target[b, c] if regions else target[b, 0] == c).numpy() & valid[b]).astype(float), valid[b]
        )
        for b in range(2)
        for c in (range(channels) if regions else range(1, channels))
    ]
    loss = BoundaryWeightedLoss(regions=regions, ignore_label=IGNORE if ignore else None)
    assert loss(logits, target).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_batch_dice_takes_the_batch_for_one_image() -> None:
    logits, target = example(2, (40, 40), regions=False, ignore=False)
    loss = BoundaryWeightedLoss(batch_dice=True)
    weight = boundary_weight(target == 1, None)
    p = logits.softmax(1)[:, 1:]
    found = loss.iou(p, target == 1, weight)
    inter, both = (weight * p * target).sum(), (weight * (p + target)).sum()
    torch.testing.assert_close(found, (1 - (inter + 1) / (both - inter + 1)).view(1))


def test_weights_are_the_paper_s_away_from_the_border() -> None:
    y = torch.zeros(1, 1, 63, 63, dtype=torch.bool)
    y[..., :31] = True
    weight = boundary_weight(y, None)
    assert weight[0, 0, 31, 31].item() == pytest.approx(1 + 5 * 15 / 31)
    assert weight[0, 0, 31, 0].item() == pytest.approx(1)
    assert weight.max() < 1 + 5 / 2


@pytest.mark.parametrize("regions", [False, True])
@ignoring
def test_edges_are_where_a_neighbour_is_of_another_kind(regions: bool, ignore: bool) -> None:
    labels = torch.zeros(1, 1, 6, 6, dtype=torch.int16)
    labels[..., 2:5, 2:5], labels[..., 4, 4] = 1, 2
    expected = torch.zeros(6, 6)
    expected[1:, 1:], expected[3, 3] = 1, 0
    known = torch.ones(6, 6, dtype=torch.bool)
    if ignore:
        labels[..., 0, 0] = IGNORE
        known[:2, :2] = False
    channels = [labels > 0, labels == 2, labels == IGNORE]
    target = torch.cat([*channels[:2], *channels[2:] * ignore], 1) if regions else labels
    if regions and ignore:
        target[:, 0] &= ~target[:, 2]
    logits = torch.linspace(-3, 3, 36).view(1, 1, 6, 6).requires_grad_()
    loss = EdgeLoss(regions=regions, ignore_label=IGNORE if ignore else None)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits[0, 0][known], expected[known])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss([logits], target)
    torch.testing.assert_close(found, wanted)


def test_no_known_edge_costs_nothing() -> None:
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    loss = EdgeLoss(ignore_label=IGNORE)([logits], torch.full((1, 1, 4, 4), IGNORE))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()

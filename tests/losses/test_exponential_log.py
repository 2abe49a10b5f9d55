"""MSS U-Net's loss against its equations in float64, voxel by voxel."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from examples import IGNORE, example, ignoring, kinds, shapes_and_sums, slopes, value_and_gradient
from numpy.typing import NDArray

from nnunet_archs.losses import ExponentialLogLoss


def reference(
    logits: NDArray[Any], target: NDArray[Any], *, regions: bool, ignore: bool, batch_dice: bool = False
) -> float:
    batch, channels, *spatial = logits.shape
    foreground = list(range(channels) if regions else range(1, channels))
    two = len(foreground) == 2
    dice_weights = [0.4, 0.6] if two else [1 / len(foreground)] * len(foreground)
    ce_weights = [0.28, 0.28, 0.44] if two else [1.0] * (len(foreground) + 1)
    answers: dict[tuple[int, int], list[tuple[float, bool]]] = {(b, c): [] for b in range(batch) for c in foreground}
    losses, weights = [0.0], [0.0]
    for b, *v in product(range(batch), *map(range, spatial)):
        z, t = logits[b][(slice(None), *v)], target[b][(slice(None), *v)]
        if ignore and (t[-1] if regions else t[0] == IGNORE):
            continue
        p = 1 / (1 + np.exp(-z)) if regions else np.exp(z) / np.exp(z).sum()
        y = [bool(t[c]) if regions else t[0] == c for c in range(channels)]
        for i, c in enumerate(foreground):
            answers[b, c].append((p[c], y[c]))
            if regions:
                weights.append(ce_weights[i + 1] if y[c] else ce_weights[0])
                losses.append(-weights[-1] * math.log(p[c] if y[c] else 1 - p[c]))
        if not regions:
            weights.append(ce_weights[t[0]])
            losses.append(-weights[-1] * math.log(p[t[0]]))
    pooled = {c: [a for b in range(batch) for a in answers[b, c]] for c in foreground}
    groups = [pooled] if batch_dice else [{c: answers[b, c] for c in foreground} for b in range(batch)]
    dice = [sum(w * el_dice(group[c]) for w, c in zip(dice_weights, foreground, strict=True)) for group in groups]
    return float(np.mean(dice)) + sum(losses) / max(sum(weights), 1e-9)


def el_dice(answers: list[tuple[float, bool]]) -> float:
    overlap = sum(p for p, y in answers if y)
    dice = (2 * overlap + 1) / (sum(y for _, y in answers) + sum(p for p, _ in answers) + 1)
    return (-math.log(dice) + 1e-4) ** 0.3 - 1e-4**0.3


# two foreground classes are the paper's own case
two_foreground = pytest.mark.parametrize(("channels", "regions"), [(3, False), (2, True)], ids=["labels", "regions"])


def loss_of(*, regions: bool, ignore: bool, batch_dice: bool = False) -> ExponentialLogLoss:
    return ExponentialLogLoss(regions=regions, ignore_label=IGNORE if ignore else None, batch_dice=batch_dice)


def assert_equal_to_the_equations(
    channels: int, spatial: tuple[int, ...], *, regions: bool, ignore: bool, batch_dice: bool
) -> None:
    logits, target = example(channels, spatial, regions=regions, ignore=ignore)
    target[0, :channels] = 0  # a sample without foreground
    loss = loss_of(regions=regions, ignore=ignore, batch_dice=batch_dice)
    expected = reference(logits.double().numpy(), target.numpy(), regions=regions, ignore=ignore, batch_dice=batch_dice)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


@two_foreground
@ignoring
@shapes_and_sums
def test_equals_the_equations(
    channels: int, regions: bool, ignore: bool, spatial: tuple[int, ...], batch_dice: bool
) -> None:
    assert_equal_to_the_equations(channels, spatial, regions=regions, ignore=ignore, batch_dice=batch_dice)


@kinds
@ignoring
def test_other_numbers_of_classes_weigh_the_same(channels: int, regions: bool, ignore: bool) -> None:
    assert_equal_to_the_equations(channels, (5, 6), regions=regions, ignore=ignore, batch_dice=False)


@two_foreground
@ignoring
def test_gradient_equals_finite_differences_of_the_equations(channels: int, regions: bool, ignore: bool) -> None:
    logits, target = example(channels, (4, 5), regions=regions, ignore=ignore, seed=1)
    _, gradient = value_and_gradient(loss_of(regions=regions, ignore=ignore), logits, target)

    def equations(exact: NDArray[Any]) -> float:
        return reference(exact, target.numpy(), regions=regions, ignore=ignore)

    for at, slope in slopes(equations, logits).items():
        assert gradient[at].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_cross_entropy_is_torchs_weighted_one() -> None:
    logits, target = example(3, (5, 6), regions=False, ignore=True)
    weighted = torch.nn.CrossEntropyLoss(torch.tensor([0.28, 0.28, 0.44]), ignore_index=IGNORE)
    loss = loss_of(regions=False, ignore=True)
    loss.dice = lambda batch: 0  # type: ignore[assignment, method-assign, return-value]
    torch.testing.assert_close(loss(logits, target), weighted(logits, target[:, 0].long()))


def test_a_class_that_is_nearly_found_has_a_gradient_that_is_not_huge() -> None:
    target = torch.zeros(1, 1, 4, 4, dtype=torch.int16)
    target[..., :2] = 1
    logits = torch.stack([-(2.0 * target[:, 0] - 1), 2.0 * target[:, 0] - 1], 1)
    for scale in (1, 4, 16, 64):
        value, gradient = value_and_gradient(ExponentialLogLoss(), scale * logits, target)
        assert value >= 0
        assert gradient.abs().max() < 1

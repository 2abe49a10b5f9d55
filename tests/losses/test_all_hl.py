"""ALL-HL against a slow transcription of its equations, and what must hold of it."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from examples import IGNORE, example, ignoring, kinds, shapes_and_sums, slopes, value_and_gradient
from numpy.typing import NDArray
from torch import Tensor

from nnunet_archs.losses import AdaptiveLogHybridLoss, compare
from nnunet_archs.losses.all_hl import adaptive_log, balanced_cross_entropy

# The reference: the equations in float64, voxel by voxel.


def reference(
    logits: NDArray[Any], target: NDArray[Any], *, regions: bool, ignore: bool, batch_dice: bool
) -> dict[str, float]:
    batch, channels, *spatial = logits.shape
    entropy: list[float] = []
    answers: dict[tuple[int, int], list[tuple[float, bool]]] = {}  # (sample, class): [(p, y)] of valid voxels
    foreground = range(channels) if regions else range(1, channels)
    for b in range(batch):
        for c in foreground:
            answers[b, c] = []
        for v in product(*map(range, spatial)):
            z, t = logits[b][(slice(None), *v)], target[b][(slice(None), *v)]
            if ignore and (t[-1] if regions else t[0] == IGNORE):
                continue
            p = 1 / (1 + np.exp(-z)) if regions else np.exp(z) / np.exp(z).sum()
            y = [bool(t[c]) if regions else t[0] == c for c in range(channels)]
            for c in foreground:
                answers[b, c].append((p[c], y[c]))
            if regions:
                entropy += [0.7 * y[c] * math.log(p[c]) + 0.3 * (1 - y[c]) * math.log(1 - p[c]) for c in foreground]
            else:
                entropy.append((0.7 if t[0] > 0 else 0.3) * math.log(p[t[0]]))
    groups = [[a for b in range(batch) for a in answers[b, c]] for c in foreground]
    return {
        "cross-entropy": -sum(entropy) / max(len(entropy), 1),
        "Tversky": float(np.mean([1 - tversky_index(g) for g in (groups if batch_dice else answers.values())])),
    }


def tversky_index(answers: list[tuple[float, bool]]) -> float:
    both = sum(p * y for p, y in answers)
    guess_alone = sum(p * (1 - y) for p, y in answers)
    truth_alone = sum((1 - p) * y for p, y in answers)
    return (both + 1) / (both + 0.3 * guess_alone + 0.7 * truth_alone + 1)


def all_hl(terms: dict[str, float]) -> float:
    hl = 0.5 * terms["cross-entropy"] + 0.5 * terms["Tversky"]
    c = 0.1 - 10 * math.log(1 + 0.1 / 0.5)
    return 10 * math.log(1 + abs(hl) / 0.5) if abs(hl) < 0.1 else abs(hl) - c


def loss_of(*, regions: bool, ignore: bool, batch_dice: bool = False) -> AdaptiveLogHybridLoss:
    return AdaptiveLogHybridLoss(regions=regions, ignore_label=IGNORE if ignore else None, batch_dice=batch_dice)


def towards_truth(logits: Tensor, target: Tensor, *, regions: bool, by: float) -> Tensor:
    """Logits that are nearer the truth, for the branch below gamma."""
    channels = logits.shape[1]
    truth = target[:, :channels] if regions else torch.cat([target == c for c in range(channels)], 1)
    return logits + by * (2 * truth.float() - 1)


# The equations


@kinds
@ignoring
@shapes_and_sums
@pytest.mark.parametrize("by", [0.0, 4.0], ids=["above gamma", "below gamma"])
def test_equals_the_equations(
    channels: int, regions: bool, ignore: bool, spatial: tuple[int, ...], batch_dice: bool, by: float
) -> None:
    logits, target = example(channels, spatial, regions=regions, ignore=ignore)
    logits = towards_truth(logits, target, regions=regions, by=by)
    loss = loss_of(regions=regions, ignore=ignore, batch_dice=batch_dice)
    batch = compare(logits, target, regions=regions, ignore_label=loss.ignore_label)
    terms = reference(logits.double().numpy(), target.numpy(), regions=regions, ignore=ignore, batch_dice=batch_dice)
    assert (sum(terms.values()) / 2 < 0.1) == (by > 0)
    found = {"cross-entropy": balanced_cross_entropy(batch), "Tversky": loss.tversky(batch)}
    assert {k: v.item() for k, v in found.items()} == pytest.approx(terms, rel=1e-5)
    assert loss(logits, target).item() == pytest.approx(all_hl(terms), rel=1e-5)


@kinds
@ignoring
@pytest.mark.parametrize("by", [0.0, 4.0], ids=["above gamma", "below gamma"])
def test_gradient_equals_finite_differences_of_the_equations(
    channels: int, regions: bool, ignore: bool, by: float
) -> None:
    logits, target = example(channels, (4, 5), regions=regions, ignore=ignore, seed=1)
    logits = towards_truth(logits, target, regions=regions, by=by)
    _, gradient = value_and_gradient(loss_of(regions=regions, ignore=ignore), logits, target)
    assert gradient.abs().max() > 1e-3

    def equations(exact: NDArray[Any]) -> float:
        return all_hl(reference(exact, target.numpy(), regions=regions, ignore=ignore, batch_dice=False))

    for at, slope in slopes(equations, logits).items():
        assert gradient[at].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


@kinds
@ignoring
def test_absent_classes_follow_the_equations_too(channels: int, regions: bool, ignore: bool) -> None:
    logits, target = example(channels, (5, 6), regions=regions, ignore=ignore)
    target[0, :channels] = 0  # nothing in the first sample, and no voxel of it ignored but by a region's mask
    loss = loss_of(regions=regions, ignore=ignore)
    terms = reference(logits.double().numpy(), target.numpy(), regions=regions, ignore=ignore, batch_dice=False)
    assert loss(logits, target).item() == pytest.approx(all_hl(terms), rel=1e-5)


# The adaptive logarithm


def test_logarithm_is_continuous_at_gamma() -> None:
    below, at, above = (adaptive_log(torch.tensor(0.1 + step, dtype=torch.float64)) for step in (-1e-9, 0, 1e-9))
    assert below.item() == pytest.approx(at.item(), abs=1e-7)
    assert above.item() == pytest.approx(at.item(), abs=1e-7)
    assert at.item() == pytest.approx(10 * math.log(1.2))


@pytest.mark.parametrize(("value", "slope"), [(0.0, 20.0), (0.0999, 10 / 0.5999), (0.1001, 1.0), (5.0, 1.0)])
def test_slopes_of_the_logarithm(value: float, slope: float) -> None:
    hl = torch.tensor(value, requires_grad=True)
    (gradient,) = torch.autograd.grad(adaptive_log(hl), hl)
    assert gradient.item() == pytest.approx(slope, rel=1e-5)


def test_logarithm_of_nothing_is_nothing() -> None:
    assert adaptive_log(torch.tensor(0.0)) == 0


# Softmax and sigmoid


@ignoring
def test_two_labels_equal_one_region_below_gamma_too(ignore: bool) -> None:
    logits, labels = example(2, (4, 4, 3), regions=False, ignore=ignore)
    logits = towards_truth(logits, labels, regions=False, by=4)
    regions = torch.cat([labels == 1, labels == IGNORE], 1) if ignore else labels == 1
    softmax, softmax_gradient = value_and_gradient(
        loss_of(regions=False, ignore=ignore, batch_dice=True), logits, labels
    )
    sigmoid, sigmoid_gradient = value_and_gradient(
        loss_of(regions=True, ignore=ignore, batch_dice=True), logits[:, 1:] - logits[:, :1], regions
    )
    torch.testing.assert_close(softmax, sigmoid, rtol=1e-5, atol=0)
    torch.testing.assert_close(softmax_gradient[:, 1:], sigmoid_gradient, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(softmax_gradient[:, :1], -sigmoid_gradient, rtol=1e-4, atol=1e-7)


@kinds
def test_perfect_prediction_costs_nothing_and_gets_there_downhill(channels: int, regions: bool) -> None:
    _, target = example(channels, (5, 6), regions=regions, ignore=False)
    direction = towards_truth(torch.zeros(2, channels, 5, 6), target, regions=regions, by=1)
    loss = loss_of(regions=regions, ignore=False)
    values = [loss(scale * direction, target).item() for scale in [-4, -2, -1, 0, 0.5, 1, 2, 4, 8, 30]]
    assert values == sorted(values, reverse=True)
    assert values[0] > 2
    assert 0 <= values[-1] < 1e-6

"""HybridLoss against a slow transcription of its equations, and what must hold of it."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from examples import IGNORE, example, ignoring, kinds, shapes_and_sums, slopes, value_and_gradient
from numpy.typing import NDArray

from nnunet_archs.losses import HybridLoss, compare, focal, lovasz_hinge

# The reference: the equations in float64, voxel by voxel.


def reference(
    logits: NDArray[Any], target: NDArray[Any], *, regions: bool, ignore: bool, batch_dice: bool
) -> dict[str, float]:
    batch, channels, *spatial = logits.shape
    focal_terms: list[float] = []
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
                focal_terms += [binary_focal(p[c], y[c]) / channels for c in foreground]
            else:
                p_t = p[t[0]]
                focal_terms.append(-(0.25 if t[0] > 0 else 0.75) * (1 - p_t) ** 2 * math.log(p_t))
    groups = [[a for b in range(batch) for a in answers[b, c]] for c in foreground]
    voxels = len(focal_terms) / (channels if regions else 1)
    return {
        "focal": sum(focal_terms) / max(voxels, 1),
        "dice": float(np.mean([dice(g) for g in (groups if batch_dice else answers.values())])),
        "lovasz": float(np.mean([lovasz(a) for a in answers.values()])),
    }


def binary_focal(p: float, y: bool) -> float:
    return -0.25 * (1 - p) ** 2 * math.log(p) if y else -0.75 * p**2 * math.log(1 - p)


def dice(answers: list[tuple[float, bool]]) -> float:
    overlap = sum(p for p, y in answers if y)
    return 1 - (2 * overlap + 1) / (sum(y for _, y in answers) + sum(p for p, _ in answers) + 1)


def lovasz(answers: list[tuple[float, bool]]) -> float:
    """Sum of hinge times growth of |M| / |truth or M|, over sets M of the worst voxels, one larger each."""
    hinges = [max(0.0, 1 - math.log(p / (1 - p)) * (1 if y else -1)) for p, y in answers]
    truth = {v for v, (_, y) in enumerate(answers) if y}
    mistakes: set[int] = set()
    loss, jaccard_loss = 0.0, 0.0
    for v in sorted(range(len(answers)), key=lambda v: -hinges[v]):
        mistakes.add(v)
        grown = len(mistakes) / len(truth | mistakes)
        loss += hinges[v] * (grown - jaccard_loss)
        jaccard_loss = grown
    return loss


def hybrid(terms: dict[str, float]) -> float:
    return 0.5 * terms["focal"] + terms["dice"] + 0.5 * terms["lovasz"]


def loss_of(*, regions: bool, ignore: bool, batch_dice: bool = False) -> HybridLoss:
    return HybridLoss(regions=regions, ignore_label=IGNORE if ignore else None, batch_dice=batch_dice)


# The equations


@kinds
@ignoring
@shapes_and_sums
def test_equals_the_equations(
    channels: int, regions: bool, ignore: bool, spatial: tuple[int, ...], batch_dice: bool
) -> None:
    logits, target = example(channels, spatial, regions=regions, ignore=ignore)
    loss = loss_of(regions=regions, ignore=ignore, batch_dice=batch_dice)
    batch = compare(logits, target, regions=regions, ignore_label=loss.ignore_label)
    terms = reference(logits.double().numpy(), target.numpy(), regions=regions, ignore=ignore, batch_dice=batch_dice)
    found = {"focal": focal(batch), "dice": loss.dice(batch), "lovasz": lovasz_hinge(batch)}
    assert {k: v.item() for k, v in found.items()} == pytest.approx(terms, rel=1e-5)
    assert loss(logits, target).item() == pytest.approx(hybrid(terms), rel=1e-5)


@kinds
@ignoring
def test_gradient_equals_finite_differences_of_the_equations(channels: int, regions: bool, ignore: bool) -> None:
    logits, target = example(channels, (4, 5), regions=regions, ignore=ignore, seed=1)
    _, gradient = value_and_gradient(loss_of(regions=regions, ignore=ignore), logits, target)
    assert gradient.abs().max() > 1e-2

    def equations(exact: NDArray[Any]) -> float:
        return hybrid(reference(exact, target.numpy(), regions=regions, ignore=ignore, batch_dice=False))

    for at, slope in slopes(equations, logits).items():
        assert gradient[at].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


@kinds
@ignoring
def test_absent_classes_follow_the_equations_too(channels: int, regions: bool, ignore: bool) -> None:
    logits, target = example(channels, (5, 6), regions=regions, ignore=ignore)
    target[0, :channels] = 0  # nothing in the first sample, and no voxel of it ignored but by a region's mask
    loss = loss_of(regions=regions, ignore=ignore)
    terms = reference(logits.double().numpy(), target.numpy(), regions=regions, ignore=ignore, batch_dice=False)
    assert loss(logits, target).item() == pytest.approx(hybrid(terms), rel=1e-5)


def test_lovasz_of_an_absent_class_is_its_largest_hinge() -> None:
    logits = torch.tensor([-3.0, 0.5, 2.0, 7.0]).view(1, 1, 2, 2)
    target = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]]).bool().view(1, 2, 2, 2)  # the last voxel is ignored
    assert lovasz_hinge(compare(logits, target, regions=True, ignore_label=1)).item() == 3.0


def test_lovasz_weights_are_exact_on_many_voxels() -> None:
    n = 1 << 20
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(1, 1, 1024, 1024, generator=generator)
    truth = torch.rand(1, 1, 1024, 1024, generator=generator) < 0.02
    _, gradient = value_and_gradient(
        lambda z, t: lovasz_hinge(compare(z, t, regions=True)),  # type: ignore[arg-type]
        logits,
        truth,
    )
    z, y = logits.numpy().ravel(), truth.numpy().ravel()
    hinge = np.where(y, np.float32(1) - z, np.float32(1) + z)
    order = np.argsort(-hinge, kind="stable")
    hits = np.cumsum(y[order], dtype=np.float64)
    jaccard_loss = 1 - (y.sum() - hits) / (y.sum() + np.arange(1, n + 1) - hits)
    expected = np.zeros(n)
    expected[order] = np.diff(jaccard_loss, prepend=0.0)
    expected *= np.where(y, -1, 1) * (hinge > 0)
    # equal hinges may change places, hence not every voxel but nearly all
    close = np.isclose(gradient.numpy().ravel(), expected, rtol=1e-5, atol=1e-14)
    assert close.mean() > 0.98


@kinds
def test_perfect_prediction_costs_nothing_and_gets_there_downhill(channels: int, regions: bool) -> None:
    _, target = example(channels, (5, 6), regions=regions, ignore=False)
    truth = target if regions else torch.cat([target == c for c in range(channels)], 1)
    direction = 2 * truth.float() - 1
    loss = loss_of(regions=regions, ignore=False)
    values = [loss(scale * direction, target).item() for scale in [-4, -2, -1, 0, 0.5, 1, 2, 4, 8, 30]]
    assert values == sorted(values, reverse=True)
    assert values[0] > 2
    assert 0 <= values[-1] < 1e-6
    scale = torch.tensor(0.5, requires_grad=True)
    loss(scale * direction, target).backward()
    assert scale.grad is not None
    assert scale.grad < -0.1

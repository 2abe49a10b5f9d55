"""Logits and targets of every kind that the losses are tested on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORE = 9  # far from the labels: it must not be taken for a channel
SHAPES = [(5, 6), (3, 4, 3)]
KINDS = [(2, False), (4, False), (1, True), (3, True)]
kinds = pytest.mark.parametrize(("channels", "regions"), KINDS, ids=["2 labels", "4 labels", "1 region", "3 regions"])
# neither shape nor sums of Dice can hide an error in the other
shapes_and_sums = pytest.mark.parametrize(
    ("spatial", "batch_dice"), [(SHAPES[0], False), (SHAPES[1], True)], ids=["2D-sample", "3D-batch"]
)
ignoring = pytest.mark.parametrize("ignore", [False, True], ids=["all valid", "ignore"])


def example(
    channels: int, spatial: tuple[int, ...], *, regions: bool, ignore: bool, batch: int = 2, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, channels, *spatial, generator=generator)
    if regions:
        target = torch.rand(batch, channels + ignore, *spatial, generator=generator) < 0.4
        return logits, target
    target = torch.randint(channels, (batch, 1, *spatial), generator=generator, dtype=torch.int16)
    if ignore:
        target[torch.rand(target.shape, generator=generator) < 0.4] = IGNORE
    return logits, target


def ignored(target: Tensor, *, regions: bool) -> Tensor:
    return target[:, -1:].bool() if regions else target == IGNORE


def value_and_gradient(loss: torch.nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def slopes(equations: Callable[[NDArray[Any]], float], logits: Tensor) -> dict[tuple[int, ...], float]:
    """Finite differences of equations in float64, at three pixels of every channel of 2D logits."""
    exact, step = logits.double().numpy(), 1e-6

    def value(at: tuple[int, ...], by: float) -> float:
        moved = exact.copy()
        moved[at] += by
        return equations(moved)

    batch, channels = logits.shape[:2]
    pixels = [(0, 0), (1, 3), (3, 4)]
    places = [(b, c, y, x) for b, c, (y, x) in product(range(batch), range(channels), pixels)]
    return {at: (value(at, step) - value(at, -step)) / (2 * step) for at in places}

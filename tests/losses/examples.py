"""Logits and targets of every kind that the losses are tested on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

IGNORE = 9  # far from the labels: it must not be taken for a channel
SHAPES = [(5, 6), (3, 4, 3)]
KINDS = [(2, False), (4, False), (1, True), (3, True)]
kinds = pytest.mark.parametrize(("channels", "regions"), KINDS, ids=["2 labels", "4 labels", "1 region", "3 regions"])
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

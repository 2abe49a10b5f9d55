"""Pairing outputs with targets and weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nnunet_archs.losses import DeepSupervisionLoss, HybridLoss


class Pair(nn.Module):
    """10 x output + target: tells who met whom."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return 10 * output + target


def scalars(*values: float) -> list[Tensor]:
    return [torch.tensor(v) for v in values]


def test_outputs_meet_the_targets_of_their_stages() -> None:
    loss = DeepSupervisionLoss(Pair(), stages=[0, 1, 2, 0], weights=[1.0, 0.5, 0.25, 4.0])
    value = loss(scalars(1, 2, 3, 4), scalars(5, 6, 7))
    assert value.item() == 15 + 0.5 * 26 + 0.25 * 37 + 4 * 45


def test_every_head_of_unet_sharp_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [8, 4, 2, 8, 8]
    outputs = [torch.randn(2, 3, n, n, generator=generator, requires_grad=True) for n in sizes]
    targets = [torch.randint(3, (2, 1, n, n), generator=generator, dtype=torch.int16) for n in sizes[:3]]
    loss = HybridLoss()
    value = DeepSupervisionLoss(loss, [0, 1, 2, 0, 0], [1 / 5] * 5)(outputs, targets)
    parts = [loss(o, targets[i]) for o, i in zip(outputs, [0, 1, 2, 0, 0], strict=True)]
    torch.testing.assert_close(value, torch.stack(parts).mean())
    value.backward()
    for output, part in zip(outputs, parts, strict=True):
        (alone,) = torch.autograd.grad(part, output)
        assert output.grad is not None
        torch.testing.assert_close(output.grad, alone / 5)


def test_weight_zero_keeps_its_head_in_the_graph() -> None:
    outputs = [torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)]
    DeepSupervisionLoss(Pair(), [0, 1], [1.0, 0.0])(outputs, scalars(0, 0)).backward()
    assert [o.grad for o in outputs] == [torch.tensor(10.0), torch.tensor(0.0)]


@pytest.mark.parametrize("outputs", [2, 4])
def test_surplus_and_missing_outputs_are_refused(outputs: int) -> None:
    loss = DeepSupervisionLoss(Pair(), [0, 1, 0], [1.0] * 3)
    with pytest.raises(ValueError, match=rf"{outputs} outputs.* 3"):
        loss(scalars(*range(outputs)), scalars(1, 2))


def test_missing_targets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 targets.* need 3"):
        DeepSupervisionLoss(Pair(), [0, 2], [1.0, 1.0])(scalars(1, 2), scalars(1, 2))


@pytest.mark.parametrize(
    ("stages", "weights", "message"),
    [([0, 1], [1.0], "2 stages, 1 weights"), ([], [], "0 stages"), ([0, -1], [1.0, 1.0], "count from 0")],
)
def test_construction_refuses(stages: list[int], weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepSupervisionLoss(Pair(), stages, weights)

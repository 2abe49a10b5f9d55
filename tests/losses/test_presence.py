"""PresenceLoss against a slow transcription of its definition, and what must hold of it."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from examples import IGNORE, SHAPES, example, ignored, ignoring, kinds
from numpy.typing import NDArray
from torch import Tensor

from nnunet_archs.losses import PresenceLoss

N_BRANCHES = 3


def reference(answers: list[NDArray[Any]], target: NDArray[Any], *, regions: bool, ignore: bool) -> float:
    """Binary cross-entropy of the softmax of each pair of logits, voxel by voxel in float64."""
    samples, channels, _ = answers[0].shape
    terms = []
    for branch in answers:
        for b in range(samples):
            for c in range(0 if regions else 1, channels):
                shown, hidden = False, False
                for v in product(*map(range, target.shape[2:])):
                    t = target[b][(slice(None), *v)]
                    if ignore and (t[-1] if regions else t[0] == IGNORE):
                        hidden = True
                    elif t[c] if regions else t[0] == c:
                        shown = True
                if shown or not hidden:
                    absent, present = np.exp(branch[b, c] - branch[b, c].max())
                    p = present / (absent + present)
                    terms.append(-math.log(p) if shown else -math.log(1 - p))
    return float(np.mean(terms)) if terms else 0.0


def loss_of(*, regions: bool, ignore: bool) -> PresenceLoss:
    return PresenceLoss(regions=regions, ignore_label=IGNORE if ignore else None)


def make_answers(channels: int, *, batch: int = 4, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(batch, channels, 2, generator=generator) for _ in range(N_BRANCHES)]


def make_target(channels: int, spatial: tuple[int, ...], *, regions: bool, ignore: bool) -> Tensor:
    """All classes in the first sample, none in the second, one in the third, nothing ignored in the fourth."""
    _, target = example(channels, spatial, regions=regions, ignore=ignore, batch=4)
    if regions:
        target[1, :channels] = False
        target[2, 1:channels] = False
        target[3, channels:] = False
    else:
        target[1][target[1] != IGNORE] = 0
        target[2][(target[2] > 1) & (target[2] != IGNORE)] = 0
        target[3][target[3] == IGNORE] = 0
    return target


def value_and_gradients(loss: PresenceLoss, answers: list[Tensor], target: Tensor) -> tuple[Tensor, Tensor]:
    leaves = [answer.clone().requires_grad_() for answer in answers]
    value = loss(leaves, target)
    return value.detach(), torch.stack(torch.autograd.grad(value, leaves))


@kinds
@ignoring
@pytest.mark.parametrize("spatial", SHAPES, ids=["2D", "3D"])
def test_equals_its_definition(channels: int, regions: bool, ignore: bool, spatial: tuple[int, ...]) -> None:
    answers = make_answers(channels)
    target = make_target(channels, spatial, regions=regions, ignore=ignore)
    value = loss_of(regions=regions, ignore=ignore)(answers, target)
    expected = reference([a.double().numpy() for a in answers], target.numpy(), regions=regions, ignore=ignore)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert (value.shape, value.dtype) == ((), torch.float32)


@kinds
@ignoring
def test_gradient_equals_finite_differences(channels: int, regions: bool, ignore: bool) -> None:
    answers = make_answers(channels, seed=1)
    target = make_target(channels, (4, 5), regions=regions, ignore=ignore)
    _, gradient = value_and_gradients(loss_of(regions=regions, ignore=ignore), answers, target)
    exact, step = [a.double().numpy() for a in answers], 1e-6

    def value(at: tuple[int, ...], by: float) -> float:
        moved = [a.copy() for a in exact]
        moved[1][at] += by
        return reference(moved, target.numpy(), regions=regions, ignore=ignore)

    for at in product(range(4), range(channels), range(2)):
        slope = (value(at, step) - value(at, -step)) / (2 * step)
        assert gradient[1][at].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


@ignoring
def test_two_labels_equal_one_region(ignore: bool) -> None:
    answers = make_answers(2)
    labels = make_target(2, (5, 6), regions=False, ignore=ignore)
    regions = torch.cat([labels == 1, labels == IGNORE], 1) if ignore else labels == 1
    softmax, gradient = value_and_gradients(loss_of(regions=False, ignore=ignore), answers, labels)
    sigmoid, region_gradient = value_and_gradients(
        loss_of(regions=True, ignore=ignore), [answer[:, 1:] for answer in answers], regions
    )
    assert torch.equal(softmax, sigmoid)
    assert torch.equal(gradient[:, :, 1:], region_gradient)
    assert not gradient[:, :, 0].any()  # the background is not asked for


@kinds
def test_what_ignored_voxels_may_hide_has_no_influence(channels: int, regions: bool) -> None:
    answers = make_answers(channels)
    target = make_target(channels, (5, 6), regions=regions, ignore=True)
    loss = loss_of(regions=regions, ignore=True)
    value, gradient = value_and_gradients(loss, answers, target)
    # the second sample shows nothing and has ignored voxels; the fourth has none of these
    assert not gradient[:, 1].any()
    assert gradient[:, 3].any()
    for answer in answers:
        answer[1] += 100
    other = target.clone()
    if regions:
        other[:, :-1] ^= ignored(target, regions=True)
    other_value, other_gradient = value_and_gradients(loss, answers, other)
    assert torch.equal(value, other_value)
    assert torch.equal(gradient, other_gradient)


def test_what_shows_beside_ignored_voxels_is_present() -> None:
    target = torch.tensor([1, IGNORE, 0, 0]).view(1, 1, 2, 2)
    assert loss_of(regions=False, ignore=True).presence(target, 3).tolist() == [[1, -1]]
    assert loss_of(regions=False, ignore=True).presence(target.clamp(max=2), 3).tolist() == [[1, 1]]
    assert loss_of(regions=False, ignore=True).presence(target % IGNORE, 3).tolist() == [[1, 0]]


def test_ignore_channel_may_be_float() -> None:
    answers, target = make_answers(3), make_target(3, (5, 6), regions=True, ignore=True)
    loss = loss_of(regions=True, ignore=True)
    assert torch.equal(loss(answers, target), loss(answers, target.float()))


@kinds
def test_nothing_valid_gives_zero(channels: int, regions: bool) -> None:
    answers, target = make_answers(channels), make_target(channels, (5, 6), regions=regions, ignore=True)
    if regions:
        target[:, -1] = True
    else:
        target.fill_(IGNORE)
    value, gradient = value_and_gradients(loss_of(regions=regions, ignore=True), answers, target)
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


@kinds
@ignoring
@pytest.mark.parametrize("sign", [-1, 1])
def test_extremes_stay_finite(channels: int, regions: bool, ignore: bool, sign: int) -> None:
    target = make_target(channels, (5, 6), regions=regions, ignore=ignore)
    answers = [torch.tensor([-200.0, 200.0]).mul(sign).expand(4, channels, 2).half() for _ in range(N_BRANCHES)]
    value, gradient = value_and_gradients(loss_of(regions=regions, ignore=ignore), answers, target)
    assert 0 <= value <= 400
    assert gradient.isfinite().all()


@kinds
@ignoring
def test_float32_under_autocast(channels: int, regions: bool, ignore: bool) -> None:
    target = make_target(channels, (5, 6), regions=regions, ignore=ignore)
    answers = [answer.to(torch.bfloat16) for answer in make_answers(channels)]
    loss = loss_of(regions=regions, ignore=ignore)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(answers, target)
    assert value.dtype is torch.float32
    assert torch.equal(value, loss([answer.float() for answer in answers], target))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@kinds
@ignoring
def test_gpu_equals_cpu(channels: int, regions: bool, ignore: bool) -> None:
    answers, target = make_answers(channels), make_target(channels, (16, 17, 18), regions=regions, ignore=ignore)
    loss = loss_of(regions=regions, ignore=ignore)
    with torch.autocast("cuda"):
        value = loss([answer.cuda() for answer in answers], target.cuda())
    torch.testing.assert_close(value.cpu(), loss(answers, target), rtol=1e-5, atol=1e-6)


def test_a_target_of_other_regions_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        PresenceLoss(regions=True)(make_answers(3), torch.zeros(4, 2, 5, 6, dtype=torch.bool))

"""What must hold of every loss of segmentation."""

from __future__ import annotations

import math

import pytest
import torch
from examples import IGNORE, example, ignored, ignoring, kinds, value_and_gradient
from torch import Tensor

from nnunet_archs import losses
from nnunet_archs.losses import BoundaryWeightedLoss, SegmentationLoss

LOSSES = [
    loss
    for loss in vars(losses).values()
    if isinstance(loss, type) and issubclass(loss, SegmentationLoss) and loss is not SegmentationLoss
]
pytestmark = pytest.mark.parametrize("loss_class", LOSSES)


def loss_of(
    loss_class: type[SegmentationLoss], *, regions: bool, ignore: bool, batch_dice: bool = False
) -> SegmentationLoss:
    return loss_class(regions=regions, ignore_label=IGNORE if ignore else None, batch_dice=batch_dice)


# Softmax and sigmoid


@ignoring
def test_two_labels_equal_one_region(loss_class: type[SegmentationLoss], ignore: bool) -> None:
    logits, labels = example(2, (4, 4, 3), regions=False, ignore=ignore)
    regions = torch.cat([labels == 1, labels == IGNORE], 1) if ignore else labels == 1
    softmax, softmax_gradient = value_and_gradient(loss_of(loss_class, regions=False, ignore=ignore), logits, labels)
    difference = logits[:, 1:] - logits[:, :1]
    sigmoid, sigmoid_gradient = value_and_gradient(
        loss_of(loss_class, regions=True, ignore=ignore), difference, regions
    )
    torch.testing.assert_close(softmax, sigmoid, rtol=1e-6, atol=0)
    torch.testing.assert_close(softmax_gradient[:, 1:], sigmoid_gradient, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(softmax_gradient[:, :1], -sigmoid_gradient, rtol=1e-5, atol=1e-8)


def test_softmax_disregards_a_constant(loss_class: type[SegmentationLoss]) -> None:
    logits, target = example(4, (5, 6), regions=False, ignore=False)
    torch.testing.assert_close(loss_class()(logits + 3, target), loss_class()(logits, target))


# The ignore label


@kinds
@pytest.mark.parametrize("batch_dice", [False, True], ids=["sample Dice", "batch Dice"])
@pytest.mark.parametrize("rubbish", [-50.0, math.nan])
def test_ignored_voxels_have_no_influence(
    loss_class: type[SegmentationLoss], channels: int, regions: bool, batch_dice: bool, rubbish: float
) -> None:
    logits, target = example(channels, (5, 6), regions=regions, ignore=True)
    loss = loss_of(loss_class, regions=regions, ignore=True, batch_dice=batch_dice)
    value, gradient = value_and_gradient(loss, logits, target)
    mask = ignored(target, regions=regions)
    assert mask.any()
    other = target.clone()
    if regions:
        other[:, :-1] ^= mask
    other_value, other_gradient = value_and_gradient(loss, logits.masked_fill(mask, rubbish), other)
    assert torch.equal(value, other_value)
    assert torch.equal(gradient, other_gradient)
    assert not gradient[mask.expand_as(gradient)].any()
    assert gradient[~mask.expand_as(gradient)].any()


@kinds
def test_ignoring_voxels_equals_removing_them(loss_class: type[SegmentationLoss], channels: int, regions: bool) -> None:
    if loss_class is BoundaryWeightedLoss:
        pytest.skip("it depends on what is beside a voxel")
    logits, target = example(channels, (5, 6), regions=regions, ignore=True, batch=1)
    keep = ~ignored(target, regions=regions)[0, 0]
    kept_target = target[:, :channels] if regions else target
    value, gradient = value_and_gradient(loss_of(loss_class, regions=regions, ignore=True), logits, target)
    removed, removed_gradient = value_and_gradient(
        loss_of(loss_class, regions=regions, ignore=False), logits[:, :, keep], kept_target[:, :, keep]
    )
    torch.testing.assert_close(value, removed)
    torch.testing.assert_close(gradient[:, :, keep], removed_gradient)


def test_ignore_channel_may_be_float(loss_class: type[SegmentationLoss]) -> None:
    logits, target = example(3, (5, 6), regions=True, ignore=True)
    loss = loss_of(loss_class, regions=True, ignore=True)
    assert torch.equal(loss(logits, target), loss(logits, target.float()))


@kinds
@pytest.mark.parametrize("batch_dice", [False, True], ids=["sample Dice", "batch Dice"])
def test_nothing_valid_gives_zero(
    loss_class: type[SegmentationLoss], channels: int, regions: bool, batch_dice: bool
) -> None:
    logits, target = example(channels, (5, 6), regions=regions, ignore=True)
    if regions:
        target[:, -1] = True
    else:
        target.fill_(IGNORE)
    loss = loss_of(loss_class, regions=regions, ignore=True, batch_dice=batch_dice)
    value, gradient = value_and_gradient(loss, logits, target)
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


# Extremes


@kinds
@ignoring
@pytest.mark.parametrize("truth", [False, True], ids=["truth empty", "truth full"])
@pytest.mark.parametrize("guess", [False, True], ids=["guess empty", "guess full"])
def test_extremes_stay_finite(
    loss_class: type[SegmentationLoss],
    channels: int,
    regions: bool,
    ignore: bool,
    truth: bool,
    guess: bool,
) -> None:
    _, target = example(channels, (4, 4), regions=regions, ignore=ignore, batch=1)
    logits = torch.full((1, channels, 4, 4), 200.0 if regions and guess else -200.0)
    if regions:
        target[:, :channels] = truth
    else:
        logits[:, -1 if guess else 0] = 200.0
        target[target != IGNORE] = channels - 1 if truth else 0
    value, gradient = value_and_gradient(loss_of(loss_class, regions=regions, ignore=ignore), logits.half(), target)
    assert gradient.isfinite().all()
    if guess == truth:
        assert 0 <= value < 1e-6
    else:
        assert value > 0.5
        assert gradient.any()


@kinds
@ignoring
def test_float32_under_autocast(loss_class: type[SegmentationLoss], channels: int, regions: bool, ignore: bool) -> None:
    logits, target = example(channels, (5, 6), regions=regions, ignore=ignore)
    logits = logits.to(torch.bfloat16)
    loss = loss_of(loss_class, regions=regions, ignore=ignore)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, target)
    assert value.dtype is torch.float32
    assert torch.equal(value, loss(logits.float(), target))


@kinds
@ignoring
def test_runs_on_the_meta_device(
    loss_class: type[SegmentationLoss], channels: int, regions: bool, ignore: bool
) -> None:
    logits, target = example(channels, (5, 6), regions=regions, ignore=ignore)
    value = loss_of(loss_class, regions=regions, ignore=ignore)(logits.half().to("meta"), target.to("meta"))
    assert (value.shape, value.dtype) == ((), torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@kinds
@ignoring
def test_gpu_equals_cpu(loss_class: type[SegmentationLoss], channels: int, regions: bool, ignore: bool) -> None:
    logits, target = example(channels, (16, 17, 18), regions=regions, ignore=ignore)
    loss = loss_of(loss_class, regions=regions, ignore=ignore)
    value, gradient = value_and_gradient(loss, logits, target)
    with torch.autocast("cuda"):
        gpu_value, gpu_gradient = value_and_gradient(loss, logits.cuda(), target.cuda())
    torch.testing.assert_close(gpu_value.cpu(), value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gpu_gradient.cpu(), gradient, rtol=1e-4, atol=1e-7)


def test_autocast_is_off_inside(loss_class: type[SegmentationLoss]) -> None:
    class Probe(loss_class):  # type: ignore[misc, valid-type]
        def compute(self, batch: object) -> Tensor:
            return torch.tensor(torch.is_autocast_enabled("cpu"))

    logits, target = example(2, (2, 2), regions=False, ignore=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not Probe()(logits, target)

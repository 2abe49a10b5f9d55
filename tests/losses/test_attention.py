"""Crosslink-Net's losses against a slow transcription of its equations, and what must hold of the attention's."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
import torch
from examples import IGNORE, example, ignored, ignoring, kinds
from numpy.typing import NDArray
from torch import Tensor

from nnunet_archs.losses import AttentionLoss, AuxiliaryLoss, CrosslinkLoss
from nnunet_archs.losses.attention import AttentionMode

SIZES = [((8, 12), (4, 3)), ((4, 4, 6), (2, 2, 3))]  # of the target, of the maps
modes = pytest.mark.parametrize("mode", ["triple", "pairwise"])
sizes = pytest.mark.parametrize(("spatial", "size"), SIZES, ids=["2D", "3D"])


# The reference: the equations in float64, position by position.


def reference(
    mode: str, tail: list[NDArray[np.float64]], target: NDArray[np.float64], *, regions: bool, ignore: bool
) -> float:
    scores = []
    for b in range(len(target)):
        mask, weight = pooled(target[b], tail[0].shape[2:], regions=regions, ignore=ignore)
        maps = [1 / (1 + np.exp(-a[b, 0].ravel())) for a in tail]
        vectors = [centred(x, weight) for x in [*maps, mask]]
        if norm(vectors[-1], weight) < 1e-5:
            continue
        if mode == "triple":
            v, h, m = vectors
            above = sum(w * v[k] * h[k] * m[k] for k, w in enumerate(weight))
            scores.append(-above / (norm(v, weight) * norm(h, weight) * norm(m, weight)))
        else:
            pairs = list(combinations(vectors, 2))
            scores.append(-sum(correlation(x, y, weight) for x, y in pairs) / len(pairs))
    return float(np.mean(scores)) if scores else 0.0


def pooled(
    target: NDArray[np.float64], size: tuple[int, ...], *, regions: bool, ignore: bool
) -> tuple[list[float], list[float]]:
    """Fraction of foreground among the valid voxels of every position, and of valid voxels among all."""
    block = [n // m for n, m in zip(target.shape[1:], size, strict=True)]
    mask, weight = [], []
    for corner in product(*map(range, size)):
        foreground, valid = 0, 0
        for offset in product(*map(range, block)):
            t = target[(slice(None), *(c * n + o for c, n, o in zip(corner, block, offset, strict=True)))]
            if ignore and (t[-1] if regions else t[0] == IGNORE):
                continue
            valid += 1
            foreground += bool(any(t[: len(t) - ignore]) if regions else t[0] > 0)
        mask.append(foreground / valid if valid else 0.0)
        weight.append(valid / math.prod(block))
    return mask, weight


def centred(x: list[float], weight: list[float]) -> list[float]:
    mean = sum(w * a for w, a in zip(weight, x, strict=True)) / sum(weight)
    return [a - mean for a in x]


def norm(x: list[float], weight: list[float]) -> float:
    return math.sqrt(sum(w * a * a for w, a in zip(weight, x, strict=True)))


def correlation(x: list[float], y: list[float], weight: list[float]) -> float:
    above = sum(w * a * b for w, a, b in zip(weight, x, y, strict=True))
    return above / (norm(x, weight) * norm(y, weight))


# Input


def maps(size: tuple[int, ...], *, n: int = 2, batch: int = 2, seed: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(batch, 1, *size, generator=generator) for _ in range(n)]


def loss_of(mode: AttentionMode, *, regions: bool = False, ignore: bool = False) -> AttentionLoss:
    return AttentionLoss(mode=mode, regions=regions, ignore_label=IGNORE if ignore else None)


def value_and_gradients(loss: AttentionLoss, tail: list[Tensor], target: Tensor) -> tuple[Tensor, list[Tensor]]:
    tail = [a.clone().requires_grad_() for a in tail]
    value = loss(tail, target)
    return value.detach(), list(torch.autograd.grad(value, tail))


def logit_of(mask: Tensor) -> Tensor:
    """Logits of a map that is 0.2 off the mask and 0.8 on it."""
    return (0.2 + 0.6 * mask.float()).logit()


# The equations


@modes
@kinds
@ignoring
@sizes
def test_equals_the_equation(
    mode: AttentionMode, channels: int, regions: bool, ignore: bool, spatial: tuple[int, ...], size: tuple[int, ...]
) -> None:
    _, target = example(channels, spatial, regions=regions, ignore=ignore)
    target[:, :channels].view(2, -1)[:, ::3] = 0  # more background, so that masks differ from place to place
    tail = maps(size)
    value, gradients = value_and_gradients(loss_of(mode, regions=regions, ignore=ignore), tail, target)
    exact = [a.double().numpy() for a in tail]
    truth = target.double().numpy()
    assert value.item() == pytest.approx(reference(mode, exact, truth, regions=regions, ignore=ignore), rel=1e-4)
    step = 1e-6
    for k, at in product(range(2), [(0, 0, *[0] * len(size)), (1, 0, *[1] * len(size))]):
        values = []
        for by in (step, -step):
            moved = [a.copy() for a in exact]
            moved[k][at] += by
            values.append(reference(mode, moved, truth, regions=regions, ignore=ignore))
        slope = (values[0] - values[1]) / (2 * step)
        assert gradients[k][at].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


@sizes
def test_pairwise_takes_three_maps(spatial: tuple[int, ...], size: tuple[int, ...]) -> None:
    _, target = example(2, spatial, regions=False, ignore=True)
    tail = maps(size, n=3)
    expected = reference(
        "pairwise", [a.double().numpy() for a in tail], target.double().numpy(), regions=False, ignore=True
    )
    assert loss_of("pairwise", ignore=True)(tail, target).item() == pytest.approx(expected, rel=1e-4)


@modes
def test_the_loss_of_several_blocks_is_their_mean(mode: AttentionMode) -> None:
    _, target = example(2, (8, 12), regions=False, ignore=True)
    first, second = maps((8, 12)), maps((4, 3))
    one = loss_of(mode, ignore=True)
    both = AttentionLoss(mode=mode, blocks=2, ignore_label=IGNORE)
    torch.testing.assert_close(both([*first, *second], target), (one(first, target) + one(second, target)) / 2)


@pytest.mark.parametrize("n", [1, 3])
def test_equation_1_is_for_two_maps(n: int) -> None:
    with pytest.raises(ValueError, match=f"mode='triple' with {n} maps: Eq. 1 is for two; give mode='pairwise'"):
        AttentionLoss()(maps((4, 3), n=n), torch.zeros(2, 1, 8, 12))


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="mode='double': give one of triple, pairwise"):
        AttentionLoss(mode="double")  # type: ignore[arg-type]


@modes
@pytest.mark.parametrize("n_foreground", [1, 4, 8, 12])
def test_perfect_maps(mode: AttentionMode, n_foreground: int) -> None:
    # maps as large as the target, hence a mask of 0 and 1
    target = torch.zeros(1, 1, 4, 4, dtype=torch.long)
    target.view(-1)[:n_foreground] = 1
    tail = [logit_of(target)] * 2
    f = n_foreground / 16
    perfect = -1.0 if mode == "pairwise" else -(1 - 2 * f) / math.sqrt(16 * f * (1 - f))
    assert loss_of(mode)(tail, target).item() == pytest.approx(perfect, abs=1e-5)
    inverted = loss_of(mode)([-a for a in tail], target).item()
    assert inverted == pytest.approx(1 / 3 if mode == "pairwise" else perfect, abs=1e-5)


@modes
def test_the_union_of_classes_or_regions_is_the_mask(mode: AttentionMode) -> None:
    _, labels = example(4, (8, 12), regions=False, ignore=True)
    tail = maps((4, 3))
    expected = loss_of(mode, ignore=True)(tail, labels)
    merged = torch.where((labels > 0) & (labels != IGNORE), 1, labels)
    assert torch.equal(loss_of(mode, ignore=True)(tail, merged), expected)
    regions = torch.cat([labels == 1, (labels == 2) | (labels == 3), labels == IGNORE], 1)
    assert torch.equal(loss_of(mode, regions=True, ignore=True)(tail, regions), expected)
    assert torch.equal(loss_of(mode, regions=True, ignore=True)(tail, regions.float()), expected)


@modes
def test_one_voxel_is_no_constant_mask(mode: AttentionMode) -> None:
    # of the 32768 positions of a patch of 128³ at stage 2, that of one voxel's
    target = torch.zeros(1, 1, 128, 128, 128, dtype=torch.bool)
    target[..., 5, 6, 7] = True
    perfect = torch.zeros(1, 1, 32, 32, 32)
    perfect[..., 1, 1, 1] = 1
    n, f = 32**3, 1 / 32**3
    expected = -1.0 if mode == "pairwise" else -(1 - 2 * f) / math.sqrt(n * f * (1 - f))
    value = loss_of(mode, regions=True)([logit_of(perfect)] * 2, target)
    assert value.item() == pytest.approx(expected, rel=1e-3)


# The ignore label


@modes
@kinds
@sizes
def test_ignored_voxels_have_no_influence(
    mode: AttentionMode, channels: int, regions: bool, spatial: tuple[int, ...], size: tuple[int, ...]
) -> None:
    _, target = example(channels, spatial, regions=regions, ignore=True)
    hidden = (slice(None), slice(-1, None), *(slice(n // 2) for n in spatial))  # whole positions, in one corner
    target[hidden] = True if regions else IGNORE
    loss, tail = loss_of(mode, regions=regions, ignore=True), maps(size)
    value, gradients = value_and_gradients(loss, tail, target)
    other = target.clone()
    if regions:
        other[:, :-1] ^= ignored(target, regions=True)
    rubbish = [a.clone() for a in tail]
    for a in rubbish:
        a[(..., *(slice(m // 2) for m in size))] = math.nan
    other_value, other_gradients = value_and_gradients(loss, rubbish, other)
    assert torch.equal(value, other_value)
    for gradient, other_gradient in zip(gradients, other_gradients, strict=True):
        assert torch.equal(gradient, other_gradient)
        assert not gradient[(..., *(slice(m // 2) for m in size))].any()
        assert gradient.any()


@modes
def test_ignoring_positions_equals_removing_them(mode: AttentionMode) -> None:
    _, target = example(3, (8, 12), regions=False, ignore=False)
    tail = maps((4, 6))
    kept = loss_of(mode)([a[:, :, 1:] for a in tail], target[:, :, 2:])
    target[:, :, :2] = IGNORE
    torch.testing.assert_close(loss_of(mode, ignore=True)(tail, target), kept)


# Samples that have no correlation, and extremes


@modes
@kinds
def test_nothing_valid_gives_zero(mode: AttentionMode, channels: int, regions: bool) -> None:
    _, target = example(channels, (8, 12), regions=regions, ignore=True)
    target[:, -1:] = True if regions else IGNORE
    value, gradients = value_and_gradients(loss_of(mode, regions=regions, ignore=True), maps((4, 3)), target)
    assert value == 0
    assert not torch.stack(gradients).any()


@modes
@pytest.mark.parametrize("label", [0, 1])
@ignoring
def test_samples_of_one_kind_of_voxel_are_left_out(mode: AttentionMode, label: int, ignore: bool) -> None:
    _, target = example(2, (8, 12), regions=False, ignore=ignore)
    tail, loss = maps((4, 3)), loss_of(mode, ignore=ignore)
    target[1].masked_fill_(target[1] != IGNORE, label)
    value, gradients = value_and_gradients(loss, tail, target)
    torch.testing.assert_close(value, loss([a[:1] for a in tail], target[:1]))
    for gradient in gradients:
        assert gradient[0].any()
        assert not gradient[1].any()
    target[0] = target[1]
    value, gradients = value_and_gradients(loss, tail, target)
    assert value == 0
    assert not torch.stack(gradients).any()


@modes
@pytest.mark.parametrize("truth", ["empty", "full", "mixed", "ignored"])
@pytest.mark.parametrize("filled", ["low", "high", "opposite", "zero", "checkered"])
def test_extremes_stay_finite(mode: AttentionMode, truth: str, filled: str) -> None:
    _, target = example(2, (8, 12), regions=False, ignore=True)
    if truth != "mixed":
        target.fill_({"empty": 0, "full": 1, "ignored": IGNORE}[truth])
    v = torch.full((2, 1, 4, 3), {"low": -200.0, "zero": 0.0}.get(filled, 200.0))
    if filled == "checkered":
        v.view(-1)[::2] *= -1
    h = -v if filled == "opposite" else v
    value, gradients = value_and_gradients(loss_of(mode, ignore=True), [v.half(), h.half()], target)
    assert -1 <= value <= 1
    for gradient in gradients:
        assert gradient.isfinite().all()
    if truth != "mixed":
        assert value == 0


@modes
def test_nearly_constant_maps_have_no_correlation_of_their_rounding(mode: AttentionMode) -> None:
    target = torch.zeros(1, 1, 64, 64, dtype=torch.long)
    target[..., :20, :20] = 1
    flat = torch.full((1, 1, 64, 64), 0.3) + 1e-7 * torch.randn(
        1, 1, 64, 64, generator=torch.Generator().manual_seed(0)
    )
    value, gradients = value_and_gradients(loss_of(mode), [flat, flat], target)
    assert abs(value) < 1e-2
    assert all(gradient.norm() < 1e3 for gradient in gradients)


@modes
@kinds
def test_float32_under_autocast(mode: AttentionMode, channels: int, regions: bool) -> None:
    _, target = example(channels, (8, 12), regions=regions, ignore=True)
    tail, loss = [a.bfloat16() for a in maps((4, 3))], loss_of(mode, regions=regions, ignore=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(tail, target)
    assert value.dtype is torch.float32
    assert torch.equal(value, loss([a.float() for a in tail], target))


@modes
def test_runs_on_the_meta_device(mode: AttentionMode) -> None:
    _, target = example(3, (8, 12), regions=False, ignore=True)
    value = loss_of(mode, ignore=True)([a.half().to("meta") for a in maps((4, 3))], target.to("meta"))
    assert (value.shape, value.dtype) == ((), torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@modes
@kinds
@ignoring
def test_gpu_equals_cpu(mode: AttentionMode, channels: int, regions: bool, ignore: bool) -> None:
    _, target = example(channels, (16, 16, 24), regions=regions, ignore=ignore)
    loss, tail = loss_of(mode, regions=regions, ignore=ignore), maps((4, 4, 6))
    value, gradients = value_and_gradients(loss, tail, target)
    with torch.autocast("cuda"):
        gpu_value, gpu_gradients = value_and_gradients(loss, [a.cuda() for a in tail], target.cuda())
    torch.testing.assert_close(gpu_value.cpu(), value, rtol=1e-4, atol=1e-6)
    for a, b in zip(gpu_gradients, gradients, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-3, atol=1e-6)


# Equations 2 to 4


def segmentation_reference(
    logits: NDArray[np.float64], target: NDArray[np.float64], *, regions: bool, ignore: bool, batch_dice: bool
) -> float:
    """0.4 of Eq. 3 and 0.1 of Eq. 4, voxel by voxel, class by class."""
    batch, channels, *spatial = logits.shape
    foreground = range(channels) if regions else range(1, channels)
    entropy: list[float] = []
    sums = {(b, c): [0.0, 0.0, 0.0] for b in range(batch) for c in foreground}  # of p g, of p, of g
    for b, *v in product(range(batch), *map(range, spatial)):
        z, t = logits[(b, slice(None), *v)], target[(b, slice(None), *v)]
        if ignore and (t[-1] if regions else t[0] == IGNORE):
            continue
        p = 1 / (1 + np.exp(-z)) if regions else np.exp(z) / np.exp(z).sum()
        g = [t[c] if regions else float(t[0] == c) for c in range(channels)]
        if regions:
            entropy += [-(y * math.log(q) + (1 - y) * math.log(1 - q)) for q, y in zip(p, g, strict=False)]
        else:
            entropy.append(-sum(y * math.log(q) for q, y in zip(p, g, strict=True)))
        for c in foreground:
            sums[b, c] = [s + x for s, x in zip(sums[b, c], [p[c] * g[c], p[c], g[c]], strict=True)]
    if batch_dice:
        sums = {(0, c): [sum(s) for s in zip(*(sums[b, c] for b in range(batch)), strict=True)] for c in foreground}
    dice = [1 - (2 * both + 1) / (p + g + 1) for both, p, g in sums.values()]
    return 0.4 * float(np.mean(entropy)) + 0.1 * float(np.mean(dice))


@kinds
@ignoring
@pytest.mark.parametrize("batch_dice", [False, True], ids=["sample Dice", "batch Dice"])
def test_segmentation_equals_the_equations(channels: int, regions: bool, ignore: bool, batch_dice: bool) -> None:
    logits, target = example(channels, (5, 6), regions=regions, ignore=ignore)
    loss = CrosslinkLoss(regions=regions, ignore_label=IGNORE if ignore else None, batch_dice=batch_dice)
    expected = segmentation_reference(
        logits.double().numpy(), target.double().numpy(), regions=regions, ignore=ignore, batch_dice=batch_dice
    )
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


@modes
def test_the_whole_is_equation_2(mode: AttentionMode) -> None:
    logits, target = example(3, (8, 12), regions=False, ignore=True)
    tail = maps((4, 3))
    segmentation, attention = CrosslinkLoss(ignore_label=IGNORE), loss_of(mode, ignore=True)
    whole = AuxiliaryLoss(segmentation, attention, weight=0.5, n_branches=1)
    expected = segmentation(logits, target) + 0.5 * attention(tail, target)
    assert torch.equal(whole([logits, *tail], target), expected)
    assert torch.equal(whole(logits, target), segmentation(logits, target))

"""Focal loss and cross-entropy against their equations, and the loss of outputs at the tail."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from examples import IGNORE, example, ignoring, kinds
from torch import Tensor, nn

from nnunet_archs.losses import AuxiliaryLoss, CrossEntropyLoss, DeepSupervisionLoss, FocalLoss


def focal_by_voxel(logits: Tensor, target: Tensor, *, regions: bool, ignore: bool, alpha: float, gamma: float) -> float:
    """Mean of -alpha_t (1 - p_t)^gamma log p_t, voxel by voxel and answer by answer, in float64."""
    terms = []
    z, t = logits.double(), target.long()
    for b, *v in product(*(range(n) for n in (len(z), *z.shape[2:]))):
        at = (b, slice(None), *v)
        if ignore and (t[at][-1] if regions else t[at][0] == IGNORE):
            continue
        if regions:
            answers = [
                (1 / (1 + math.exp(-x if y else x)), y)
                for x, y in zip(z[at].tolist(), t[at][: z.shape[1]].tolist(), strict=True)
            ]
        else:
            label = int(t[at][0])
            answers = [(math.exp(z[at][label]) / sum(math.exp(x) for x in z[at].tolist()), label > 0)]
        terms += [-(alpha if y else 1 - alpha) * (1 - p) ** gamma * math.log(p) for p, y in answers]
    return sum(terms) / len(terms)


@kinds
@ignoring
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2), (0.5, 1), (0.5, 2)])
def test_focal_loss_equals_its_equation(channels: int, regions: bool, ignore: bool, alpha: float, gamma: float) -> None:
    logits, target = example(channels, (4, 5), regions=regions, ignore=ignore)
    loss = FocalLoss(alpha=alpha, gamma=gamma, regions=regions, ignore_label=IGNORE if ignore else None)
    expected = focal_by_voxel(logits, target, regions=regions, ignore=ignore, alpha=alpha, gamma=gamma)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


@kinds
@ignoring
def test_cross_entropy_equals_its_equation(channels: int, regions: bool, ignore: bool) -> None:
    logits, target = example(channels, (4, 5), regions=regions, ignore=ignore)
    loss = CrossEntropyLoss(regions=regions, ignore_label=IGNORE if ignore else None)
    # alpha = 1/2 and gamma = 0 leave half of it
    expected = 2 * focal_by_voxel(logits, target, regions=regions, ignore=ignore, alpha=0.5, gamma=0)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


class Sum(nn.Module):
    def forward(self, tail: list[Tensor], target: Tensor) -> Tensor:
        return torch.stack([x.sum() for x in tail]).sum() + target.sum()


def test_tail_goes_to_the_auxiliary_loss() -> None:
    logits, target = example(3, (4, 4), regions=False, ignore=False)
    tail = [torch.ones(2), 2 * torch.ones(3)]
    segmentation = CrossEntropyLoss()
    loss = AuxiliaryLoss(segmentation, Sum(), weight=0.5, n_branches=1)
    expected = segmentation(logits, target) + 0.5 * (8 + target.sum())
    torch.testing.assert_close(loss([logits, *tail], target), expected)
    # in evaluation there is none
    assert torch.equal(loss(logits, target), segmentation(logits, target))


def test_tail_beside_deep_supervision() -> None:
    logits, target = example(3, (4, 4), regions=False, ignore=False)
    supervised = DeepSupervisionLoss(CrossEntropyLoss(), [0, 1], [0.75, 0.25])
    branches, targets = [logits, logits[..., ::2, ::2]], [target, target[..., ::2, ::2]]
    loss = AuxiliaryLoss(supervised, Sum(), weight=2, n_branches=2)
    expected = supervised(branches, targets) + 2 * (3 + target.sum())
    torch.testing.assert_close(loss([*branches, torch.ones(3)], targets), expected)
    assert torch.equal(loss(branches, targets), supervised(branches, targets))

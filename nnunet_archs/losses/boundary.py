"""The loss of Inf-Net (arXiv:2004.14133, section III.C): pixels near a boundary weigh more, and edges are learnt.

    L_seg = weighted IoU + weighted cross-entropy, of pixels that weigh 1 + 5 |m - y|

of every map, where y is the mask and m its mean over the 31 x 31 pixels around. L_edge is a cross-entropy of edges.

Where this departs from the paper or settles what it leaves open:

- More classes than one are one against the rest each, and averaged.
- m is the mean of what the window has of valid pixels: beyond the image, the authors' code counts zeros, which would
  make an edge of the border of every patch.
- 1 is added above and below the fraction of IoU, as in the authors' code. It is taken over sample or batch as nnU-Net's
  plans say for Dice; theirs is of a sample.
- The authors prepare images of edges. Here a pixel is an edge where the 3 x 3 pixels around it are not all of one
  kind, foreground of any class or background; where one of them is under the ignore label, it is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from nnunetv2.utilities.ddp_allgather import AllGatherGrad
from torch import Tensor, nn

from .base import SegmentationLoss, no_autocast
from .target import Comparison, foreground_and_valid

WINDOW, NEAR = 31, 5.0
LARGEST: dict[int, Callable[..., Tensor]] = {4: F.max_pool2d, 5: F.max_pool3d}


class BoundaryWeightedLoss(SegmentationLoss):
    """Inf-Net's L_seg of logits `(B, C, *spatial)`."""

    def compute(self, batch: Comparison) -> Tensor:
        """Return the sum of both terms of one batch, mean over classes and samples."""
        truth, logits = batch.foreground, batch.foreground_logit
        weight = boundary_weight(truth, batch.valid)
        axes = tuple(range(2, truth.ndim))
        cross_entropy = F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="none")
        # every valid pixel weighs 1 at least
        mean = (weight * cross_entropy).sum(axes) / weight.sum(axes).clamp(min=1)
        return mean.mean() + self.iou(batch.foreground_probability, truth, weight).mean()

    def iou(self, p: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        """1 - (I + 1) / (U + 1) of each class and sample, or of each class with batch Dice."""
        axes = tuple(range(2, p.ndim))
        # U is I and what differs: no difference of two numbers near 1
        sums = torch.stack([(weight * p * truth).sum(axes), (weight * torch.where(truth, 1 - p, p)).sum(axes)])
        if self.batch_dice:
            sums = sums.sum(1)
            sums = AllGatherGrad.apply(sums).sum(0) if self.ddp else sums
        intersection, differing = sums
        return differing / (intersection + differing + 1)


def boundary_weight(truth: Tensor, valid: Tensor | None) -> Tensor:
    """1 + 5 |m - y| of valid pixels, and 0 of others, for masks y `(B, F, *spatial)`."""
    y = truth.float()
    counted = torch.ones_like(y[:, :1]) if valid is None else valid.float()
    share = mean_around(counted)
    m = mean_around(y) / share.clamp(min=torch.finfo(share.dtype).tiny)
    return counted * (1 + NEAR * (m - y).abs())


def mean_around(x: Tensor) -> Tensor:
    """Mean over the window, zeros beyond the border, of `(B, C, *spatial)`: of one axis after the other."""
    for axis in range(2, x.ndim):
        lines = x.movedim(axis, -1)
        means = F.avg_pool1d(lines.reshape(-1, 1, lines.shape[-1]), WINDOW, stride=1, padding=WINDOW // 2)
        x = means.view(lines.shape).movedim(-1, axis)
    return x


class EdgeLoss(nn.Module):
    """Inf-Net's L_edge: cross-entropy of the edges' logits `(B, 1, *spatial)`, all that the tail has.

    `regions` and `ignore_label` as in `SegmentationLoss`.
    """

    def __init__(self, *, regions: bool = False, ignore_label: int | None = None) -> None:
        super().__init__()
        self.regions = regions
        self.ignore_label = ignore_label

    def forward(self, tail: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the loss against the edges of nnU-Net's target `(B, 1 | R | R + 1, *spatial)`."""
        (logits,) = tail
        with no_autocast(logits.device.type):
            edges, valid = edges_of(target, regions=self.regions, ignore_label=self.ignore_label)
            values = F.binary_cross_entropy_with_logits(logits.float(), edges.float(), reduction="none")
            return values.masked_fill(~valid, 0).sum() / valid.sum().clamp(min=1)


def edges_of(target: Tensor, *, regions: bool, ignore_label: int | None) -> tuple[Tensor, Tensor]:
    """Edges, and the pixels where it is known whether there is one, both `(B, 1, *spatial)`, bool."""
    foreground, valid = foreground_and_valid(target, regions=regions, ignore_label=ignore_label)
    edges = anywhere(foreground) & anywhere(~foreground)
    return edges, torch.ones_like(edges) if valid is None else ~anywhere(~valid)


def anywhere(mask: Tensor) -> Tensor:
    """Whether there is a pixel of a mask `(B, 1, *spatial)` among a pixel and its neighbours."""
    return LARGEST[mask.ndim](mask.float(), 3, stride=1, padding=1) > 0

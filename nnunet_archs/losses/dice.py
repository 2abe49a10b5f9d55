"""Soft Dice loss, with 1 added above and below its fraction, and the counts that such overlaps are made of."""

from __future__ import annotations

import torch
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.ddp_allgather import AllGatherGrad
from torch import Tensor

from .target import Comparison


def soft_dice(batch: Comparison, *, batch_dice: bool = False, ddp: bool = False) -> Tensor:
    """1 - (2 sum(y p) + 1) / (sum y + sum p + 1), `(B, C, *spatial)` to a scalar: mean over classes and samples.

    With `batch_dice` the sums are over the whole batch, with `ddp` over those of all processes.
    """
    overlap = MemoryEfficientSoftDiceLoss(batch_dice=batch_dice, smooth=1.0, ddp=ddp)
    return 1 + overlap(batch.foreground_probability, batch.foreground, loss_mask=batch.valid)


def soft_counts(batch: Comparison, *, batch_dice: bool, ddp: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over valid voxels of p in the truth, p outside, and 1 - p in the truth: `(B, F)` each.

    With `batch_dice` over the whole batch, `(F,)` each, with `ddp` over those of all processes.
    """
    p, truth = batch.foreground_probability, batch.foreground
    outside = ~truth if batch.valid is None else ~truth & batch.valid
    axes = tuple(range(2, p.ndim))
    counts = torch.stack([(p * truth).sum(axes), (p * outside).sum(axes), ((1 - p) * truth).sum(axes)])
    if batch_dice:
        counts = counts.sum(1)
        counts = AllGatherGrad.apply(counts).sum(0) if ddp else counts
    hit, wrong, missed = counts
    return hit, wrong, missed

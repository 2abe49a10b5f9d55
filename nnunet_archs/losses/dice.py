"""Soft Dice loss, with 1 added above and below its fraction."""

from __future__ import annotations

from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor

from .target import Comparison


def soft_dice(batch: Comparison, *, batch_dice: bool = False, ddp: bool = False) -> Tensor:
    """1 - (2 sum(y p) + 1) / (sum y + sum p + 1), `(B, C, *spatial)` to a scalar: mean over classes and samples.

    With `batch_dice` the sums are over the whole batch, with `ddp` over those of all processes.
    """
    overlap = MemoryEfficientSoftDiceLoss(batch_dice=batch_dice, smooth=1.0, ddp=ddp)
    return 1 + overlap(batch.foreground_probability, batch.foreground, loss_mask=batch.valid)

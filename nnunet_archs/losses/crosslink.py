"""The segmentation loss of Crosslink-Net (section III.B, Eqs. 2 to 4), its attention loss apart (`attention.py`).

The weights are 0.4, 0.1 and 0.5, the best of Table II; with the attention loss, Eq. 2 is

    0.4 cross-entropy + 0.1 Dice + 0.5 attention

Eq. 4 prints its smooth factor below the fraction alone, without a value: there an absent class would cost 1 whatever
is predicted. It is 1, as in the authors' code, and is added above the fraction too. That code has other weights, and
a Dice and an attention term that give no gradient; the paper is followed.
"""

from __future__ import annotations

from torch import Tensor

from .base import SegmentationLoss
from .dice import soft_dice
from .target import Comparison

CROSS_ENTROPY, DICE, ATTENTION = 0.4, 0.1, 0.5


class CrosslinkLoss(SegmentationLoss):
    """0.4 cross-entropy + 0.1 Dice of logits `(B, C, *spatial)` (Eqs. 3 and 4; Table II)."""

    def compute(self, batch: Comparison) -> Tensor:
        """Return the first two terms of Eq. 2 of one batch."""
        cross_entropy = batch.mean(-batch.true_log_probability)
        return CROSS_ENTROPY * cross_entropy + DICE * soft_dice(batch, batch_dice=self.batch_dice, ddp=self.ddp)

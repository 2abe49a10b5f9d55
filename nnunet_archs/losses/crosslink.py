"""The segmentation loss of Crosslink-Net (section III.B, Eqs. 2 to 4), its attention loss apart (`attention.py`).

The weights are 0.4, 0.1 and 0.5, the best of Table II, where nothing else is said; with the attention loss, Eq. 2 is

    0.4 cross-entropy + 0.1 Dice + 0.5 attention

Eq. 4 prints its smooth factor below the fraction alone, without a value: there an absent class would cost 1 whatever
is predicted. It is 1 here, and is added above the fraction too. The authors' code has 2 (I + 1) / (P + G + 1), which
exceeds 1 for a perfect mask, of a prediction thresholded at 0.4. It also has other weights, and neither its Dice nor
its attention term gives a gradient; the paper is followed.
"""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from .base import LabelKwargs, SegmentationLoss
from .dice import soft_dice
from .target import Comparison


class CrosslinkLoss(SegmentationLoss):
    """Cross-entropy and Dice of logits `(B, C, *spatial)` (Eqs. 3 and 4), with the weights of Table II."""

    def __init__(self, *, cross_entropy: float = 0.4, dice: float = 0.1, **labels: Unpack[LabelKwargs]) -> None:
        super().__init__(**labels)
        self.cross_entropy = cross_entropy
        self.dice = dice

    def compute(self, batch: Comparison) -> Tensor:
        """Return the first two terms of Eq. 2 of one batch."""
        cross_entropy = batch.mean(-batch.true_log_probability)
        dice = soft_dice(batch, batch_dice=self.batch_dice, ddp=self.ddp)
        return self.cross_entropy * cross_entropy + self.dice * dice

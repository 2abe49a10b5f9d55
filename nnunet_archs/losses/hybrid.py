"""The segmentation loss of UNet# (arXiv:2205.11759, section 2.2, Eqs. 2 to 6).

Where the paper is at odds with itself:

- Eq. 2 is used. Eq. 6 repeats it with a minus sign before the sum, which would reward errors: a misprint.
- Eq. 3 prints one alpha, which "can control the shared weight of positive and negative samples": as in the
  focal loss it cites, background is weighed by 1 - alpha. alpha = 0.25 and exponent 2 (here gamma) are kept.
- Eq. 4 is a soft Dice loss "after Laplace smoothing": that is add-one, above and below the fraction.
- Eq. 5 as printed is a plain hinge. The text, its citation and its name say Lovász hinge, which is used, on
  logits.

The paper segments one class. More classes are one against the rest each, and averaged.
"""

from __future__ import annotations

from torch import Tensor

from .base import SegmentationLoss
from .dice import soft_dice
from .focal import focal
from .lovasz import lovasz_hinge
from .target import Comparison


class HybridLoss(SegmentationLoss):
    """UNet#'s 0.5 focal + Dice + 0.5 Lovász hinge of logits `(B, C, *spatial)` (arXiv:2205.11759, Eq. 2)."""

    def compute(self, batch: Comparison) -> Tensor:
        """Return Eq. 2 of one batch."""
        return 0.5 * focal(batch) + self.dice(batch) + 0.5 * lovasz_hinge(batch)

    def dice(self, batch: Comparison) -> Tensor:
        """Return Eq. 4, 1 - (2 sum(y p) + 1) / (sum y + sum p + 1), mean over classes and samples."""
        return soft_dice(batch, batch_dice=self.batch_dice, ddp=self.ddp)

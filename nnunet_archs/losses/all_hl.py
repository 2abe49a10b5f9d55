"""ALL-HL, the adaptive logarithmic hybrid loss of FocusNet++ (ISBI 2021, section 2.2, Eqs. 1 and 2).

The adaptive logarithm is of Kaul et al., "Penalizing small errors using an adaptive logarithmic loss",
arXiv:1910.09717. Where the paper is at odds with itself or silent:

- C_b is printed without a minus sign. As it stands it is negative, and the |HL| of Eq. 2 would set it off
  against the Tversky loss: a misprint.
- The Tversky loss is summed over classes. Their mean is taken, equal for the paper's one class: a sum over
  many would hardly ever come below gamma, where Eq. 2 begins to act.
- The Tversky index has 1 added above and below its fraction, as in the authors' code: an empty class would divide
  by 0. It is taken over sample or batch as nnU-Net's plans say for Dice. Background has none.
- More classes than two: C_b is a cross-entropy whose voxels weigh Omega in foreground and 1 - Omega in
  background, divided by the number of voxels, not by the sum of weights. At two it is the printed one.
- Eq. 2 acts on the loss of a batch, at each output of deep supervision by itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import SegmentationLoss
from .dice import soft_counts
from .target import Comparison


class AdaptiveLogHybridLoss(SegmentationLoss):
    """FocusNet++'s ALL-HL of logits `(B, C, *spatial)` (Eq. 2 of the 0.5 C_b + 0.5 TL of Eq. 1)."""

    def compute(self, batch: Comparison) -> Tensor:
        """Return Eq. 2 of one batch."""
        return adaptive_log(0.5 * balanced_cross_entropy(batch) + 0.5 * self.tversky(batch))

    def tversky(self, batch: Comparison, *, alpha: float = 0.3, beta: float = 0.7) -> Tensor:
        """Return 1 - (TP + 1) / (TP + alpha FP + beta FN + 1), mean over classes and samples.

        TP = |G and P|, FP = |P without G|, FN = |G without P|.
        """
        hit, wrong, missed = soft_counts(batch, batch_dice=self.batch_dice, ddp=self.ddp)
        errors = alpha * wrong + beta * missed
        # the same as 1 - (hit + 1) / (hit + errors + 1), without the difference of two numbers near 1
        return (errors / (hit + errors + 1)).mean()


def balanced_cross_entropy(batch: Comparison, *, omega: float = 0.7) -> Tensor:
    """Mean over valid voxels of -w log(p_t), w = `omega` in foreground and 1 - `omega` in background (C_b)."""
    weight = torch.where(batch.is_foreground, omega, 1 - omega)
    return batch.mean(-weight * batch.true_log_probability)


def adaptive_log(loss: Tensor, *, gamma: float = 0.1, omega: float = 10.0, epsilon: float = 0.5) -> Tensor:
    """Eq. 2 of a loss >= 0: omega ln(1 + loss / epsilon) below `gamma`, from there on the loss, moved up to meet it."""
    offset = gamma - omega * math.log1p(gamma / epsilon)
    return torch.where(loss < gamma, omega * (loss / epsilon).log1p(), loss - offset)

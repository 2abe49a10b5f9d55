"""The loss of MSS U-Net: an exponential logarithmic Dice, and a weighted cross-entropy.

Zhao, Jiang, Peña Queralta, Westerlund: "MSS U-Net: 3D segmentation of kidneys and tumors from CT images with a
multi-scale supervised U-Net", Informatics in Medicine Unlocked 19, 2020, arXiv:2004.08108. The exponential logarithm is
of Wong et al., arXiv:1809.00076.

    0.4 (-ln Dice_1)^0.3 + 0.6 (-ln Dice_2)^0.3 + CE, whose voxels weigh 0.28, 0.28 or 0.44 by their true class

Where this departs from the paper or settles what it leaves open:

- These weights are of kidney and tumour, classes 1 and 2. Where there are two foreground classes or regions, they are
  used in this order; any other number weighs the same each.
- The slope of x^0.3 has no bound at 0, where a class that is found perfectly stands: the gradient would be infinite
  there. (x + e)^0.3 - e^0.3 is taken, e = 1e-4, which is 0 at 0 too.
- 1 is added above and below the fraction of Dice, and the cross-entropy is divided by the sum of its weights, as in the
  authors' code. Dice is taken over sample or batch as nnU-Net's plans say; theirs is over the batch.
- Regions are binary each: a voxel inside weighs as the region's class would, one outside as background.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .base import SegmentationLoss
from .dice import soft_counts
from .target import Comparison

EXPONENT, EPSILON = 0.3, 1e-4
# of two foreground classes: of their Dice, and of background's and their cross-entropy
DICE_WEIGHTS = (0.4, 0.6)
CROSS_ENTROPY_WEIGHTS = (0.28, 0.28, 0.44)


class ExponentialLogLoss(SegmentationLoss):
    """MSS U-Net's loss of logits `(B, C, *spatial)`."""

    def compute(self, batch: Comparison) -> Tensor:
        """Return the sum of both terms of one batch."""
        return self.dice(batch) + weighted_cross_entropy(batch)

    def dice(self, batch: Comparison) -> Tensor:
        """Return the sum over classes of w (-ln Dice)^0.3, mean over samples."""
        hit, wrong, missed = soft_counts(batch, batch_dice=self.batch_dice, ddp=self.ddp)
        errors = wrong + missed
        # -ln of (2 hit + 1) / (2 hit + errors + 1), without the difference of two numbers near 1
        x = (errors / (2 * hit + 1)).log1p()
        weights = class_weights(DICE_WEIGHTS, x.shape[-1], x)
        # the same as (x + e)^0.3 - e^0.3, and exactly 0 at 0
        powers = EPSILON**EXPONENT * (EXPONENT * (x / EPSILON).log1p()).expm1()
        return (powers * weights / weights.sum()).sum(-1).mean()


def weighted_cross_entropy(batch: Comparison) -> Tensor:
    """Sum over valid voxels of -w log(p_t), divided by that of w, the weight of the true class; 0 without any."""
    truth = batch.truth
    n_foreground = truth.shape[1] if batch.regions else truth.shape[1] - 1
    each = class_weights(CROSS_ENTROPY_WEIGHTS, n_foreground + 1, batch.logits)
    by_channel = each.view(1, -1, *[1] * (truth.ndim - 2))
    if batch.regions:
        weight = torch.where(truth, by_channel[:, 1:], by_channel[:, :1])
    else:
        weight = (truth * by_channel).sum(1, keepdim=True)
    loss = batch.mean(-weight * batch.true_log_probability)
    return loss / batch.mean(weight).clamp(min=min(CROSS_ENTROPY_WEIGHTS))


def class_weights(weights: tuple[float, ...], n: int, like: Tensor) -> Tensor:
    """The paper's weights, or as many as there are classes, all 1; on the device of `like`."""
    return like.new_tensor(weights if n == len(weights) else [1.0] * n)

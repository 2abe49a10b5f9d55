"""Focal loss, after Lin et al., "Focal Loss for Dense Object Detection", arXiv:1708.02002, Eq. 5."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from .base import LabelKwargs, SegmentationLoss
from .target import Comparison


def focal(batch: Comparison, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Mean over valid voxels of -alpha_t (1 - p_t)^gamma log(p_t), `(B, C, *spatial)` to a scalar.

    alpha_t is `alpha` for foreground and 1 - `alpha` for background. Softmax: p_t of the true class. Regions:
    the binary loss of each channel, then their mean. The two are equal for one foreground class.
    """
    log_p = batch.true_log_probability
    alpha_t = torch.where(batch.is_foreground, alpha, 1 - alpha)
    miss = -log_p.expm1()  # 1 - p_t without cancellation
    return batch.mean(-alpha_t * miss**gamma * log_p)


class FocalLoss(SegmentationLoss):
    """Focal loss alone, of logits `(B, C, *spatial)`; alpha = 0.25 and gamma = 2 are CAggNet's best (Table III)."""

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0, **labels: Unpack[LabelKwargs]) -> None:
        super().__init__(**labels)
        self.alpha = alpha
        self.gamma = gamma

    def compute(self, batch: Comparison) -> Tensor:
        """Return the focal loss of one batch."""
        return focal(batch, alpha=self.alpha, gamma=self.gamma)

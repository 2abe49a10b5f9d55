"""Focal loss, after Lin et al., "Focal Loss for Dense Object Detection", arXiv:1708.02002, Eq. 5."""

from __future__ import annotations

import torch
from torch import Tensor

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

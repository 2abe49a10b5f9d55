"""Cross-entropy, the loss that papers compare theirs with."""

from __future__ import annotations

from torch import Tensor

from .base import SegmentationLoss
from .target import Comparison


class CrossEntropyLoss(SegmentationLoss):
    """Mean over valid voxels of -log(p_t), `(B, C, *spatial)` to a scalar; binary, region by region, with regions."""

    def compute(self, batch: Comparison) -> Tensor:
        """Return the cross-entropy of one batch."""
        return batch.mean(-batch.true_log_probability)

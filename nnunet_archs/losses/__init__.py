"""Losses on logits, one module a loss."""

from .base import SegmentationLoss
from .focal import focal
from .hybrid import HybridLoss
from .lovasz import lovasz_hinge
from .supervision import DeepSupervisionLoss
from .target import Comparison, compare

__all__ = [
    "Comparison",
    "DeepSupervisionLoss",
    "HybridLoss",
    "SegmentationLoss",
    "compare",
    "focal",
    "lovasz_hinge",
]

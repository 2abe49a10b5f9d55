"""Losses on logits, one module a loss."""

from .auxiliary import AuxiliaryLoss
from .base import SegmentationLoss
from .cross_entropy import CrossEntropyLoss
from .focal import FocalLoss, focal
from .hybrid import HybridLoss
from .lovasz import lovasz_hinge
from .supervision import DeepSupervisionLoss
from .target import Comparison, compare

__all__ = [
    "AuxiliaryLoss",
    "Comparison",
    "CrossEntropyLoss",
    "DeepSupervisionLoss",
    "FocalLoss",
    "HybridLoss",
    "SegmentationLoss",
    "compare",
    "focal",
    "lovasz_hinge",
]

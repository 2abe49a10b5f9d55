"""Losses on logits, one module a loss."""

from .all_hl import AdaptiveLogHybridLoss
from .attention import AttentionLoss
from .auxiliary import AuxiliaryLoss
from .base import SegmentationLoss
from .boundary import BoundaryWeightedLoss, EdgeLoss
from .cross_entropy import CrossEntropyLoss
from .crosslink import CrosslinkLoss
from .dice import soft_dice
from .exponential_log import ExponentialLogLoss
from .focal import FocalLoss, focal
from .hybrid import HybridLoss
from .lovasz import lovasz_hinge
from .presence import PresenceLoss
from .supervision import DeepSupervisionLoss
from .target import Comparison, compare

__all__ = [
    "AdaptiveLogHybridLoss",
    "AttentionLoss",
    "AuxiliaryLoss",
    "BoundaryWeightedLoss",
    "Comparison",
    "CrossEntropyLoss",
    "CrosslinkLoss",
    "DeepSupervisionLoss",
    "EdgeLoss",
    "ExponentialLogLoss",
    "FocalLoss",
    "HybridLoss",
    "PresenceLoss",
    "SegmentationLoss",
    "compare",
    "focal",
    "lovasz_hinge",
    "soft_dice",
]

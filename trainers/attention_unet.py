"""Attention U-Net in nnU-Net's training, which the paper's own resembles: Dice, deep supervision, a U-Net."""

from __future__ import annotations

from nnunet_archs.networks import AttentionUNet

from .improved_skip import ArchitectureTrainer
from .recipes import FOCUSNET_RECIPE


class AttentionUNetTrainer(ArchitectureTrainer):
    """Attention U-Net, supervised at X[i, L-i], i < L."""

    network_class = AttentionUNet
    recipe = FOCUSNET_RECIPE

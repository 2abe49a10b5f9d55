"""Attention U-Net in nnU-Net's recipe, which the paper's own resembles: Dice, deep supervision, a U-Net."""

from __future__ import annotations

from nnunet_archs.networks import AttentionUNet

from .encoders import EncoderTrainer
from .improved_skip import ArchitectureTrainer


class AttentionUNetTrainer(EncoderTrainer, ArchitectureTrainer):
    """Attention U-Net, supervised at X[i, L-i], i < L."""

    network_class = AttentionUNet

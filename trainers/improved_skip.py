"""The improved-skip U-Net of Di et al. and the classical U-Net, in nnU-Net's training: the paper is about the network.

Its loss, cross-entropy of the output alone, is `_CE`, and its whole training `_recipe`.
"""

from __future__ import annotations

from nnunet_archs.networks import ClassicalUNet, ImprovedSkipConcatUNet, ImprovedSkipUNet

from .base import PaperTrainer
from .recipes import IMPROVED_SKIP_RECIPE


class ArchitectureTrainer(PaperTrainer):
    """A network in nnU-Net's training."""

    objective = "nnunet"


class ImprovedSkipUNetTrainer(ArchitectureTrainer):
    """The improved-skip U-Net "Ours2": skip connections from the first convolution of every stage."""

    network_class = ImprovedSkipUNet
    recipe = IMPROVED_SKIP_RECIPE


class ImprovedSkipConcatUNetTrainer(ArchitectureTrainer):
    """The improved-skip U-Net "Ours1", which also joins both convolutions of the last stage."""

    network_class = ImprovedSkipConcatUNet
    recipe = IMPROVED_SKIP_RECIPE


class ClassicalUNetTrainer(ArchitectureTrainer):
    """U-Net with transposed convolutions, the control of the improved-skip U-Nets."""

    network_class = ClassicalUNet
    recipe = IMPROVED_SKIP_RECIPE

"""The improved-skip U-Net of Di et al. and the classical U-Net, in nnU-Net's recipe: the paper's matter is the network.

Its loss, cross-entropy of the output alone, is `_CE`.
"""

from __future__ import annotations

from nnunet_archs.networks import ClassicalUNet, ImprovedSkipConcatUNet, ImprovedSkipUNet

from .base import PaperTrainer


class ArchitectureTrainer(PaperTrainer):
    """A network in nnU-Net's recipe."""

    recipe = "nnunet"


class ImprovedSkipUNetTrainer(ArchitectureTrainer):
    """The paper's "Ours2": skip connections from the first convolution of every stage."""

    network_class = ImprovedSkipUNet


class ImprovedSkipConcatUNetTrainer(ArchitectureTrainer):
    """The paper's "Ours1": also joins both convolutions of the last stage."""

    network_class = ImprovedSkipConcatUNet


class ClassicalUNetTrainer(ArchitectureTrainer):
    """U-Net with transposed convolutions, which they are measured against."""

    network_class = ClassicalUNet

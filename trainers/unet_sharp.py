"""UNet# (arXiv:2205.11759) and the networks that it is measured against, with its hybrid loss."""

from __future__ import annotations

from nnunet_archs.losses import HybridLoss
from nnunet_archs.networks import (
    CanonicalUNet3Plus,
    CanonicalVNet3Plus,
    UNet,
    UNet3Plus,
    UNetPlusPlus,
    UNetSharp,
    VNet,
    VNet3Plus,
    VNetPlusPlus,
    VNetSharp,
)

from .base import PaperTrainer


class HybridTrainer(PaperTrainer):
    """The paper's loss, the mean over all supervised branches (section 2.2)."""

    paper_loss = HybridLoss


class UNetTrainer(HybridTrainer):
    """U-Net, without deep supervision."""

    network_class = UNet


class UNetPlusPlusTrainer(HybridTrainer):
    """UNet++, supervised at X[0, 1..L]."""

    network_class = UNetPlusPlus


class UNetSharpTrainer(HybridTrainer):
    """UNet#, supervised at X[i, L-i] and X[0, 1..L]."""

    network_class = UNetSharp


class VNetTrainer(HybridTrainer):
    """V-Net's encoder with U-Net's decoder, without deep supervision."""

    network_class = VNet


class VNetPlusPlusTrainer(HybridTrainer):
    """V-Net's encoder with UNet++'s decoder, supervised at X[0, 1..L]."""

    network_class = VNetPlusPlus


class VNetSharpTrainer(HybridTrainer):
    """V-Net's encoder with UNet#'s decoder, supervised at X[i, L-i] and X[0, 1..L]."""

    network_class = VNetSharp


class UNet3PlusTrainer(HybridTrainer):
    """UNet 3+ as Table 1 counts it, supervised at X[i, L-i]."""

    network_class = UNet3Plus


class VNet3PlusTrainer(HybridTrainer):
    """V-Net's encoder with UNet 3+'s decoder, supervised at X[i, L-i]."""

    network_class = VNet3Plus


class CanonicalUNet3PlusTrainer(HybridTrainer):
    """UNet 3+ as its own paper has it, supervised at X[i, L-i]."""

    network_class = CanonicalUNet3Plus


class CanonicalVNet3PlusTrainer(HybridTrainer):
    """V-Net's encoder with the decoder of UNet 3+'s own paper, supervised at X[i, L-i]."""

    network_class = CanonicalVNet3Plus

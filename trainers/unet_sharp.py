"""UNet# (arXiv:2205.11759) and the networks that it is measured against, with its hybrid loss."""

from __future__ import annotations

from nnunet_archs.losses import HybridLoss
from nnunet_archs.networks import UNet, UNetPlusPlus, UNetSharp, VNet, VNetPlusPlus, VNetSharp

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

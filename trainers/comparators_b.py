"""Networks that the papers compare theirs with, in nnU-Net's recipe; those of UNet#'s Table 1 have its loss."""

from __future__ import annotations

from nnunet_archs.networks.wide import WideUNet, WUNet, WVNet

from .improved_skip import ArchitectureTrainer
from .unet_sharp import HybridTrainer


class WideUNetTrainer(ArchitectureTrainer):
    """U-Net with transposed convolutions, of 35 / 32 of the plan's features."""

    network_class = WideUNet


class WUNetTrainer(HybridTrainer):
    """U-Net of 35 / 32 of the plan's features, without deep supervision."""

    network_class = WUNet


class WVNetTrainer(HybridTrainer):
    """V-Net's encoder with U-Net's decoder, of 18 / 16 of the plan's features, without deep supervision."""

    network_class = WVNet

"""Networks, one module a paper, and the parts they share."""

from .contract import SegmentationNetwork
from .topology import Topology
from .unet_sharp import (
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

__all__ = [
    "CanonicalUNet3Plus",
    "CanonicalVNet3Plus",
    "SegmentationNetwork",
    "Topology",
    "UNet",
    "UNet3Plus",
    "UNetPlusPlus",
    "UNetSharp",
    "VNet",
    "VNet3Plus",
    "VNetPlusPlus",
    "VNetSharp",
]

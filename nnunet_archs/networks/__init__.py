"""Networks, one module a paper, and the parts they share."""

from .contract import SegmentationNetwork
from .topology import Topology
from .unet_sharp import UNet, UNetPlusPlus, UNetSharp, VNet, VNetPlusPlus, VNetSharp

__all__ = [
    "SegmentationNetwork",
    "Topology",
    "UNet",
    "UNetPlusPlus",
    "UNetSharp",
    "VNet",
    "VNetPlusPlus",
    "VNetSharp",
]

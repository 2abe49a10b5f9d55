"""Networks, one module a paper, and the parts they share."""

from .caggnet import CAggNet
from .contract import SegmentationNetwork
from .crosslink import CrosslinkNet, Double2SingleNet, HorCrosslink, SquareCrosslink, VerCrosslink
from .focusnet import FocusNetPlusPlus
from .improved_skip import ClassicalUNet, ImprovedSkipConcatUNet, ImprovedSkipUNet
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
    "CAggNet",
    "CanonicalUNet3Plus",
    "CanonicalVNet3Plus",
    "ClassicalUNet",
    "CrosslinkNet",
    "Double2SingleNet",
    "FocusNetPlusPlus",
    "HorCrosslink",
    "ImprovedSkipConcatUNet",
    "ImprovedSkipUNet",
    "SegmentationNetwork",
    "SquareCrosslink",
    "Topology",
    "UNet",
    "UNet3Plus",
    "UNetPlusPlus",
    "UNetSharp",
    "VNet",
    "VNet3Plus",
    "VNetPlusPlus",
    "VNetSharp",
    "VerCrosslink",
]

"""Networks, one module a paper; `parts` is what they share."""

from .attention_unet import AttentionUNet
from .caggnet import CAggNet
from .crosslink import CrosslinkNet, Double2SingleNet, HorCrosslink, SquareCrosslink, VerCrosslink
from .focusnet import FocusNetPlusPlus
from .improved_skip import ClassicalUNet, ImprovedSkipConcatUNet, ImprovedSkipUNet
from .parts.contract import SegmentationNetwork
from .parts.topology import Topology
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
    "AttentionUNet",
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

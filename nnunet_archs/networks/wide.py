"""U-Net and V-Net a little wider, to tell a better architecture from more parameters.

Zongwei Zhou et al.: "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", arXiv:1807.10165, Table 2:
U-Net of 32 to 512 features becomes wide U-Net of 35 to 560. FocusNet++ (Table 1) and UNet# (Table 1) compare with it.

Where this departs from the paper or settles what it leaves open:

- The features of any plan are taken times the paper's ratio, 35 / 32, and rounded; a plan that names one of these
  networks states its features before that.
- V-Net's ratio is 18 / 16: no paper prints the features of WV-Net, but its size in UNet#'s Table 1 asks for them.
- Wide U-Net has transposed convolutions, as in the authors' code; WUNet is upsampled linearly, as UNet#'s other
  networks are.
- Normalisation, activation and dropout are the plan's; the authors' code has no normalisation, ELU, and dropout.
"""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar

from .improved_skip import ClassicalUNet
from .unet_sharp import UNet, VNet

CITATION = 'Zhou et al.: "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", DLMIA 2018'
LINK = "https://arxiv.org/abs/1807.10165"


class WideUNet(ClassicalUNet):
    """Wide U-Net, with transposed convolutions."""

    widening: ClassVar = Fraction(35, 32)
    citation: ClassVar = CITATION
    link: ClassVar = LINK


class WUNet(UNet):
    """Wide U-Net with linear upsampling, as UNet#'s Table 1 counts it."""

    widening: ClassVar = Fraction(35, 32)
    citation: ClassVar = CITATION
    link: ClassVar = LINK


class WVNet(VNet):
    """V-Net's encoder with U-Net's decoder, wider, as UNet#'s Table 1 counts it."""

    widening: ClassVar = Fraction(18, 16)
    citation: ClassVar = CITATION
    link: ClassVar = LINK

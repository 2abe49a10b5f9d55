"""Networks that FocusNet++, UNet# and Crosslink-Net are compared with, in nnU-Net's recipe."""

from __future__ import annotations

from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from typing_extensions import override

from nnunet_archs.networks.bcdu_net import BCDUNet
from nnunet_archs.networks.dense_unet import DenseUNet
from nnunet_archs.networks.focusnet_2019 import FocusNet
from nnunet_archs.networks.ra_unet import RAUNet

from .improved_skip import ArchitectureTrainer
from .options import Option


class BCDUNetTrainer(ArchitectureTrainer):
    """BCDU-Net with three dense blocks, supervised at X[i, L-i], i < L."""

    network_class = BCDUNet
    options = (
        Option(
            spelling="released",
            meaning="as in the authors' code: fewer normalisations, and 2 channels before the output",
            group="form",
            attribute="released",
            value=True,
        ),
    )
    released: ClassVar[bool] = False  # where the name does not say so, a plan may

    @classmethod
    @override
    def architecture_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        return super().architecture_options(configuration) | ({"released": True} if cls.released else {})


class FocusNetTrainer(ArchitectureTrainer):
    """FocusNet, supervised at F and at the decoder's lower stages."""

    network_class = FocusNet


class RAUNetTrainer(ArchitectureTrainer):
    """RA-UNet, supervised at X[i, L-i], i < L."""

    network_class = RAUNet


class DenseUNetTrainer(ArchitectureTrainer):
    """DARTS' DenseUNet of 256 channels, supervised at X[i, L-i], i < L."""

    network_class = DenseUNet

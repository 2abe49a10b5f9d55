"""Networks that the papers compare theirs with, in nnU-Net's recipe."""

from __future__ import annotations

from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from typing_extensions import override

from nnunet_archs.networks.dunet import DUNet
from nnunet_archs.networks.pre_activation_unet import PreActivationUNet
from nnunet_archs.networks.residual_unet import ResidualUNet
from nnunet_archs.networks.spnet import Depth, SPNet
from nnunet_archs.networks.transunet import TransUNet

from .foreign import ForeignTrainer
from .improved_skip import ArchitectureTrainer
from .options import Option
from .peers import HeadlessTrainer


class ResidualUNetTrainer(ArchitectureTrainer):
    """The U-Net of residual blocks that Crosslink-Net is compared with, supervised at X[i, L-i], i < L."""

    network_class = ResidualUNet


class PreActivationUNetTrainer(ArchitectureTrainer):
    """The pre-activation residual U-Net of Isensee and Maier-Hein, supervised at X[i, L-i], i < L."""

    network_class = PreActivationUNet


class DUNetTrainer(ArchitectureTrainer):
    """DUNet, the U-Net with deformable convolutions, 2D, supervised at X[i, L-i], i < L."""

    network_class = DUNet


class TransUNetTrainer(ForeignTrainer):
    """TransUNet, a U-Net on a ResNet and a transformer, 2D, supervised at every block of its decoder."""

    network_class = TransUNet


class SPNetTrainer(HeadlessTrainer):
    """SPNet, a dilated ResNet-50 with strip pooling, 2D."""

    network_class = SPNet
    options: ClassVar[tuple[Option, ...]] = (
        Option(spelling="resnet101", meaning="on resnet101", group="encoder", attribute="depth", value=101),
    )
    depth: ClassVar[Depth] = 50

    @classmethod
    @override
    def architecture_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        return {**super().architecture_options(configuration), "depth": cls.depth}

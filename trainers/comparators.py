"""Networks that the papers compare theirs with, in nnU-Net's recipe; those of UNet#'s Table 1 have its loss."""

from __future__ import annotations

from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from typing_extensions import override

from nnunet_archs.networks.bcdu_net import BCDUNet
from nnunet_archs.networks.dense_unet import DenseUNet
from nnunet_archs.networks.dla import DLA
from nnunet_archs.networks.dunet import DUNet
from nnunet_archs.networks.enet import FEATURES, ENet
from nnunet_archs.networks.fcn import FCN
from nnunet_archs.networks.focusnet_2019 import FocusNet
from nnunet_archs.networks.parts.contract import Supervision
from nnunet_archs.networks.pre_activation_unet import PreActivationUNet
from nnunet_archs.networks.r2unet import R2UNet
from nnunet_archs.networks.ra_unet import RAUNet
from nnunet_archs.networks.residual_unet import ResidualUNet
from nnunet_archs.networks.spnet import Depth, SPNet
from nnunet_archs.networks.transunet import TransUNet
from nnunet_archs.networks.wide import WideUNet, WUNet, WVNet

from .foreign import ForeignTrainer
from .improved_skip import ArchitectureTrainer
from .options import Option
from .peers import HeadlessTrainer
from .recipes import CAGGNET_RECIPE, CROSSLINK_RECIPE, FOCUSNET_RECIPE, IMPROVED_SKIP_RECIPE, UNET_SHARP_RECIPE
from .unet_sharp import HybridTrainer


class WideUNetTrainer(ArchitectureTrainer):
    """U-Net with transposed convolutions, of 35 / 32 of the plan's features."""

    network_class = WideUNet
    recipe = FOCUSNET_RECIPE


class WUNetTrainer(HybridTrainer):
    """U-Net of 35 / 32 of the plan's features, without deep supervision."""

    network_class = WUNet


class WVNetTrainer(HybridTrainer):
    """V-Net's encoder with U-Net's decoder, of 18 / 16 of the plan's features, without deep supervision."""

    network_class = WVNet


class FCNTrainer(ArchitectureTrainer):
    """FCN-8s, supervised at the sums of three, two and one of its scores, at stages 0, 1 and 2."""

    network_class = FCN
    recipe = IMPROVED_SKIP_RECIPE
    options = (
        Option(
            spelling="fc<N>",
            meaning="fully connected layers of N features, in place of 4096 in 2D and 512 in 3D",
            group="fully connected layers",
            attribute="fc",
        ),
        Option(
            spelling="released",
            meaning="the FCN of CAggNet's authors: one score, upsampled by one transposed convolution",
            group="network",
            attribute="released",
            value=True,
        ),
    )
    passed = ("fc", "released")
    # where the name does not say so, a plan may
    fc: ClassVar[int | None] = None
    released: ClassVar[bool] = False


class DLATrainer(ArchitectureTrainer):
    """Deep layer aggregation, supervised at X[i, L-i], i < L."""

    network_class = DLA
    recipe = CAGGNET_RECIPE


class ENetTrainer(ArchitectureTrainer):
    """ENet, with its own features where no plan that names it has others; the output alone is supervised."""

    network_class = ENet
    recipe = UNET_SHARP_RECIPE
    supervision: ClassVar[Supervision | None] = "none"

    @classmethod
    @override
    def missing_in_plans(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        n_stages = len(cls.stage_strides(configuration))
        return {"features_per_stage": [*FEATURES, *[FEATURES[-1]] * n_stages][:n_stages]}


class R2UNetTrainer(ArchitectureTrainer):
    """R2U-Net, supervised at X[i, L-i], i < L."""

    network_class = R2UNet
    recipe = FOCUSNET_RECIPE


class BCDUNetTrainer(ArchitectureTrainer):
    """BCDU-Net with three dense blocks, supervised at X[i, L-i], i < L."""

    network_class = BCDUNet
    recipe = FOCUSNET_RECIPE
    options = (
        Option(
            spelling="released",
            meaning="as in the authors' code: fewer normalisations, and 2 channels before the output",
            group="form",
            attribute="released",
            value=True,
        ),
    )
    passed = ("released",)
    released: ClassVar[bool] = False  # where the name does not say so, a plan may


class FocusNetTrainer(ArchitectureTrainer):
    """FocusNet, supervised at F and at the decoder's lower stages."""

    network_class = FocusNet
    recipe = FOCUSNET_RECIPE


class RAUNetTrainer(ArchitectureTrainer):
    """RA-UNet, supervised at X[i, L-i], i < L."""

    network_class = RAUNet
    recipe = UNET_SHARP_RECIPE


class DenseUNetTrainer(ArchitectureTrainer):
    """DARTS' DenseUNet of 256 channels, supervised at X[i, L-i], i < L."""

    network_class = DenseUNet
    recipe = CROSSLINK_RECIPE


class ResidualUNetTrainer(ArchitectureTrainer):
    """The U-Net of residual blocks that Crosslink-Net is compared with, supervised at X[i, L-i], i < L."""

    network_class = ResidualUNet
    recipe = CROSSLINK_RECIPE


class PreActivationUNetTrainer(ArchitectureTrainer):
    """The pre-activation residual U-Net of Isensee and Maier-Hein, supervised at X[i, L-i], i < L."""

    network_class = PreActivationUNet
    recipe = CROSSLINK_RECIPE


class DUNetTrainer(ArchitectureTrainer):
    """DUNet, the U-Net with deformable convolutions, 2D, supervised at X[i, L-i], i < L."""

    network_class = DUNet
    recipe = UNET_SHARP_RECIPE


class TransUNetTrainer(ForeignTrainer):
    """TransUNet, a U-Net on a ResNet and a transformer, 2D, supervised at every block of its decoder."""

    network_class = TransUNet
    recipe = UNET_SHARP_RECIPE


class SPNetTrainer(HeadlessTrainer):
    """SPNet, a dilated ResNet-50 with strip pooling, 2D."""

    network_class = SPNet
    recipe = CROSSLINK_RECIPE
    options: ClassVar[tuple[Option, ...]] = (
        Option(spelling="resnet101", meaning="on resnet101", group="encoder", attribute="depth", value=101),
    )
    passed = ("depth",)
    depth: ClassVar[Depth] = 50

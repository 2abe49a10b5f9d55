"""Networks of MONAI and segmentation_models_pytorch, with nnU-Net's loss and training: what others would pick."""

from __future__ import annotations

from typing import ClassVar

from nnunet_archs.networks.parts.contract import Supervision
from nnunet_archs.networks.peers import (
    UNETR,
    DeepLabV3Plus,
    Encoder,
    MedNeXt,
    PSPNet,
    SegResNet,
    Size,
    SwinUNETR,
)

from .foreign import ForeignTrainer
from .options import Option
from .recipes import UNET_SHARP_RECIPE


class HeadlessTrainer(ForeignTrainer):
    """A network whose output is all that can be supervised."""

    supervision: ClassVar[Supervision | None] = "none"


class SegResNetTrainer(HeadlessTrainer):
    """MONAI's SegResNet."""

    network_class = SegResNet


class UNETRTrainer(HeadlessTrainer):
    """MONAI's UNETR."""

    network_class = UNETR


class SwinUNETRTrainer(HeadlessTrainer):
    """MONAI's Swin UNETR."""

    network_class = SwinUNETR


class MedNeXtTrainer(ForeignTrainer):
    """MONAI's MedNeXt, kernels of 3, size S where the name says no other; supervised at X[i, L-i], i < L."""

    network_class = MedNeXt
    options: ClassVar[tuple[Option, ...]] = tuple(
        Option(spelling=size, meaning=f"MedNeXt's size {size}", group="size", attribute="size", value=size)
        for size in ("B", "M", "L")
    )
    passed = ("size",)
    size: ClassVar[Size] = "S"


class ResNetTrainer(HeadlessTrainer):
    """A network on a ResNet-101, or on a smaller one that the name says."""

    options: ClassVar[tuple[Option, ...]] = tuple(
        Option(spelling=encoder, meaning=f"on {encoder}", group="encoder", attribute="encoder", value=encoder)
        for encoder in ("resnet18", "resnet34", "resnet50")
    )
    passed = ("encoder",)
    encoder: ClassVar[Encoder] = "resnet101"


class PSPNetTrainer(ResNetTrainer):
    """segmentation_models_pytorch's PSPNet, 2D."""

    network_class = PSPNet
    recipe = UNET_SHARP_RECIPE


class DeepLabV3PlusTrainer(ResNetTrainer):
    """segmentation_models_pytorch's DeepLabV3+, 2D."""

    network_class = DeepLabV3Plus
    recipe = UNET_SHARP_RECIPE

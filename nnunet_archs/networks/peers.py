"""What others pick: networks of MONAI and segmentation_models_pytorch, as their own papers have them.

Their packages are the extra `peers` (`pip install 'nnunet-archs[peers]'`), and are imported when a network is built.
No weights are downloaded: every network begins untrained.

Where a network can be of any width, it has its paper's size where the plan has 32 features at stage 0, as nnU-Net's
plans do, and grows with them. All strides are the network's own, equal along every axis; kernels, normalisation and
activation are its makers', whatever the plan says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .parts.contract import check_choice
from .parts.foreign import WIDTH, ForeignKwargs, ForeignNetwork, imported
from .parts.topology import Axes, Topology

Size = Literal["S", "B", "M", "L"]
# MedNeXt's expansion ratios and blocks, stage by stage down to the bottleneck; the decoder has them in reverse
SIZES: dict[Size, tuple[Sequence[int], Sequence[int]]] = {
    "S": ((2, 2, 2, 2, 2), (2, 2, 2, 2, 2)),
    "B": ((2, 3, 4, 4, 4), (2, 2, 2, 2, 2)),
    "M": ((2, 3, 4, 4, 4), (3, 4, 4, 4, 4)),
    "L": ((3, 4, 8, 8, 8), (3, 4, 8, 8, 8)),
}
Encoder = Literal["resnet18", "resnet34", "resnet50", "resnet101"]

extra = partial(imported, install="pip install 'nnunet-archs[peers]'")


class SegResNet(ForeignNetwork):
    """MONAI's SegResNet: the encoder and decoder of Myronenko, without the autoencoder's branch.

    Blocks (1, 2, 2, 4) and (1, 1, 1), 32 features, GroupNorm of 8 groups, or as many as divide the features.
    """

    citation: ClassVar = 'Myronenko: "3D MRI Brain Tumor Segmentation Using Autoencoder Regularization", BrainLes 2018'
    link: ClassVar = "https://arxiv.org/abs/1810.11654"
    strides: ClassVar = (1, 2, 2, 2)

    @override
    def build(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> nn.Module:
        width = topology.features_per_stage[0]
        net: nn.Module = extra("monai.networks.nets").SegResNet(
            spatial_dims=topology.dim,
            init_filters=width,
            in_channels=input_channels,
            out_channels=num_classes,
            norm=("GROUP", {"num_groups": math.gcd(8, width)}),
            blocks_down=(1, 2, 2, 4),
            blocks_up=(1, 1, 1),
        )
        return net


class UNETR(ForeignNetwork):
    """MONAI's UNETR: a vision transformer of 12 layers and 12 heads on patches of 16 voxels, a convolutional decoder.

    768 hidden features, 3072 between them, 16 at full resolution. It is built for one patch, the plan's.
    """

    citation: ClassVar = (
        'Hatamizadeh, Tang, Nath, Yang, Myronenko, Landman, Roth, Xu: "UNETR: Transformers for 3D Medical Image '
        'Segmentation", WACV 2022'
    )
    link: ClassVar = "https://arxiv.org/abs/2103.10504"
    strides: ClassVar = (1, 2, 2, 2, 2)

    @override
    def build(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> nn.Module:
        width = topology.features_per_stage[0]
        net = extra("monai.networks.nets").UNETR(
            input_channels,
            num_classes,
            patch_size,
            feature_size=max(1, width * 16 // WIDTH),
            hidden_size=width * 768 // WIDTH,
            mlp_dim=width * 3072 // WIDTH,
            num_heads=12,
            spatial_dims=topology.dim,
        )
        for block in net.vit.blocks:
            # parts of MONAI's block that this network does not use
            block.norm_cross_attn = block.cross_attn = nn.Identity()
        return net


class SwinUNETR(ForeignNetwork):
    """MONAI's Swin UNETR: a Swin transformer of windows of 7 and depths (2, 2, 2, 2), under a convolutional decoder.

    48 features, in steps of 12.
    """

    citation: ClassVar = (
        'Hatamizadeh, Nath, Tang, Yang, Roth, Xu: "Swin UNETR: Swin Transformers for Semantic Segmentation of Brain '
        'Tumors in MRI Images", BrainLes 2021'
    )
    link: ClassVar = "https://arxiv.org/abs/2201.01266"
    strides: ClassVar = (1, 2, 2, 2, 2, 2)

    @override
    def build(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> nn.Module:
        with torch.device("cpu"):  # values are read while it is built, which the meta device has not
            net: nn.Module = extra("monai.networks.nets").SwinUNETR(
                input_channels,
                num_classes,
                feature_size=12 * max(1, topology.features_per_stage[0] * 4 // WIDTH),
                spatial_dims=topology.dim,
            )
        return net


class MedNeXt(ForeignNetwork):
    """MONAI's MedNeXt: inverted residual blocks of depthwise kernels of 3, in the paper's size `size`.

    32 features in all sizes, supervised at every stage of the decoder. The head of the deepest stage, which the paper
    has too, is left out, as in nnU-Net's own networks.
    """

    citation: ClassVar = (
        'Roy, Koehler, Ulrich, Baumgartner, Petersen, Isensee, Jaeger, Maier-Hein: "MedNeXt: Transformer-driven '
        'Scaling of ConvNets for Medical Image Segmentation", MICCAI 2023'
    )
    link: ClassVar = "https://arxiv.org/abs/2303.09975"
    strides: ClassVar = (1, 2, 2, 2, 2)
    has_heads: ClassVar = True

    def __init__(
        self, input_channels: int, num_classes: int, *, size: Size = "S", **kwargs: Unpack[ForeignKwargs]
    ) -> None:
        check_choice("size", size, SIZES)
        self.size = size
        super().__init__(input_channels, num_classes, **kwargs)

    @override
    def build(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> nn.Module:
        expansions, blocks = SIZES[self.size]
        net = extra("monai.networks.nets").MedNeXt(
            spatial_dims=topology.dim,
            init_filters=topology.features_per_stage[0],
            in_channels=input_channels,
            out_channels=num_classes,
            encoder_expansion_ratio=expansions[:-1],
            decoder_expansion_ratio=expansions[-2::-1],
            bottleneck_expansion_ratio=expansions[-1],
            kernel_size=3,
            deep_supervision=n_heads > 1,
            use_residual_connection=True,
            blocks_down=blocks[:-1],
            blocks_bottleneck=blocks[-1],
            blocks_up=blocks[-2::-1],
        )
        if n_heads > 1:
            net.out_blocks[0] = nn.Identity()  # the deepest stage's
        return net

    @override
    def train(self, mode: bool = True) -> MedNeXt:
        super().train(mode)
        self.body.training = True  # it decides nothing but whether the lower heads' logits are given
        return self

    @override
    def outputs(self, x: Tensor) -> list[Tensor]:
        return super().outputs(x)[: len(self.branch_stages)]


class ResNetNetwork(ForeignNetwork):
    """A network of segmentation_models_pytorch on an untrained ResNet, 2D, whose width is that of ResNet."""

    dimensions: ClassVar = (2,)
    has_width: ClassVar = False

    def __init__(
        self, input_channels: int, num_classes: int, *, encoder: Encoder = "resnet101", **kwargs: Unpack[ForeignKwargs]
    ) -> None:
        check_choice("encoder", encoder, get_args(Encoder))
        self.encoder = encoder
        super().__init__(input_channels, num_classes, **kwargs)


class PSPNet(ResNetNetwork):
    """segmentation_models_pytorch's PSPNet on a dilated ResNet of output stride 8; 101 layers, as in its paper."""

    citation: ClassVar = 'Zhao, Shi, Qi, Wang, Jia: "Pyramid Scene Parsing Network", CVPR 2017'
    link: ClassVar = "https://arxiv.org/abs/1612.01105"
    strides: ClassVar = (1, 2, 2, 2)

    @override
    def build(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> nn.Module:
        net: nn.Module = extra("segmentation_models_pytorch").PSPNet(
            self.encoder,
            encoder_weights=None,
            encoder_depth=5,
            output_stride=8,
            in_channels=input_channels,
            classes=num_classes,
            upsampling=8,
        )
        return net


class DeepLabV3Plus(ResNetNetwork):
    """segmentation_models_pytorch's DeepLabV3+ on a ResNet of output stride 16, atrous rates 6, 12 and 18.

    101 layers, as in its paper.
    """

    citation: ClassVar = (
        'Chen, Zhu, Papandreou, Schroff, Adam: "Encoder-Decoder with Atrous Separable Convolution for Semantic Image '
        'Segmentation", ECCV 2018'
    )
    link: ClassVar = "https://arxiv.org/abs/1802.02611"
    strides: ClassVar = (1, 2, 2, 2, 2)

    @override
    def build(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> nn.Module:
        net = extra("segmentation_models_pytorch").DeepLabV3Plus(
            self.encoder,
            encoder_weights=None,
            encoder_output_stride=16,
            decoder_atrous_rates=(6, 12, 18),
            in_channels=input_channels,
            classes=num_classes,
        )
        pooling = net.decoder.aspp[0].convs[-1]
        pooling[2] = PooledNorm(pooling[2].num_features)
        return net


class PooledNorm(nn.BatchNorm2d):
    """Batch normalisation of one value a channel and image; of one image, by the running statistics."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Means `(B, C, 1, 1)`, normalised."""
        if input.shape[0] > 1 or not self.training:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

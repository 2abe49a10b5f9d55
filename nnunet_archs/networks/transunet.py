"""TransUNet, a U-Net whose encoder is a ResNet followed by a transformer.

Jieneng Chen et al.: "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", arXiv:2102.04306.

Section 3.2 and Figure 1: a ResNet-50 of weight-standardised convolutions takes the image to a sixteenth of its size,
12 layers of a transformer relate all its positions to each other, and a cascaded upsampler joins the result with the
ResNet's features, scale by scale. It is "R50-ViT-B/16" of the authors' code.

Where this departs from the paper or settles what it leaves open:

- The ResNet and the transformer's layers are timm's; no weights are downloaded. There, unlike in the authors' code, the
  ResNet's pooling and its shortcuts' normalisation are as elsewhere in ResNets, and dropout follows the attention too.
- The paper's widths, 768 in the transformer and 64 to 1024 in the ResNet, are those where the plan has 32 features at
  stage 0, as nnU-Net's plans do. They grow with these; the decoder has 16-64-128-256 then.
- Any patch of multiples of 16, and any number of channels: the authors' code takes squares alone, and repeats a single
  channel to three. There is a learnt embedding for every position of the plan's patch, and the network takes no other.
- Normalisation and activation of the decoder are the plan's; the paper has BatchNorm and ReLU. All kernels are 3.
- Upsampling is bilinear with corners aligned, as in the authors' code.
- nnU-Net's supervision has a head at every block of the decoder; the paper supervises the output alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from timm.layers import GroupNormAct, StdConv2d
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from typing_extensions import override

from .parts.blocks import ConvNormAct, ConvStack
from .parts.foreign import WIDTH, ForeignNetwork
from .parts.fusion import FusionConv
from .parts.heads import Heads
from .parts.separable import upsample
from .parts.topology import Axes, Topology

LAYERS, ATTENTION_HEADS, DROPOUT = 12, 12, 0.1
UNITS = (3, 4, 9)  # of the ResNet
KERNEL = (3, 3)


class TransUNet(ForeignNetwork):
    """TransUNet, 2D, for one size of patch.

    Raises:
        ValueError: for a topology or a patch that it does not take.
    """

    citation: ClassVar = (
        'Chen et al.: "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", 2021'
    )
    link: ClassVar = "https://arxiv.org/abs/2102.04306"
    dimensions: ClassVar = (2,)
    strides: ClassVar = (1, 2, 2, 2, 2)
    has_heads: ClassVar = True

    @override
    def build(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> nn.Module:
        return TransUNetBody(topology, patch_size, input_channels, num_classes, n_heads)

    @override
    def outputs(self, x: Tensor) -> list[Tensor]:
        return self.body(x, len(self.branch_stages) if self.deep_supervision else 1)


class TransUNetBody(nn.Module):
    """The encoder, and a decoder with heads at its `n_heads` finest stages."""

    def __init__(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> None:
        super().__init__()
        factor = topology.features_per_stage[0] / WIDTH
        hidden = ATTENTION_HEADS * max(1, round(64 * factor))
        widths = [max(1, round(width * factor)) for width in (16, 64, 128, 256, 512)]
        self.resnet = HybridResNet(input_channels, factor)
        skips = self.resnet.channels
        self.transformer = Transformer(skips[-1], hidden, [size // 16 for size in patch_size])
        self.middle = ConvNormAct(topology.conv(hidden, widths[-1], KERNEL), widths[-1], topology)
        # none at stage 0: the ResNet begins with stride 2
        firsts = [topology.conv(widths[1], widths[0], KERNEL)] + [
            FusionConv([skips[i - 1], widths[i + 1]], widths[i], KERNEL, topology) for i in range(1, 4)
        ]
        self.stages = nn.ModuleList(ConvStack(firsts[i], widths[i], KERNEL, topology) for i in range(4))
        channels = {f"D_{i}": widths[i] for i in range(n_heads)}
        self.heads = Heads(channels, num_classes, topology, kernels=dict.fromkeys(channels, KERNEL))

    def forward(self, x: Tensor, n_heads: int) -> list[Tensor]:
        """Image `(B, C, H, W)` to logits of the `n_heads` finest stages, the finest first."""
        *skips, y = self.resnet(x)
        decoded = [self.middle(self.transformer(y))]
        for stage, skip in zip(self.stages[:0:-1], reversed(skips), strict=True):
            decoded.insert(0, stage([skip, decoded[0]]))
        decoded.insert(0, self.stages[0](upsample(decoded[0], x.shape[2:], "aligned")))
        return self.heads(decoded[:n_heads])


class HybridResNet(nn.Module):
    """ResNet-50 up to stride 16, of weight-standardised convolutions and group normalisation."""

    def __init__(self, input_channels: int, factor: float) -> None:
        super().__init__()
        net = ResNetV2(
            UNITS,
            num_classes=0,
            in_chans=input_channels,
            global_pool="",
            stem_type="",
            preact=False,
            width_factor=factor,
            conv_layer=StdConv2d,
            norm_layer=group_norm,
        )
        self.stem = nn.Sequential(net.stem.conv, net.stem.norm)
        self.pool = net.stem.pool
        self.stages = net.stages
        self.channels = [info["num_chs"] for info in net.feature_info]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image `(B, C, H, W)` to features at strides 2, 4, 8 and 16."""
        features = [self.stem(x)]
        y = self.pool(features[0])
        for stage in self.stages:
            y = stage(y)
            features.append(y)
        return features


def group_norm(channels: int, **kwargs: Any) -> nn.Module:
    """Group normalisation of 32 groups, or as many as divide the channels."""
    return GroupNormAct(channels, math.gcd(32, channels), **kwargs)


class Transformer(nn.Module):
    """Layers of attention and multilayer perceptron between all positions of a grid (Eqs. 1 to 3)."""

    def __init__(self, in_channels: int, hidden: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(in_channels, hidden, 1)
        self.positions = nn.Parameter(torch.zeros(1, math.prod(grid), hidden))
        self.dropout = nn.Dropout(DROPOUT)
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.layers = nn.Sequential(
            *(Block(hidden, ATTENTION_HEADS, qkv_bias=True, proj_drop=DROPOUT, norm_layer=norm) for _ in range(LAYERS)),
            norm(hidden),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, *grid)` to `(B, hidden, *grid)`."""
        y = self.embedding(x)
        tokens = self.layers(self.dropout(y.flatten(2).transpose(1, 2) + self.positions))
        return tokens.transpose(1, 2).reshape(y.shape)

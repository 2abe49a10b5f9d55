"""SPNet, a dilated ResNet that pools along rows and columns.

Qibin Hou, Li Zhang, Ming-Ming Cheng, Jiashi Feng: "Strip Pooling: Rethinking Spatial Pooling for Scene Parsing", CVPR
2020, arXiv:2003.13328.

Figures 2 to 4: the mean of every row and of every column, each convolved along its strip, makes a gate that weighs the
features inside a residual block; the head has two mixed pooling modules, which add what square grids and strips tell.

Where this departs from the paper or settles what it leaves open:

- The ResNet is timm's, with the deep stem of 64, 64 and 128 channels, at output stride 8, and the last stage's blocks
  dilated by 4, 8 and 16; no weights are downloaded. Its depth is 50 where no other is asked for: Crosslink-Net, which
  compares with it, prints none.
- Gates are in the last block of each of the first three stages and in every block of the fourth.
- There is no auxiliary head.
- 2D only: in 3D a strip might be a line or a slab. Layers are the paper's, whatever the plan says; patches should have
  160 pixels or more along an axis, for the finest grid is of 20 x 20 at a stride of 8.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .parts.blocks import ConvNormAct
from .parts.contract import check_choice
from .parts.foreign import ForeignKwargs, ForeignNetwork, batch_normalised
from .parts.heads import Heads
from .parts.separable import upsample
from .parts.topology import Axes, Topology

Depth = Literal[50, 101]
BLOCKS: dict[Depth, tuple[int, ...]] = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
GRIDS = (20, 12)
ROW, COLUMN, SQUARE = (1, 3), (3, 1), (3, 3)


class SPNet(ForeignNetwork):
    """SPNet on a ResNet of `depth` layers, 2D.

    Raises:
        ValueError: for a depth, a topology or a patch that it does not take.
    """

    citation: ClassVar = (
        'Hou, Zhang, Cheng, Feng: "Strip Pooling: Rethinking Spatial Pooling for Scene Parsing", CVPR 2020'
    )
    link: ClassVar = "https://arxiv.org/abs/2003.13328"
    dimensions: ClassVar = (2,)
    strides: ClassVar = (1, 2, 2, 2)
    smallest: ClassVar = 16  # a strip of one value, of one image, cannot be normalised
    has_width: ClassVar = False

    def __init__(
        self, input_channels: int, num_classes: int, *, depth: Depth = 50, **kwargs: Unpack[ForeignKwargs]
    ) -> None:
        check_choice("depth", depth, get_args(Depth))
        self.depth = depth
        super().__init__(input_channels, num_classes, **kwargs)

    @override
    def build(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> nn.Module:
        layers = batch_normalised(topology)
        return nn.Sequential(gated_resnet(input_channels, layers, self.depth), StripPoolingHead(num_classes, layers))

    @override
    def outputs(self, x: Tensor) -> list[Tensor]:
        return [upsample(self.body(x), x.shape[2:], "aligned")]


def gated_resnet(input_channels: int, layers: Topology, depth: Depth) -> nn.Module:
    """A dilated ResNet with strip gates: image `(B, C, H, W)` to `(B, 2048, H / 8, W / 8)`."""
    net = ResNet(
        Bottleneck,
        BLOCKS[depth],
        num_classes=0,
        in_chans=input_channels,
        output_stride=8,
        global_pool="",
        stem_width=64,
        stem_type="deep",
        zero_init_last=False,
    )
    *earlier, last = [list(stage) for stage in (net.layer1, net.layer2, net.layer3, net.layer4)]
    for block, dilation in zip(last, (4, 8, 16), strict=True):
        block.conv2.dilation = block.conv2.padding = (dilation, dilation)
    for block in (*(stage[-1] for stage in earlier), *last):
        block.act2 = nn.Sequential(block.act2, StripGate(block.conv2.out_channels, layers))
    return net


class StripGate(nn.Module):
    """x times a number between 0 and 1, made of the mean of its row and that of its column (Fig. 2)."""

    def __init__(self, channels: int, layers: Topology) -> None:
        super().__init__()
        self.rows, self.columns = (
            ConvNormAct(layers.conv(channels, channels, kernel), channels, layers, nonlin=nn.Identity())
            for kernel in (COLUMN, ROW)
        )
        self.weigh = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, H, W)`, weighed."""
        return x * self.weigh(self.rows(x.mean(3, keepdim=True)) + self.columns(x.mean(2, keepdim=True)))


class StripPoolingHead(nn.Module):
    """Two mixed pooling modules between convolutions, and one of kernel 1 to logits."""

    def __init__(self, num_classes: int, layers: Topology) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvNormAct(layers.conv(2048, 1024, (1, 1)), 1024, layers),
            MixedPooling(1024, layers),
            MixedPooling(1024, layers),
            ConvNormAct(layers.conv(1024, 512, SQUARE), 512, layers),
            nn.Dropout2d(0.1),
        )
        self.heads = Heads({"score": 512}, num_classes, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, 2048, H, W)` to logits `(B, num_classes, H, W)`."""
        return self.heads([self.convs(x)])[0]


class MixedPooling(nn.Module):
    """relu(x + conv(cat(what square grids tell, what strips tell))), each at a quarter of the channels (Fig. 4)."""

    def __init__(self, channels: int, layers: Topology) -> None:
        super().__init__()
        inner = channels // 4

        def unit(in_channels: int, kernel: Axes, out_channels: int = inner, *, active: bool = False) -> nn.Module:
            conv = layers.conv(in_channels, out_channels, kernel)
            return ConvNormAct(conv, out_channels, layers, nonlin=None if active else nn.Identity())

        self.reduce = nn.ModuleList(unit(channels, (1, 1), active=True) for _ in range(2))
        self.plain = unit(inner, SQUARE)
        self.grids = nn.ModuleList(unit(inner, SQUARE) for _ in GRIDS)
        self.rows, self.columns = unit(inner, COLUMN), unit(inner, ROW)
        self.finish = nn.ModuleList(unit(inner, SQUARE, active=True) for _ in range(2))
        self.join = unit(2 * inner, (1, 1), channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, H, W)` to the same size."""
        size = x.shape[2:]
        squares, strips = (reduce(x) for reduce in self.reduce)
        told = self.plain(squares)
        for grid, conv in zip(GRIDS, self.grids, strict=True):
            told = told + upsample(conv(F.adaptive_avg_pool2d(squares, grid)), size, "aligned")
        along = self.rows(strips.mean(3, keepdim=True)) + self.columns(strips.mean(2, keepdim=True))
        both = [finish(y.relu()) for finish, y in zip(self.finish, (told, along), strict=True)]
        return (x + self.join(torch.cat(both, dim=1))).relu()

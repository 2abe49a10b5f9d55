"""Deep layer aggregation: an encoder of trees of residual blocks, and a decoder that joins neighbours stage by stage.

Fisher Yu, Dequan Wang, Evan Shelhamer, Trevor Darrell: "Deep Layer Aggregation", CVPR 2018, arXiv:1707.06484.

Eqs. 2 and 3, Figure 3: hierarchical aggregation. A tree has two halves, residual blocks or trees themselves; the root
joins what all of them give. Figure 4: iterative aggregation of the stages for dense prediction, X[i, j] from X[i, j-1]
and X[i+1, j-1]. It is UNet++ without its dense links, as CAggNet's Figure 2 draws it.

Where this departs from the paper or settles what it leaves open:

- This is DLA-34: basic residual blocks, two convolutions at stage 0, one at stage 1, then trees of depth 1, 2, ..., 2,
  1, at the plan's stages, features, kernels and strides. The first convolution's kernel of 7 is 1 along an axis where
  the plan's is 1.
- From the second tree on the root also joins the tree's input, pooled, as in the authors' code.
- The authors' output stands at half the resolution and is interpolated. Here the decoder goes up to stage 0.
- A source from below is convolved to the width of the stage (kernel 1), then upsampled by a transposed convolution of
  each channel apart, which begins as linear interpolation; one convolution of the plan's kernel joins it to its left
  neighbour.
- What the authors' code counts and never calls is not there: the classifier, and convolutions beside trees of depth 2.
- Normalisation and activation are the plan's; the paper has BatchNorm and ReLU.
- `supervision="paper"` is the output alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import ClassVar

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp
from torch import Tensor, nn
from typing_extensions import override

from .parts.blocks import ConvNormAct
from .parts.encoders import Encoder, widened
from .parts.fusion import Fusion, FusionConv
from .parts.grid import Node, dla
from .parts.recompute import recomputed
from .parts.topology import Axes, Topology
from .unet_sharp import GridNetwork


class DLAEncoder(Encoder):
    """Two convolutions, one with a stride, then a tree a stage, up to the stage `last`."""

    def __init__(self, input_channels: int, topology: Topology, *, last: int) -> None:
        super().__init__()
        self.widths = widths = topology.features_per_stage
        kernels = topology.kernel_sizes
        stem = topology.conv(input_channels, widths[0], widened(kernels[0], by=4))
        second = topology.conv(widths[0], widths[0], kernels[0])
        down = topology.conv(widths[0], widths[1], kernels[1], stride=topology.strides[1])
        self.stages = nn.ModuleList(
            [
                nn.Sequential(ConvNormAct(stem, widths[0], topology), ConvNormAct(second, widths[0], topology)),
                ConvNormAct(down, widths[1], topology),
                *(TreeStage(i, topology) for i in range(2, last + 1)),
            ][: last + 1]
        )


class DLA(GridNetwork):
    """DLA-34 with its decoder for segmentation.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    encoder_class: ClassVar = DLAEncoder
    wirings: ClassVar = {"equation": dla}
    citation: ClassVar = 'Yu, Wang, Shelhamer, Darrell: "Deep Layer Aggregation", CVPR 2018'
    link: ClassVar = "https://arxiv.org/abs/1707.06484"

    @override
    def make_node(self, node: Node, sources: Sequence[Node], *, fusion: Fusion) -> nn.Module:
        return Aggregation(node[0], self.topology, fusion=fusion)

    @staticmethod
    @override
    def initialize(module: nn.Module) -> None:
        """He initialisation; what upsamples begins as linear interpolation."""
        GridNetwork.initialize(module)
        if isinstance(module, LearnedUpsampling):
            module.interpolate()


class TreeStage(nn.Module):
    """A stage of the encoder: a tree, of depth 2 unless it is the first or the last."""

    def __init__(self, stage: int, topology: Topology) -> None:
        super().__init__()
        in_channels = topology.features_per_stage[stage - 1]
        self.pool = topology.max_pool(stage)
        self.joins_input = stage > 2
        self.tree = Tree(
            in_channels,
            stage,
            topology,
            stride=topology.strides[stage],
            depth=2 if 2 < stage < topology.last else 1,
            passed=[in_channels] if self.joins_input else [],
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, *spatial)` to `(B, width, *spatial / stride)`."""
        pooled = self.pool(x)
        return self.tree(x, pooled, [pooled] if self.joins_input else [])


class Tree(nn.Module):
    """Hierarchical aggregation (Eqs. 2 and 3): the root joins both halves and what is passed down to it."""

    def __init__(
        self, in_channels: int, stage: int, topology: Topology, *, stride: Axes, depth: int, passed: Sequence[int]
    ) -> None:
        super().__init__()
        width, unit = topology.features_per_stage[stage], (1,) * topology.dim
        self.first: nn.Module
        self.second: nn.Module
        self.root: nn.Module | None = None
        if depth > 1:
            self.first = Tree(in_channels, stage, topology, stride=stride, depth=depth - 1, passed=[])
            self.second = Tree(width, stage, topology, stride=unit, depth=depth - 1, passed=[*passed, width])
        else:
            self.first = ResidualBlock(in_channels, stage, topology, stride=stride)
            self.second = ResidualBlock(width, stage, topology, stride=unit)
            self.root = ConvNormAct(FusionConv([width, width, *passed], width, unit, topology), width, topology)

    def forward(self, x: Tensor, shortcut: Tensor, passed: Sequence[Tensor] = ()) -> Tensor:
        """Features `(B, C, *spatial)`, the same pooled, and what is passed down, to `(B, width, *spatial / stride)`."""
        first = self.first(x, shortcut)
        if self.root is None:  # that of the second half joins all
            return self.second(first, first, [*passed, first])
        return self.root([self.second(first, first), first, *passed])


class ResidualBlock(nn.Module):
    """act(conv(conv(x)) + project(shortcut)), the first convolution with a stride."""

    def __init__(self, in_channels: int, stage: int, topology: Topology, *, stride: Axes) -> None:
        super().__init__()
        width, kernel, linear = topology.features_per_stage[stage], topology.kernel_sizes[stage], nn.Identity()
        self.convs = nn.Sequential(
            ConvNormAct(topology.conv(in_channels, width, kernel, stride=stride), width, topology),
            ConvNormAct(topology.conv(width, width, kernel), width, topology, nonlin=linear),
        )
        self.project = linear if in_channels == width else pointwise(in_channels, width, topology, nonlin=linear)
        self.nonlin = topology.activation()
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Features `(B, C, *spatial)` and the same at the block's resolution to `(B, width, *spatial / stride)`."""
        return recomputed(self.block, x, shortcut, when=self.checkpoint)

    def block(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        return self.nonlin(self.convs(x) + self.project(shortcut))


class Aggregation(nn.Module):
    """Iterative aggregation: X[i, j] = conv(cat(X[i, j-1], up(project(X[i+1, j-1]))))."""

    def __init__(self, stage: int, topology: Topology, *, fusion: Fusion) -> None:
        super().__init__()
        width, below = topology.features_per_stage[stage : stage + 2]
        join = FusionConv([width] * 2, width, topology.kernel_sizes[stage], topology, fusion=fusion)
        self.project = pointwise(below, width, topology)
        self.up = LearnedUpsampling(width, topology.strides[stage + 1], topology)
        self.join = ConvNormAct(join, width, topology)
        self.checkpoint = topology.checkpoint

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """Features of this stage and of the one below to `(B, width, *spatial)` at this stage."""
        return recomputed(self.aggregate, *sources, when=self.checkpoint)

    def aggregate(self, left: Tensor, below: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        return self.join([left, self.up(self.project(below))])


class LearnedUpsampling(nn.Module):
    """A transposed convolution of each channel apart, which begins as linear interpolation."""

    def __init__(self, channels: int, stride: Axes, topology: Topology) -> None:
        super().__init__()
        self.stride = stride
        kernel, padding = tuple(2 * s - s % 2 for s in stride), tuple(s // 2 for s in stride)
        transposed = get_matching_convtransp(topology.conv_op)
        self.conv = transposed(channels, channels, kernel, stride, padding, groups=channels, bias=False)
        self.interpolate()

    @torch.no_grad()
    def interpolate(self) -> None:
        """Give it the weights of linear interpolation: along every axis a triangle, 1 in the middle."""
        weight = self.conv.weight
        triangles = [
            1 - (torch.arange(k, device=weight.device) - (k - 1) / 2).abs() / s
            for k, s in zip(weight.shape[2:], self.stride, strict=True)
        ]
        weight.copy_(reduce(lambda product, triangle: product[..., None] * triangle, triangles).expand_as(weight))

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, *spatial)` to `(B, C, *spatial * stride)`."""
        return self.conv(x)


def pointwise(in_channels: int, channels: int, topology: Topology, *, nonlin: nn.Module | None = None) -> ConvNormAct:
    """Convolution of kernel 1, with normalisation and activation."""
    conv = topology.conv(in_channels, channels, (1,) * topology.dim)
    return ConvNormAct(conv, channels, topology, nonlin=nonlin)

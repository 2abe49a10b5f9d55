"""Encoders: the column X[i, 0] of the grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .blocks import ConvNormAct, ConvStack
from .recompute import recomputed
from .topology import Axes, Topology


class Encoder(nn.Module):
    """What gives the column X[i, 0], each node `widths[i]` wide: stage after stage, where it says no other."""

    widths: Sequence[int]
    stages: nn.ModuleList

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image `(B, C, *spatial)` to one feature map a stage, highest resolution first."""
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class ConvEncoder(Encoder):
    """U-Net's encoder: X[i, 0] = f²(P(X[i-1, 0])), P max pooling by the stage's stride.

    It ends at the stage `last`, by default the topology's.
    """

    def __init__(self, input_channels: int, topology: Topology, *, last: int | None = None) -> None:
        super().__init__()
        stages = range(1 + (topology.last if last is None else last))
        self.widths = topology.features_per_stage
        widths = (input_channels, *topology.features_per_stage)
        self.pools = nn.ModuleList(topology.max_pool(i) if i > 0 else nn.Identity() for i in stages)
        self.stages = nn.ModuleList(self.make_stage(widths[i], i, topology) for i in stages)

    def make_stage(self, in_channels: int, stage: int, topology: Topology) -> nn.Module:
        """What follows the pooling into a stage: f²."""
        width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
        return ConvStack(topology.conv(in_channels, width, kernel), width, kernel, topology)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image `(B, C, *spatial)` to one feature map a stage, highest resolution first."""
        features: list[Tensor] = []
        for pool, stage in zip(self.pools, self.stages, strict=True):
            x = stage(pool(x))
            features.append(x)
        return features

    def both(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Image `(B, C, *spatial)` to the results of both convolutions of every stage, highest resolution first."""
        features: list[tuple[Tensor, Tensor]] = []
        for pool, stage in zip(self.pools, self.stages, strict=True):
            features.append(cast(ConvStack, stage).both(pool(x)))
            x = features[-1][1]
        return features


class VNetEncoder(Encoder):
    """V-Net's encoder (Milletari et al. 2016, arXiv:1606.04797, Fig. 2): residual stages of 5³ convolutions, PReLU.

    A plan's kernel of 3 along an axis becomes V-Net's 5; a kernel of 1 stays 1. The stage's stride is taken by a
    convolution of that kernel and stride. Stages hold 1, 2, 3, ..., 3, 2 convolutions after the first. It ends at the
    stage `last`, by default the topology's.
    """

    def __init__(self, input_channels: int, topology: Topology, *, last: int | None = None) -> None:
        super().__init__()
        self.widths = widths = topology.features_per_stage
        counts = [min(i, 3) for i in range(1, topology.last)] + [2]
        self.stem = VNetStem(input_channels, topology)
        self.stages = nn.ModuleList(
            VNetStage(widths[i - 1], topology, i, n_convs=n) for i, n in enumerate(counts[:last], start=1)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image `(B, C, *spatial)` to one feature map a stage, highest resolution first."""
        features = [self.stem(x)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class VNetStem(nn.Module):
    """V-Net's stage 0: PReLU(conv(x) + x), the image's channels repeated to the stage's width."""

    def __init__(self, input_channels: int, topology: Topology) -> None:
        super().__init__()
        width = topology.features_per_stage[0]
        self.repeats = -(-width // input_channels)
        self.width = width
        self.conv = ConvNormAct(
            topology.conv(input_channels, width, widened(topology.kernel_sizes[0])),
            width,
            topology,
            nonlin=nn.Identity(),
        )
        self.nonlin = nn.PReLU(width)
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor) -> Tensor:
        """Image `(B, C, *spatial)` to `(B, width, *spatial)`."""
        return recomputed(self.residual, x, when=self.checkpoint)

    def residual(self, x: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        repeated = torch.cat([x] * self.repeats, dim=1)[:, : self.width]
        return self.nonlin(self.conv(x) + repeated)


class VNetStage(nn.Module):
    """A later stage of V-Net: d = down(x), then PReLU(convs(d) + d)."""

    def __init__(self, in_channels: int, topology: Topology, stage: int, *, n_convs: int) -> None:
        super().__init__()
        width, stride = topology.features_per_stage[stage], topology.strides[stage]
        kernel = widened(topology.kernel_sizes[stage])
        down = topology.conv_op(in_channels, width, stride, stride, bias=topology.conv_bias)
        self.down = ConvNormAct(down, width, topology, nonlin=nn.PReLU(width))
        self.convs = nn.Sequential(
            *(
                ConvNormAct(topology.conv(width, width, kernel), width, topology, nonlin=nn.PReLU(width))
                for _ in range(n_convs)
            )
        )
        self.nonlin = nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, *spatial)` to `(B, width, *spatial / stride)`."""
        d = self.down(x)
        return self.nonlin(self.convs(d) + d)


def widened(kernel: Axes, *, by: int = 2) -> Axes:
    """A larger kernel for a plan's, by default V-Net's: 3 becomes 5, 1 stays 1."""
    return tuple(k + by if k > 1 else k for k in kernel)

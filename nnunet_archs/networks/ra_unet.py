"""RA-UNet: a residual U-Net whose skip connections pass residual attention modules.

Qiangguo Jin, Zhaopeng Meng, Changming Sun, Hui Cui, Ran Su: "RA-UNet: A Hybrid Deep Attention-Aware Network to Extract
Liver and Tumor in CT Scans", Frontiers in Bioengineering and Biotechnology 2020, arXiv:1811.01328.

Every stage but the first is a pre-activated bottleneck block, the last stage two. Below the full resolution a skip
connection passes a module of residual attention (Wang et al. 2017, arXiv:1704.06904): a trunk of two blocks, weighed by
1 + m, where the mask m is what a small U-Net of its own makes of the same features. The cascade of networks around it,
which finds the liver before the tumour, is not part of this one.

Where this departs from the paper or settles what it leaves open:

- As in the authors' code: inside, a block has a quarter of its channels; its shortcut is a convolution of kernel 1
  everywhere; upsampling repeats values; the skip connection of the full resolution has no attention; the output's
  convolution has the stage's kernel.
- The mask branch of stage i pools down to the last stage, with the plan's strides: L - i times, which is 1 to 4 in the
  paper's network of six stages.
- Normalisation and activation are the plan's.
- Supervision: the paper's is of the output alone. nnU-Net's adds X[i, L-i], i < L.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from .parts.blocks import ConvNormAct, NormActConv
from .parts.contract import SegmentationNetwork, Supervision, supervised_stages
from .parts.fusion import Fusion, FusionConv
from .parts.heads import Heads
from .parts.recompute import recomputed
from .parts.separable import upsample
from .parts.topology import Topology, TopologyKwargs


class RAUNet(SegmentationNetwork):
    """RA-UNet, in 2D or 3D.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    citation: ClassVar = (
        'Jin, Meng, Sun, Cui, Su: "RA-UNet: A Hybrid Deep Attention-Aware Network to Extract Liver and Tumor in CT '
        'Scans", Frontiers in Bioengineering and Biotechnology 2020'
    )
    link: ClassVar = "https://arxiv.org/abs/1811.01328"

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        supervision: Supervision = "nnunet",
        fusion: Fusion = "exact",
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        topology = Topology.of(self, topology_kwargs)
        widths, kernels, last = topology.features_per_stage, topology.kernel_sizes, topology.last
        stages = supervised_stages(self, topology, supervision)
        super().__init__(topology, branch_stages=stages, deep_supervision=deep_supervision)
        self.stem = ConvNormAct(topology.conv(input_channels, widths[0], kernels[0]), widths[0], topology)
        self.pools = nn.ModuleList(topology.max_pool(i) for i in range(1, last + 1))
        self.blocks = nn.ModuleList(Bottleneck(widths[i - 1], widths[i], i, topology) for i in range(1, last + 1))
        self.bottom = Bottleneck(widths[last], widths[last], last, topology)
        self.attention = nn.ModuleList(ResidualAttention(i, topology) for i in range(1, last))
        self.decoder_blocks = nn.ModuleList(
            Bottleneck(widths[i + 1] + widths[i], widths[i], i, topology) for i in range(1, last)
        )
        join = FusionConv(widths[:2], widths[0], kernels[0], topology, interpolation="nearest", fusion=fusion)
        self.finest = ConvNormAct(join, widths[0], topology)
        names = {i: f"D_{i}" for i in stages}
        self.heads = Heads(
            {name: widths[i] for i, name in names.items()},
            num_classes,
            topology,
            kernels={name: kernels[i] for i, name in names.items()},
        )

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of the decoder's stages, or of the full resolution alone."""
        features = [self.stem(x)]
        for pool, block in zip(self.pools, self.blocks, strict=True):
            features.append(block(pool(features[-1])))
        finest, *skips, deepest = features
        decoded = [self.bottom(deepest)]
        for attend, block, skip in zip(
            reversed(self.attention), reversed(self.decoder_blocks), reversed(skips), strict=True
        ):
            y = upsample(decoded[0], skip.shape[2:], "nearest")
            decoded.insert(0, block(torch.cat([y, attend(skip)], dim=1)))
        decoded.insert(0, self.finest([finest, decoded[0]]))
        return self.heads(decoded if self.deep_supervision else decoded[:1])


class Bottleneck(nn.Module):
    """conv(x) + convs(x): of three pre-activated convolutions the second has the stage's kernel, all others 1."""

    def __init__(self, in_channels: int, out_channels: int, stage: int, topology: Topology) -> None:
        super().__init__()
        inner, one = max(1, out_channels // 4), (1,) * topology.dim
        self.convs = nn.Sequential(
            NormActConv(in_channels, topology.conv(in_channels, inner, one), topology),
            NormActConv(inner, topology.conv(inner, inner, topology.kernel_sizes[stage]), topology),
            NormActConv(inner, topology.conv(inner, out_channels, one), topology),
        )
        self.shortcut = topology.conv(in_channels, out_channels, one)
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C_in, *spatial)` to `(B, C_out, *spatial)`."""
        return recomputed(self.residual, x, when=self.checkpoint)

    def residual(self, x: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        return self.shortcut(x) + self.convs(x)


class ResidualAttention(nn.Module):
    """block((1 + m(y)) * trunk(y)) of y = block(x)."""

    def __init__(self, stage: int, topology: Topology) -> None:
        super().__init__()
        width = topology.features_per_stage[stage]
        self.enter, self.leave, *trunk = (Bottleneck(width, width, stage, topology) for _ in range(4))
        self.trunk = nn.Sequential(*trunk)
        self.mask = MaskBranch(stage, topology)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, *spatial)`, weighed."""
        y = self.enter(x)
        return self.leave((1 + self.mask(y)) * self.trunk(y))


class MaskBranch(nn.Module):
    """The mask: down to the last stage, a block at each, and up again, what is there added; then a sigmoid."""

    def __init__(self, stage: int, topology: Topology) -> None:
        super().__init__()
        width, below = topology.features_per_stage[stage], range(stage + 1, topology.n_stages)
        self.pools = nn.ModuleList(topology.max_pool(i) for i in below)
        self.down = nn.ModuleList(Bottleneck(width, width, i, topology) for i in below)
        self.skips = nn.ModuleList(Bottleneck(width, width, i, topology) for i in below[:-1])
        self.up = nn.ModuleList(Bottleneck(width, width, i, topology) for i in below)
        self.weigh = nn.Sequential(*(topology.conv(width, width, (1,) * topology.dim) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, *spatial)` to a number between 0 and 1 for each of them."""
        features = [x]
        for pool, block in zip(self.pools, self.down, strict=True):
            features.append(block(pool(features[-1])))
        _, *inner, y = features
        skips = [skip(x) for skip, x in zip(self.skips, inner, strict=True)]
        for block, skip in zip(reversed(self.up), [*reversed(skips), None], strict=True):
            y = upsample(block(y), (x if skip is None else skip).shape[2:], "nearest")
            y = y if skip is None else y + skip
        return self.weigh(y).sigmoid()

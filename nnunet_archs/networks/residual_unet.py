"""The residual U-Net that Crosslink-Net is compared with.

Yu et al.: "Crosslink-Net: Double-branch Encoder Segmentation Network via Fusing Vertical and Horizontal Convolutions",
arXiv:2107.11517, section IV.C.2 and Tables III, V and VI.

U-Net (Ronneberger et al. 2015, arXiv:1505.04597) of five blocks in place of four, "each block composed of three
continuous convolutions and residual connections". No more is printed than that and the storage of 135 MB, and there is
no code.

Where this departs from the paper or settles what it leaves open:

- This is one reading of several that have the size, the most natural: features of 64 to 1024, and the fifth block is
  the bottleneck. Here the stages are the plan's.
- Inside, blocks are as Crosslink-Net's own: the second convolution has half the features in the encoder and all of them
  in the decoder. The residual is the block's input, brought to its width by a normalised convolution of kernel 1.
- The sum is activated, its summands are not, as in ResNet.
- Upsampling is a transposed convolution to the width of the stage above, as in U-Net. It has a bias, because nothing
  normalises it. The other convolutions have one where the plan's have; in the paper's networks they have none.
- Kernels, strides, normalisation and activation are the plan's. The paper has BatchNorm and ReLU.
- `supervision="paper"` is the output alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import override

from .parts.blocks import ConvNormAct, JoinedNode
from .parts.encoders import ConvEncoder
from .parts.fusion import Fusion, FusionConv
from .parts.grid import Node
from .parts.recompute import recomputed
from .parts.topology import Topology
from .unet_sharp import UNet


class ResidualEncoder(ConvEncoder):
    """X[i, 0] = block(P(X[i-1, 0])), P max pooling by the stage's stride."""

    @override
    def make_stage(self, in_channels: int, stage: int, topology: Topology) -> nn.Module:
        inner = max(1, topology.features_per_stage[stage] // 2)
        return ResidualBlock([in_channels], stage, topology, inner=inner)


class ResidualUNet(UNet):
    """U-Net of blocks of three convolutions with a residual.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    encoder_class: ClassVar = ResidualEncoder
    citation: ClassVar = (
        'Yu et al.: "Crosslink-Net: Double-branch Encoder Segmentation Network via Fusing Vertical and Horizontal '
        'Convolutions", IEEE Transactions on Image Processing, 2022'
    )
    link: ClassVar = "https://arxiv.org/abs/2107.11517"

    @override
    def make_node(self, node: Node, sources: Sequence[Node], *, fusion: Fusion) -> nn.Module:
        width, below = (self.width(source) for source in sources)
        up = replace(self.topology, conv_bias=True).transposed_conv(below, width, node[0] + 1)
        return JoinedNode(up, ResidualBlock([width] * 2, node[0], self.topology, inner=width, fusion=fusion))


class ResidualBlock(nn.Module):
    """act(conv(conv(conv(x))) + project(x)), x the concatenation of what it takes."""

    def __init__(
        self, in_channels: Sequence[int], stage: int, topology: Topology, *, inner: int, fusion: Fusion = "exact"
    ) -> None:
        super().__init__()
        width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
        linear = nn.Identity()
        self.first = ConvNormAct(FusionConv(in_channels, width, kernel, topology, fusion=fusion), width, topology)
        self.second = ConvNormAct(topology.conv(width, inner, kernel), inner, topology)
        self.third = ConvNormAct(topology.conv(inner, width, kernel), width, topology, nonlin=linear)
        pointwise = FusionConv(in_channels, width, (1,) * topology.dim, topology, fusion=fusion)
        self.project = ConvNormAct(pointwise, width, topology, nonlin=linear)
        self.nonlin = linear if topology.nonlin is None else topology.nonlin(**(topology.nonlin_kwargs or {}))
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """Features `(B, C, *spatial)`, or several whose channels make up C, to `(B, width, *spatial)`."""
        return recomputed(self.block, *([x] if isinstance(x, Tensor) else x), when=self.checkpoint)

    def block(self, *sources: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        return self.nonlin(self.third(self.second(self.first(sources))) + self.project(sources))

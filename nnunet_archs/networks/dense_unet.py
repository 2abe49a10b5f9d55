"""DenseUNet, the network of DARTS: a U-Net of one width whose convolutions add up what came before them.

Aakash Kaku et al.: "DARTS: DenseUnet-Based Automatic Rapid Tool for Brain Segmentation", 2019, arXiv:1911.05567.

A convolution of kernel 1 brings the image to 256 channels, and all stages keep to them. A stage is a dense block of
four convolutions; stages are pooled, brought up by transposed convolutions of twice the stride, and joined with the
skip connection by a convolution.

Where this departs from the paper or settles what it leaves open:

- In a block, what a convolution gives is added to all earlier outputs of the block except the one that it was made of;
  the block's input counts among them. Normalisation and activation follow the sum.
- Kernels and strides are the plan's. Its widths are not: the network has 256 channels whatever a plan says. That takes
  much memory at full resolution, above all in 3D, which the paper does not have.
- A transposed convolution has kernel 1 along an axis that is not upsampled.
- Normalisation and activation are the plan's.
- Supervision: the paper's is of the output alone. nnU-Net's adds X[i, L-i], i < L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, cast

from torch import Tensor, nn
from typing_extensions import Unpack

from .parts.blocks import ConvNormAct
from .parts.contract import SegmentationNetwork, Supervision, supervised_stages
from .parts.decoder import Decoder
from .parts.fusion import Fusion, FusionConv
from .parts.heads import Heads
from .parts.recompute import recomputed
from .parts.topology import Topology, TopologyKwargs

CONVS = 4  # of a block


class DenseUNet(SegmentationNetwork):
    """DARTS' DenseUNet, in 2D or 3D; of the topology it takes all but the features.

    `fusion` has nothing to upsample here: it decides whether the skip connection is concatenated.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    citation: ClassVar = (
        'Kaku et al.: "DARTS: DenseUnet-Based Automatic Rapid Tool for Brain Segmentation", arXiv:1911.05567, 2019'
    )
    link: ClassVar = "https://arxiv.org/abs/1911.05567"
    has_width: ClassVar[bool] = False  # the topology's features decide nothing
    width: ClassVar[int] = 256

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
        topology = replace(topology, features_per_stage=[self.width] * topology.n_stages)
        stages = supervised_stages(self, topology, supervision)
        super().__init__(topology, branch_stages=stages, deep_supervision=deep_supervision)
        self.stem = topology.conv(input_channels, self.width, (1,) * topology.dim)
        self.pools = nn.ModuleList(topology.max_pool(i) for i in range(1, topology.n_stages))
        self.blocks = nn.ModuleList(DenseBlock(i, topology) for i in range(topology.n_stages))
        self.decoder_stages = Decoder(DecoderStage(i, topology, fusion=fusion) for i in range(topology.last))
        self.heads = Heads({f"D_{i}": self.width for i in stages}, num_classes, topology)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of the decoder's stages, or of the full resolution alone."""
        first, *blocks = self.blocks
        features = [first(self.stem(x))]
        for pool, block in zip(self.pools, blocks, strict=True):
            features.append(block(pool(features[-1])))
        *skips, deepest = features
        decoded = self.decoder_stages(deepest, skips)
        return self.heads(decoded if self.deep_supervision else decoded[:1])


class DecoderStage(nn.Module):
    """block(act(norm(conv(cat(skip, up(y)))))), up a transposed convolution out of the stage below."""

    def __init__(self, stage: int, topology: Topology, *, fusion: Fusion) -> None:
        super().__init__()
        width = topology.features_per_stage[stage]
        kernel = tuple(2 * s if s > 1 else 1 for s in topology.strides[stage + 1])
        self.up = topology.transposed_conv(width, width, stage + 1, kernel=kernel)
        join = FusionConv([width] * 2, width, topology.kernel_sizes[stage], topology, fusion=fusion)
        self.join = ConvNormAct(join, width, topology)
        self.block = DenseBlock(stage, topology)

    def forward(self, y: Tensor, skip: Tensor) -> Tensor:
        """Features of the stage below and the skip connection's to `(B, C, *spatial)` at this stage."""
        return self.block(self.join([skip, self.up(y)]))


class DenseBlock(nn.Module):
    """Four convolutions: y_k = act(norm(conv(y_(k-1)) + y_0 + ... + y_(k-2))), y_0 the block's input."""

    def __init__(self, stage: int, topology: Topology) -> None:
        super().__init__()
        width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
        self.convs = nn.ModuleList(
            ConvNormAct(topology.conv(width, width, kernel), width, topology) for _ in range(CONVS)
        )
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, *spatial)` to as many."""
        return recomputed(self.dense, x, when=self.checkpoint)

    def dense(self, x: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        first, *others = cast("Sequence[ConvNormAct]", self.convs)
        y, earlier = first(x), x
        for conv in others:
            z = conv.conv(y) + earlier
            earlier = earlier + y
            y = conv.finish(z)
        return y

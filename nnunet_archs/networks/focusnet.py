"""FocusNet++, a U-Net of residual blocks whose groups of channels weigh each other's voxels.

Kaul et al.: "FocusNet++: Attentive Aggregated Transformations for Efficient and Accurate Medical Image Segmentation",
ISBI 2021, doi:10.1109/ISBI48211.2021.9433918.

Figure 1: encoder and decoder of ResGA blocks, the skips added, and an output at every stage of the decoder; what these
outputs say is fused to the network's output F. Figure 2: the ResGA block. Stage i runs from 0 (full resolution) to L.

Where this departs from the paper or settles what it leaves open:

- Normalisation is the plan's; the paper has BatchNorm. Activations are the paper's, LeakyReLU of slope 0.3, as the
  authors' code has it.
- The text gives the widths 32-64-128-192-256, with which no reading tried reaches the 7.80M of Table 2. The authors'
  code does, with the widths 48-96-156-256-512 and a block that differs from the text: `block="released"`. It has no
  squeeze-and-excitation, and a convolution on the skip of O_r. Its decoder ends at stage 0 in three convolutions to 16,
  9 and 3 channels, and these 3 are what the output z_0 is made of: few, where there are many classes.
- Where an output says "Conv-BN-LeakyReLU-Conv", kernels are 1, as in the authors' code.
- Blocks a stage, of which the paper says nothing, are the authors': 1, 3, ..., 3, 2 in the encoder; one and a
  convolution with ReLU in the decoder. Also theirs are the channels before each output, 16 times 2^i up to 128, and 32
  before F.
- A block that changes the width works inside at that of its input. Its 4 groups of a quarter each come back to it with
  "twice the number of filters" (section 2.1).
- Squeeze-and-excitation reduces to a sixteenth, at least 4 channels: the paper names no ratio. It squeezes what the
  last convolution of a block gives, and scales what normalisation makes of it: after an instance norm, which takes
  every channel to the same mean, there would be nothing to squeeze.
- Dropout of 0.5 acts on single values of the bottleneck: the paper names the place alone.
- The sigmoids before the fusion are kept, also where classes exclude each other. F is returned as logits.
- Outputs are computed at their own resolution and then repeated, not on repeated features: the same function.
- Supervision: the paper's is of F alone. nnU-Net's adds the stages' own outputs, apart from that of stage 0, at whose
  resolution F stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from .parts.blocks import ConvNormAct, NoConv, NormActConv, SqueezeExcite
from .parts.contract import SegmentationNetwork, Supervision, check_choice
from .parts.decoder import Decoder
from .parts.encoders import widened
from .parts.fusion import Fusion, FusionConv
from .parts.heads import Heads
from .parts.recompute import recomputed
from .parts.separable import upsample
from .parts.topology import Axes, Conv, Topology, TopologyKwargs

# the block as the paper's text has it, or as the authors' code has it
Block = Literal["text", "released"]

GROUPS = 4
SLOPE = 0.3
DROPOUT = 0.5
RELEASED_TAIL = (16, 9, 3)


class FocusNetPlusPlus(SegmentationNetwork):
    """FocusNet++ (Fig. 1): F, the fusion of all stages' outputs z_0..z_(L-1), and with nnU-Net's supervision these too.

    `stem` is the width of the first convolution, whose kernel of 5 is 1 along an axis where the plan's is 1.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        supervision: Supervision = "nnunet",
        block: Block = "text",
        stem: int = 32,
        fusion: Fusion = "exact",
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        topology = Topology.of(self, topology_kwargs)
        check_choice("supervision", supervision, get_args(Supervision))
        check_choice("block", block, get_args(Block))
        check_groups("stem", [stem])
        check_groups("features_per_stage", topology.features_per_stage)
        stages = range(topology.last)
        outputs = [min(16 * 2**i, 128) for i in stages]
        super().__init__(
            topology,
            branch_stages=tuple(stages) if supervision == "nnunet" else (0,),
            deep_supervision=deep_supervision,
        )
        self.encoder = FocusEncoder(input_channels, topology, block=block, stem=stem)
        self.dropout = nn.Dropout(DROPOUT)
        self.decoder_stages = Decoder(DecoderStage(topology, i, block=block) for i in stages)
        self.projections = nn.ModuleList(
            activated_block(topology, topology.features_per_stage[i], width) for i, width in enumerate(outputs)
        )
        if block == "released":
            self.projections[0], outputs[0] = nn.Identity(), RELEASED_TAIL[-1]
        self.heads = Heads({f"z_{i}": width for i, width in enumerate(outputs)}, num_classes, topology)
        self.fuse = ScaleFusion(topology.last, num_classes, topology, fusion=fusion)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """F, and with nnU-Net's supervision the logits z_1..z_(L-1)."""
        *skips, y = self.encoder(x)
        features = self.decoder_stages(self.dropout(y), skips)
        z = self.heads([project(y) for project, y in zip(self.projections, features, strict=True)])
        return [self.fuse(z), *(z[i] for i in self.branch_stages[1:] if self.deep_supervision)]


class FocusEncoder(nn.Module):
    """A convolution of kernel 5, then at every stage max pooling by its stride and 1, 3, ..., 3, 2 ResGA blocks."""

    def __init__(self, input_channels: int, topology: Topology, *, block: Block, stem: int) -> None:
        super().__init__()
        counts = [1] + [3] * (topology.last - 1) + [2]
        widths = (stem, *topology.features_per_stage)
        self.stem = topology.conv(input_channels, stem, widened(topology.kernel_sizes[0]))
        self.pools = nn.ModuleList(nn.Identity() if i == 0 else topology.max_pool(i) for i in range(topology.n_stages))
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResGA(widths[i], widths[i + 1], topology, i, block=block),
                *(ResGA(widths[i + 1], widths[i + 1], topology, i, block=block) for _ in range(n - 1)),
            )
            for i, n in enumerate(counts)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image `(B, C, *spatial)` to one feature map a stage, highest resolution first."""
        y = self.stem(x)
        features = []
        for pool, stage in zip(self.pools, self.stages, strict=True):
            y = stage(pool(y))
            features.append(y)
        return features


class DecoderStage(nn.Module):
    """relu(conv(ResGA(up(y)) + skip)), where `up` repeats the values of the stage below (section 2).

    The authors' code has three convolutions with ReLU at stage 0, which end at 3 channels.
    """

    def __init__(self, topology: Topology, stage: int, *, block: Block) -> None:
        super().__init__()
        width, deeper = topology.features_per_stage[stage : stage + 2]
        tail = RELEASED_TAIL if block == "released" and stage == 0 else (width,)
        self.block = ResGA(deeper, width, topology, stage, block=block)
        self.convs = nn.Sequential()
        for in_channels, out_channels in pairwise((width, *tail)):
            self.convs.append(topology.conv(in_channels, out_channels, topology.kernel_sizes[stage]))
            self.convs.append(nn.ReLU(inplace=True))

    def forward(self, y: Tensor, skip: Tensor) -> Tensor:
        """`(B, deeper, *spatial / stride)` and the encoder's `(B, width, *spatial)` to `(B, C_out, *spatial)`."""
        return self.convs(self.block(y, skip.shape[2:]) + skip)


class ResGA(nn.Module):
    """Residual group attention (Fig. 2): lrelu(shortcut(x) + norm(y) * gate(y)), the gate squeeze and excitation.

    y = conv(cat(pair(g_1, g_2), pair(g_3, g_4))), and the groups g_1..g_4 are a convolution of x, cut in four. Every
    convolution here has kernel 1. Nothing is kept for backward but what convolutions give.
    """

    def __init__(self, in_channels: int, out_channels: int, topology: Topology, stage: int, *, block: Block) -> None:
        super().__init__()
        self.split = pointwise(topology, in_channels, in_channels)
        self.pairs = nn.ModuleList(
            GroupPair(in_channels // GROUPS, topology, topology.kernel_sizes[stage], block=block)
            for _ in range(GROUPS // 2)
        )
        self.embedding = pointwise(topology, in_channels, out_channels)
        self.norm = ConvNormAct(nn.Identity(), out_channels, topology, nonlin=nn.Identity())
        self.excite = (
            SqueezeExcite(out_channels, max(out_channels // 16, 4), topology, bias=False) if block == "text" else None
        )
        self.shortcut: ConvNormAct | NoConv = (
            NoConv() if in_channels == out_channels else linear_block(topology, in_channels, out_channels)
        )
        self.nonlin = nn.LeakyReLU(SLOPE, inplace=True)
        self.checkpoint, self.remakes = topology.checkpoint, topology.remakes

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Features `(B, C_in, *spatial)`, repeated up to `size` where that is given, to `(B, C_out, *size)`."""
        return recomputed(partial(self.block, size=size), x, when=self.checkpoint)

    def block(self, x: Tensor, *, size: Sequence[int] | None) -> Tensor:
        """The same, what its convolutions give kept for backward."""
        size = x.shape[2:] if size is None else size
        # convolutions of kernel 1 see a value once, and not as often as it is repeated
        groups = self.split(x).chunk(GROUPS, dim=1)
        widened = [pair(a, o, size) for pair, a, o in zip(self.pairs, groups[::2], groups[1::2], strict=True)]
        embedded = recomputed(self.embed, *widened, when=self.remakes)
        return recomputed(self.add, embedded, self.shortcut.conv(x), when=self.remakes)

    def embed(self, *widened: Tensor) -> Tensor:
        """y, from what the pairs give."""
        pairs = cast("Sequence[GroupPair]", self.pairs)
        joined = [pair.widen.finish(y) for pair, y in zip(pairs, widened, strict=True)]
        return self.embedding(torch.cat(joined, dim=1))

    def add(self, embedded: Tensor, shortcut: Tensor) -> Tensor:
        """The block's result, from y and what the shortcut's convolution gives."""
        features = self.norm(embedded)
        if self.excite is not None:
            features = features * self.excite.gate(embedded)
        return self.nonlin(self.shortcut.finish(upsample(shortcut, embedded.shape[2:], "nearest")) + features)


class GroupPair(nn.Module):
    """A group that attends and the one to its right: A = A_r * O_r (section 2.1), brought to twice the channels.

    A_r = sigmoid(W_a F(g_r)) and O_r = g_r + F(g_r), each with its own F of two norm-activation-convolutions.
    """

    def __init__(self, channels: int, topology: Topology, kernel: Axes, *, block: Block) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            preactivated(channels, kernel, topology),
            preactivated(channels, kernel, topology),
            pointwise(topology, channels, channels),
            nn.Sigmoid(),
        )
        self.residual = nn.Sequential(
            preactivated(channels, kernel, topology),
            preactivated(channels, kernel, topology),
        )
        self.skip: ConvNormAct | NoConv = NoConv() if block == "text" else activated_block(topology, channels, channels)
        self.widen = activated_block(topology, channels, 2 * channels)
        self.remakes = topology.remakes

    def forward(self, attending: Tensor, attended: Tensor, size: Sequence[int]) -> Tensor:
        """Two groups `(B, C / 4, *spatial)`, repeated up to `size`, to what `widen` convolves, `(B, C / 2, *size)`."""
        *convs, weigh, _ = self.attention
        attention = weigh(self.convolve(convs, attending, size))
        residual = self.convolve(self.residual, attended, size)
        return recomputed(self.join, attention, self.skip.conv(attended), residual, when=self.remakes)

    def convolve(self, convs: Iterable[nn.Module], y: Tensor, size: Sequence[int]) -> Tensor:
        """One convolution after the other, of a group that is repeated up to `size` for the first."""
        for conv in convs:
            y = recomputed(partial(repeated, conv, size), y, when=self.remakes)
        return y

    def join(self, attention: Tensor, skip: Tensor, residual: Tensor) -> Tensor:
        """What `widen` convolves, from what the convolutions before it give."""
        skip = self.skip.finish(upsample(skip, residual.shape[2:], "nearest"))
        return self.widen.conv(self.attention[-1](attention) * (skip + residual))


class ScaleFusion(nn.Module):
    """F = conv(lrelu(norm(conv(cat(up(sigmoid(z_i))))))) (section 2); kernels of 1 and 32 channels are the authors'."""

    def __init__(self, n_scales: int, num_classes: int, topology: Topology, *, fusion: Fusion) -> None:
        super().__init__()
        kernel = (1,) * topology.dim
        join = FusionConv([num_classes] * n_scales, 32, kernel, topology, interpolation="nearest", fusion=fusion)
        # named as in `Heads`: pretrained weights of other classes do not fit
        self.seg_layers = nn.Sequential(
            ConvNormAct(join, 32, topology, nonlin=nn.LeakyReLU(SLOPE, inplace=True)),
            topology.conv_op(32, num_classes, kernel),
        )

    def forward(self, z: Sequence[Tensor]) -> Tensor:
        """Logits `(B, K, *spatial_i)` of all stages to logits `(B, K, *spatial)`."""
        return self.seg_layers([logits.sigmoid() for logits in z])


def check_groups(name: str, widths: Sequence[int]) -> None:
    """Check that features can be cut into groups.

    Raises:
        ValueError: if they cannot.
    """
    if any(width < GROUPS or width % GROUPS for width in widths):
        raise ValueError(f"{name}={list(widths)}: FocusNet++ cuts features into {GROUPS} groups; give multiples of 4")


def repeated(conv: nn.Module, size: Sequence[int], y: Tensor) -> Tensor:
    """A convolution of features `(B, C, *spatial)`, repeated up to `size`."""
    return cast(Tensor, conv(upsample(y, size, "nearest")))


def preactivated(channels: int, kernel: Axes, topology: Topology) -> NormActConv:
    """Normalisation, activation and convolution, in this order (section 2.1)."""
    # in place on the norm's result alone: without a norm it would change the input, which others read too
    nonlin = nn.LeakyReLU(SLOPE, inplace=topology.norm_op is not None)
    return NormActConv(channels, topology.conv(channels, channels, kernel), topology, nonlin=nonlin)


def pointwise(topology: Topology, in_channels: int, out_channels: int) -> Conv:
    """Convolution of kernel 1."""
    return topology.conv(in_channels, out_channels, (1,) * topology.dim)


def linear_block(topology: Topology, in_channels: int, out_channels: int) -> ConvNormAct:
    """Convolution of kernel 1 and normalisation."""
    return ConvNormAct(pointwise(topology, in_channels, out_channels), out_channels, topology, nonlin=nn.Identity())


def activated_block(topology: Topology, in_channels: int, out_channels: int) -> ConvNormAct:
    """Convolution of kernel 1, normalisation and activation."""
    nonlin = nn.LeakyReLU(SLOPE, inplace=topology.norm_op is not None)
    return ConvNormAct(pointwise(topology, in_channels, out_channels), out_channels, topology, nonlin=nonlin)

"""FocusNet, the predecessor of FocusNet++: what one U-Net decodes gates the encoder of another.

Chaitanya Kaul, Suresh Manandhar, Nick Pears: "FocusNet: An Attention-Based Fully Convolutional Network for Medical
Image Segmentation", ISBI 2019, arXiv:1902.03091.

Two residual U-Nets see the image. The sigmoid of what the first decodes at a stage weighs the second's features there,
between two blocks of squeeze and excitation; the first ends one stage above the second. Every stage of the second's
decoder gives an output, and the network's output F is a fusion of them all. All sizes are those of the authors' code.

Where this departs from the paper or settles what it leaves open:

- Normalisation and activation are the plan's, in the places that have them in the code: convolutions behind an
  upsampling, and those before an output, are not normalised.
- Stage i of the encoder has the plan's width i in the first U-Net, and i + 1 in the second, as in the code; that of the
  decoder the other way round. The authors' widths are 32-64-128-256-512.
- A convolution of 3 has the stage's kernel, the second U-Net's first one is wider by 4. One of 2, behind an upsampling,
  has kernel 1 along an axis that is not upsampled; zeros follow the last voxel, as in Keras.
- A plan of two stages has no place for the first U-Net.
- The sigmoids before the fusion are kept, also where classes exclude each other. F is returned as logits.
- The paper supervises F alone. nnU-Net's supervision adds heads at the decoder's lower stages, at their resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack

from .parts.blocks import ConvNormAct, NormActConv, SqueezeExcite
from .parts.contract import SegmentationNetwork, Supervision, supervised_stages
from .parts.decoder import Decoder
from .parts.fusion import Fusion, FusionConv
from .parts.heads import Heads
from .parts.recompute import recomputed
from .parts.separable import upsample
from .parts.topology import Topology, TopologyKwargs

DROPOUT = 0.2


class FocusNet(SegmentationNetwork):
    """FocusNet: F, the fusion of all stages' outputs z_0..z_(L-1).

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    citation: ClassVar = (
        'Kaul, Manandhar, Pears: "FocusNet: An Attention-Based Fully Convolutional Network for Medical Image '
        'Segmentation", ISBI 2019'
    )
    link: ClassVar = "https://arxiv.org/abs/1902.03091"

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
        widths, last = topology.features_per_stage, topology.last
        stages = supervised_stages(self, topology, supervision)
        super().__init__(topology, branch_stages=stages, deep_supervision=deep_supervision)
        self.attention = AttendingUNet(input_channels, topology) if last > 1 else None
        self.encoder = GatedEncoder(input_channels, topology)
        self.decoder_stages = Decoder(
            DecoderStage(widths[i + 1], widths[max(i, 1)], widths[i], i, topology) for i in range(last)
        )
        tail = [max(1, widths[0] // reduction) for reduction in (1, 2, 8)]
        self.tail = nn.Sequential(*(Residual(*change, topology, 0) for change in pairwise(tail)))
        self.scales = nn.ModuleList(
            Scale(widths[i], widths[0], num_classes, topology, fusion=fusion) for i in range(1, last)
        )
        channels = {f"D_{i}": tail[-1] if i == 0 else widths[i] for i in stages}
        self.heads = Heads(channels, num_classes, topology)
        joined = topology.conv(num_classes * last, widths[0], topology.kernel_sizes[0])
        fuse = [ConvNormAct(joined, widths[0], topology.unnormalised()), topology.conv_op(widths[0], num_classes, 1)]
        # named as in `Heads`: pretrained weights of other classes do not fit
        self.fuse = nn.ModuleDict({"seg_layers": nn.Sequential(*fuse)})

    def outputs(self, x: Tensor) -> list[Tensor]:
        """F, and with nnU-Net's supervision the logits of the decoder's lower stages."""
        gates = [] if self.attention is None else self.attention(x)
        *skips, y = self.encoder(x, gates)
        decoded = self.decoder_stages(y, skips)
        scales = [scale(y, x.shape[2:]) for scale, y in zip(self.scales, decoded[1:], strict=True)]
        decoded[0] = self.tail(decoded[0])
        finest, *lower = self.heads(decoded if self.deep_supervision else decoded[:1])
        z = torch.cat([logits.sigmoid() for logits in (finest, *scales)], dim=1)
        return [self.fuse["seg_layers"](z), *lower]


class AttendingUNet(nn.Module):
    """The first U-Net: what its decoder gives, which the second is gated with; it ends at stage L-1."""

    def __init__(self, input_channels: int, topology: Topology) -> None:
        super().__init__()
        widths, last = topology.features_per_stage, topology.last
        kernel, padding = topology.kernel_sizes[0], tuple(k // 2 for k in topology.kernel_sizes[0])
        stem = topology.conv_op(input_channels, widths[0], kernel, padding=padding, bias=False)
        self.stages = nn.ModuleList([ConvNormAct(stem, widths[0], topology)])
        for i in range(1, last):
            down = Residual(widths[i - 1], widths[i - 1], topology, i, strided=True)
            self.stages.append(nn.Sequential(down, Residual(widths[i - 1], widths[i], topology, i)))
        self.dropout = nn.Dropout(DROPOUT)
        self.decoder_stages = Decoder(
            DecoderStage(widths[min(i + 2, last - 1)], widths[i], widths[i + 1], i, topology) for i in range(last - 1)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image `(B, C, *spatial)` to features of stages 0 to L-2, each of the next stage's width."""
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        *skips, deepest = features
        decoded: list[Tensor] = self.decoder_stages(self.dropout(deepest), skips)
        return decoded


class GatedEncoder(nn.Module):
    """The second U-Net's encoder, whose stages are weighed by the first's; stage L-1 has no such gate."""

    def __init__(self, input_channels: int, topology: Topology) -> None:
        super().__init__()
        widths, last = topology.features_per_stage, topology.last
        kernel = tuple(k + 4 if k > 1 else k for k in topology.kernel_sizes[0])
        self.stem = ConvNormAct(topology.conv(input_channels, widths[1], kernel), widths[1], topology)
        self.stages = nn.ModuleList(GatedStage(widths[max(i, 1)], i, topology, gated=i < last - 1) for i in range(last))

    def forward(self, x: Tensor, gates: Sequence[Tensor]) -> list[Tensor]:
        """Image `(B, C, *spatial)` and the gates' features to one feature map a stage, highest resolution first."""
        features = [self.stem(x)]
        for i, stage in enumerate(self.stages):
            features.append(stage(features[-1], gates[i : i + 1]))
        return features


class GatedStage(nn.Module):
    """down(excite(excite(block(x)) * sigmoid(gate))), or down(excite(block(x))) where there is no gate."""

    def __init__(self, in_channels: int, stage: int, topology: Topology, *, gated: bool) -> None:
        super().__init__()
        width = topology.features_per_stage[stage + 1]
        self.block = Residual(in_channels, width, topology, stage)
        self.excite = nn.ModuleList(
            SqueezeExcite(width, max(1, width // 16), topology, bias=False) for _ in range(1 + gated)
        )
        self.down = Residual(width, width, topology, stage + 1, strided=True)
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor, gates: Sequence[Tensor]) -> Tensor:
        """Features `(B, C, *spatial)` and the gate's, if there is one, to `(B, width, *spatial / stride)`."""
        return self.down(recomputed(self.weigh, x, *gates, when=self.checkpoint))

    def weigh(self, x: Tensor, *gates: Tensor) -> Tensor:
        """What is strided, all of it kept for backward."""
        first, *others = self.excite
        y = first(self.block.residual(x))
        for excite, gate in zip(others, gates, strict=True):
            y = excite(y * gate.sigmoid())
        return y


class DecoderStage(nn.Module):
    """block(cat(skip, act(conv(repeat(y))))), the convolution of kernel 2 where values are repeated."""

    def __init__(self, in_channels: int, skip_channels: int, width: int, stage: int, topology: Topology) -> None:
        super().__init__()
        kernel = tuple(min(s, 2) for s in topology.strides[stage + 1])
        conv = topology.conv_op(in_channels, width, kernel, bias=topology.conv_bias)
        self.up = ConvNormAct(conv, width, topology.unnormalised())
        self.padding = [n for k in reversed(kernel) for n in (0, k - 1)]
        self.block = Residual(skip_channels + width, width, topology, stage)
        self.checkpoint = topology.checkpoint

    def forward(self, y: Tensor, skip: Tensor) -> Tensor:
        """Features of the stage below and the skip connection's to `(B, width, *spatial)` at this stage."""
        return recomputed(self.join, y, skip, when=self.checkpoint)

    def join(self, y: Tensor, skip: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        repeated = F.pad(upsample(y, skip.shape[2:], "nearest"), self.padding)
        return self.block.residual(torch.cat([skip, self.up(repeated)], dim=1))


class Residual(nn.Module):
    """shortcut(x) + conv(act(norm(conv(x)))); a strided block has normalisation and activation before both."""

    def __init__(
        self, in_channels: int, out_channels: int, topology: Topology, stage: int, *, strided: bool = False
    ) -> None:
        super().__init__()
        kernel, stride = topology.kernel_sizes[stage], topology.strides[stage] if strided else (1,) * topology.dim
        first: nn.Module = topology.conv(in_channels, out_channels, kernel, stride=stride)
        if strided:
            first = NormActConv(in_channels, first, topology)
        second = NormActConv(out_channels, topology.conv(out_channels, out_channels, kernel), topology)
        self.convs = nn.Sequential(first, second)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or max(stride) > 1:
            self.shortcut = topology.conv(in_channels, out_channels, (1,) * topology.dim, stride=stride)
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C_in, *spatial)` to `(B, C_out, *spatial / stride)`."""
        return recomputed(self.residual, x, when=self.checkpoint)

    def residual(self, x: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        return self.shortcut(x) + self.convs(x)


class Scale(nn.Module):
    """The output of a stage at full resolution: conv(act(conv(repeat(y))))."""

    def __init__(self, in_channels: int, width: int, num_classes: int, topology: Topology, *, fusion: Fusion) -> None:
        super().__init__()
        kernel = topology.kernel_sizes[0]
        conv = FusionConv([in_channels], width, kernel, topology, interpolation="nearest", fusion=fusion)
        self.conv = ConvNormAct(conv, width, topology.unnormalised())
        self.seg_layers = topology.conv_op(width, num_classes, 1)

    def forward(self, y: Tensor, size: Sequence[int]) -> Tensor:
        """Features `(B, C, *spatial)` of a stage to logits `(B, K, *size)`."""
        return self.seg_layers(self.conv.finish(self.conv.conv([y], size)))

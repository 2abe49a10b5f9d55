"""The pre-activation residual U-Net of KiTS19, which Crosslink-Net calls PR3D-Unet.

Fabian Isensee, Klaus H. Maier-Hein: "An attempt at beating the 3D U-Net", arXiv:1908.02182.

A U-Net whose blocks are residual, each convolution after normalisation and activation: x + conv(act(norm(conv(act(
norm(x)))))). It is the variant that the authors did not submit; the other, normalised after the convolution, is
nnU-Net's ResidualEncoderUNet.

Where this departs from the paper or settles what it leaves open:

- Blocks a stage are 1, 2, ..., 2 in the encoder and one in the decoder, at features of 30 to 320. The first
  convolution, to the first stage's features, is before all blocks.
- The stage's stride is that of its first block, whose residual is the activated input, brought to the size by a
  convolution of kernel 1 without bias or normalisation; elsewhere it is the input itself.
- Upsampling is a transposed convolution without bias to the width of the stage above. What the decoder joins is not
  normalised before; the heads see features that are normalised and activated.
- Dropout, where the plan has one, is after a block's first convolution.
- Kernels, strides, normalisation and activation are the plan's, in 2D and 3D.
- `supervision="paper"` is the output alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .parts.blocks import JoinedNode, NormAct
from .parts.encoders import Encoder
from .parts.fusion import Fusion
from .parts.grid import Node, node_name
from .parts.recompute import recomputed
from .parts.topology import Axes, Topology
from .unet_sharp import GridKwargs, UNet


class PreActivationEncoder(Encoder):
    """A convolution, then one block at stage 0 and two at each later stage, up to the stage `last`."""

    def __init__(self, input_channels: int, topology: Topology, *, last: int) -> None:
        super().__init__()
        self.widths = widths = topology.features_per_stage
        stem = topology.conv(input_channels, widths[0], topology.kernel_sizes[0])
        self.stages = nn.ModuleList([nn.Sequential(stem, PreActivationBlock(widths[0], 0, topology))])
        for i in range(1, last + 1):
            first = PreActivationBlock(widths[i - 1], i, topology, stride=topology.strides[i])
            self.stages.append(nn.Sequential(first, PreActivationBlock(widths[i], i, topology)))


class PreActivationUNet(UNet):
    """U-Net of pre-activation residual blocks; `fusion` has nothing to upsample here.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    encoder_class: ClassVar = PreActivationEncoder
    citation: ClassVar = 'Isensee, Maier-Hein: "An attempt at beating the 3D U-Net", KiTS19, 2019'
    link: ClassVar = "https://arxiv.org/abs/1908.02182"

    def __init__(self, input_channels: int, num_classes: int, **kwargs: Unpack[GridKwargs]) -> None:
        super().__init__(input_channels, num_classes, **kwargs)
        self.activated = nn.ModuleDict(
            {node_name(node): NormAct(self.width(node), self.topology) for node in self.supervised}
        )

    @override
    def make_node(self, node: Node, sources: Sequence[Node], *, fusion: Fusion) -> nn.Module:
        width, below = (self.width(source) for source in sources)
        up = replace(self.topology, conv_bias=False).transposed_conv(below, width, node[0] + 1)
        return JoinedNode(up, PreActivationBlock(2 * width, node[0], self.topology))

    @override
    def features(self, x: Tensor) -> list[Tensor]:
        features = super().features(x)
        return [self.activated[node_name(node)](y) for node, y in zip(self.supervised, features)]  # noqa: B905


class PreActivationBlock(nn.Module):
    """residual(x) + conv(act(norm(conv(act(norm(x)))))), the first convolution with the stage's stride."""

    def __init__(self, in_channels: int, stage: int, topology: Topology, *, stride: Axes | None = None) -> None:
        super().__init__()
        width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
        stride = stride or (1,) * topology.dim
        self.activate = NormAct(in_channels, topology)
        self.first = topology.conv(in_channels, width, kernel, stride=stride)
        dropout = topology.dropout_op
        self.dropout = nn.Identity() if dropout is None else dropout(**(topology.dropout_op_kwargs or {}))
        self.activate_again = NormAct(width, topology)
        self.second = topology.conv(width, width, kernel)
        self.project: nn.Module | None = None
        if in_channels != width or any(s > 1 for s in stride):
            self.project = topology.conv_op(in_channels, width, 1, stride, bias=False)
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """Features `(B, C, *spatial)`, or several whose channels make up C, to `(B, width, *spatial / stride)`."""
        return recomputed(self.block, *([x] if isinstance(x, Tensor) else x), when=self.checkpoint)

    def block(self, *sources: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        x = sources[0] if len(sources) == 1 else torch.cat(sources, dim=1)
        y = self.activate(x)
        residual = x if self.project is None else self.project(y)
        return residual + self.second(self.activate_again(self.dropout(self.first(y))))

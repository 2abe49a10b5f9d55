"""DUNet, a U-Net some of whose convolutions choose where they look.

Qiangguo Jin et al.: "DUNet: A deformable network for retinal vessel segmentation", Knowledge-Based Systems 178, 2019,
arXiv:1811.01206.

U-Net with linear upsampling, in which blocks of two deformable convolutions (Dai et al. 2017, arXiv:1703.06211) take
the place of some blocks: a convolution tells for every pixel by how much each tap of the next one is moved, and values
between pixels are interpolated.

Where this departs from the paper or settles what it leaves open:

- The authors' PyTorch code is followed: deformable are stages 1 and 2 of the encoder, 0 and 1 of the decoder. There the
  features are 16-32-64-128-128, and a decoder stage has those of the encoder's stage above it; the output's head sees
  the image beside the last features. Their older Keras code is deformable nearly everywhere, moves every channel by
  itself, and has 26,728,449 parameters.
- Movements begin at 0, as an ordinary convolution. In the authors' code they learn at a tenth of the rate, or would:
  the hook that says so has no effect. Here they learn at the full rate.
- Beyond the image there are zeros; in the authors' code, the values of its border.
- A deformable convolution has no bias, and computes in float32 whatever the rest does: half precision would place the
  taps coarsely, and the operator does not know bfloat16 on a CPU.
- 2D only, as the operator of torchvision is. Kernels, strides, normalisation and activation are the plan's; upsampling
  is bilinear with corners aligned, by each stage's strides.
- `supervision="paper"` is the output alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d
from typing_extensions import Unpack, override

from .parts.blocks import ConvNormAct
from .parts.encoders import ConvEncoder
from .parts.fusion import Fusion, concatenated
from .parts.grid import Node
from .parts.recompute import recomputed
from .parts.topology import Axes, Topology
from .unet_sharp import GridKwargs, UNet


class DeformableEncoder(ConvEncoder):
    """U-Net's encoder, deformable at stages 1 and 2."""

    @override
    def make_stage(self, in_channels: int, stage: int, topology: Topology) -> nn.Module:
        if stage not in (1, 2):
            return super().make_stage(in_channels, stage, topology)
        width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
        return DeformableStack(in_channels, width, kernel, topology)


class DUNet(UNet):
    """DUNet, 2D.

    Raises:
        ValueError: for an option that does not exist, a topology that cannot work, or one in 3D.
    """

    encoder_class: ClassVar = DeformableEncoder
    dimensions: ClassVar = (2,)
    citation: ClassVar = (
        'Jin et al.: "DUNet: A deformable network for retinal vessel segmentation", Knowledge-Based Systems 178, 2019'
    )
    link: ClassVar = "https://arxiv.org/abs/1811.01206"

    def __init__(self, input_channels: int, num_classes: int, **kwargs: Unpack[GridKwargs]) -> None:
        self.input_channels = input_channels
        super().__init__(input_channels, num_classes, **kwargs)

    @override
    def width(self, node: Node) -> int:
        """In the decoder, that of the encoder's stage above."""
        stage, column = node
        return self.topology.features_per_stage[max(0, stage - 1) if column > 0 else stage]

    @override
    def head_channels(self, node: Node) -> int:
        return self.width(node) + (self.input_channels if node[0] == 0 else 0)

    @override
    def make_node(self, node: Node, sources: Sequence[Node], *, fusion: Fusion) -> nn.Module:
        if node[0] > 1:
            return super().make_node(node, sources, fusion=fusion)
        kernel = self.topology.kernel_sizes[node[0]]
        return DeformableStack(sum(map(self.width, sources)), self.width(node), kernel, self.topology)

    @override
    def features(self, x: Tensor) -> list[Tensor]:
        finest, *others = super().features(x)
        return [torch.cat([x, finest], dim=1), *others]

    @staticmethod
    @override
    def initialize(module: nn.Module) -> None:
        """He initialisation, and movements of 0."""
        UNet.initialize(module)
        if isinstance(module, DeformableConv):
            module.initialize()


class DeformableStack(nn.Sequential):
    """Two deformable convolutions, each with normalisation and activation."""

    def __init__(self, in_channels: int, channels: int, kernel: Axes, topology: Topology) -> None:
        super().__init__(
            *(
                ConvNormAct(DeformableConv(n, channels, kernel, topology), channels, topology)
                for n in (in_channels, channels)
            )
        )
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """Features `(B, C, H, W)`, or several that make up C at the size of the first, to `(B, channels, H, W)`."""
        return recomputed(self.both, *([x] if isinstance(x, Tensor) else x), when=self.checkpoint)

    def both(self, *sources: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        x = sources[0] if len(sources) == 1 else concatenated(sources, sources[0].shape[2:], "aligned")
        return cast(Tensor, super().forward(x))


class DeformableConv(nn.Module):
    """Convolution whose taps are moved, at every pixel by what another convolution says there."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Axes, topology: Topology) -> None:
        super().__init__()
        height, width = kernel
        self.padding = (height // 2, width // 2)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, height, width))
        self.offset = nn.Conv2d(in_channels, 2 * height * width, (height, width), padding=self.padding)
        self.initialize()

    def initialize(self) -> None:
        """Begin as an ordinary convolution."""
        nn.init.kaiming_normal_(self.weight, a=1e-2)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(cast(Tensor, self.offset.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, H, W)` to `(B, C_out, H, W)`."""
        offset = self.offset(x).float()
        return deform_conv2d(x.float(), offset, self.weight.float(), padding=self.padding).to(x.dtype)

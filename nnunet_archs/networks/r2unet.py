"""R2U-Net: U-Net of residual blocks whose convolutions run again and again on what they gave.

Md Zahangir Alom, Mahmudul Hasan, Chris Yakopcic, Tarek M. Taha, Vijayan K. Asari: "Recurrent Residual Convolutional
Neural Network based on U-Net (R2U-Net) for Medical Image Segmentation", arXiv:1802.06955.

Eqs. 1 and 2, Figure 4d: a recurrent unit adds what its convolution gave to its input and convolves that again, with the
same weights. Eq. 3: two such units and a residual make a block, which stands where U-Net has two convolutions.

Where this departs from the paper or settles what it leaves open:

- t = 2 steps: the convolution of a unit runs three times. It and its normalisation are one module, so a batch norm has
  one mean and variance for all three.
- Eq. 1 has weights of its own for the input and for the state, and adds the results; the figure's unrolled unit and the
  implementation that most use have one convolution of their sum, as here.
- A block begins with a convolution of kernel 1 to its width, which the residual joins. It is not normalised.
- Upsampling repeats values; a convolution of the plan's kernel to the stage's width, normalised and activated, follows.
- Kernels, strides, normalisation and activation are the plan's. The paper has ReLU.
- `supervision="paper"` is the output alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import override

from .parts.blocks import ConvNormAct
from .parts.encoders import ConvEncoder
from .parts.fusion import Fusion, FusionConv
from .parts.grid import Node
from .parts.recompute import recomputed
from .parts.topology import Topology
from .unet_sharp import UNet

STEPS = 2


class RecurrentEncoder(ConvEncoder):
    """X[i, 0] = block(P(X[i-1, 0])), P max pooling by the stage's stride."""

    @override
    def make_stage(self, in_channels: int, stage: int, topology: Topology) -> nn.Module:
        width = topology.features_per_stage[stage]
        return RecurrentBlock(topology.conv(in_channels, width, (1,) * topology.dim), stage, topology)


class R2UNet(UNet):
    """U-Net of recurrent residual blocks.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    encoder_class: ClassVar = RecurrentEncoder
    citation: ClassVar = (
        'Alom, Hasan, Yakopcic, Taha, Asari: "Recurrent Residual Convolutional Neural Network based on U-Net (R2U-Net) '
        'for Medical Image Segmentation", arXiv:1802.06955, 2018'
    )
    link: ClassVar = "https://arxiv.org/abs/1802.06955"

    @override
    def make_node(self, node: Node, sources: Sequence[Node], *, fusion: Fusion) -> nn.Module:
        return RecurrentNode(node[0], self.topology, fusion=fusion)


class RecurrentNode(nn.Module):
    """X[i, L-i] = block(cat(X[i, 0], conv(up(X[i+1, L-i-1]))))."""

    def __init__(self, stage: int, topology: Topology, *, fusion: Fusion) -> None:
        super().__init__()
        width, below = topology.features_per_stage[stage : stage + 2]
        kernel, unit = topology.kernel_sizes[stage], (1,) * topology.dim
        self.up = FusionConv([below], width, kernel, topology, interpolation="nearest", fusion=fusion)
        self.finish = ConvNormAct(nn.Identity(), width, topology)
        self.block = RecurrentBlock(FusionConv([width] * 2, width, unit, topology, fusion=fusion), stage, topology)

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """Features of this stage and of the one below to `(B, width, *spatial)` at this stage."""
        skip, below = sources
        return self.block([skip, self.finish(self.up([below], skip.shape[2:]))])


class RecurrentBlock(nn.Module):
    """y + unit(unit(y)), y what the given convolution of kernel 1 makes of the input (Eq. 3)."""

    def __init__(self, first: nn.Module, stage: int, topology: Topology) -> None:
        super().__init__()
        width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
        self.first = first
        self.units = nn.Sequential(
            *(RecurrentUnit(ConvNormAct(topology.conv(width, width, kernel), width, topology)) for _ in range(2))
        )
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """What the first convolution takes to `(B, width, *spatial)`."""
        return recomputed(self.residual, self.first(x), when=self.checkpoint)

    def residual(self, y: Tensor) -> Tensor:
        """The same, from what the first convolution gives."""
        return y + self.units(y)


class RecurrentUnit(nn.Module):
    """y = c(x), then `STEPS` times y = c(x + y), with one convolution c (Eqs. 1 and 2)."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, *spatial)` to the same shape."""
        y = self.conv(x)
        for _ in range(STEPS):
            y = self.conv(x + y)
        return y

"""Attention U-Net: additive gates on the skip connections of U-Net.

Ozan Oktay et al.: "Attention U-Net: Learning Where to Look for the Pancreas", arXiv:1804.03999.

Eqs. 1 and 2, Figure 2: what an encoder stage gives, x, is weighed by coefficients in (0, 1) before the skip connection
takes it. They come of x, brought to the coarser grid by a strided convolution, and of the gating signal g there, and
are upsampled to x. The first skip connection has no gate (section 2), because its features are of few dimensions.

Where this departs from the paper or settles what it leaves open:

- The gating signal is what the decoder gives one stage below; for the deepest gate it is the encoder's last stage. The
  authors' code has a convolution of its own before that gate.
- The strided convolution has the plan's stride as its kernel, so that every voxel is seen once. It has no bias, for the
  other summand has one.
- The sum of both has as many channels as x (F_int in the paper, which leaves it open).
- The weighed features go to the decoder as they are (Figure 2); the authors' code convolves and normalises them first.
- Upsampling is linear with corners aligned, by each stage's strides, of features and coefficients alike.
- Normalisation and activation are the plan's. The gates have ReLU and sigmoid, and no normalisation.
- The paper supervises every scale of the decoder: here X[i, L-i], i < L, each against targets of its resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import override

from .parts.fusion import Fusion
from .parts.grid import Node
from .parts.recompute import recomputed
from .parts.separable import upsample
from .parts.topology import Topology
from .unet_sharp import UNet


class AttentionUNet(UNet):
    """U-Net with linear upsampling whose skip connections, that of the full resolution apart, pass attention gates.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    citation: ClassVar = 'Oktay et al.: "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018'
    link: ClassVar = "https://arxiv.org/abs/1804.03999"

    @classmethod
    def paper_branches(cls, last: int) -> list[Node]:
        """The whole decoder."""
        return cls.branches(last, "nnunet")

    @override
    def make_node(self, node: Node, sources: Sequence[Node], *, fusion: Fusion) -> nn.Module:
        convs = super().make_node(node, sources, fusion=fusion)
        if node[0] == 0:
            return convs
        width, width_below = map(self.width, sources)
        return GatedNode(convs, AttentionGate(width, width_below, node[0], self.topology))


class GatedNode(nn.Module):
    """X[i, L-i] = f²(cat(gate(X[i, 0], below), up(below)))."""

    def __init__(self, convs: nn.Module, gate: AttentionGate) -> None:
        super().__init__()
        self.convs = convs
        self.gate = gate

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """The skip connection's features and those of the stage below to `(B, width, *spatial)` at this stage."""
        skip, below = sources
        return self.convs([self.gate(skip, below), below])


class AttentionGate(nn.Module):
    """x * up(sigmoid(psi(relu(theta(x) + phi(g))))) (Eqs. 1 and 2), with one coefficient a voxel of g's grid."""

    def __init__(self, width: int, width_below: int, stage: int, topology: Topology) -> None:
        super().__init__()
        stride = topology.strides[stage + 1]
        self.theta = topology.conv_op(width, width, stride, stride, bias=False)
        self.phi = topology.conv_op(width_below, width, 1)
        self.psi = topology.conv_op(width, 1, 1)
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """Features `(B, C, *spatial)` and gating signal `(B, C_g, *spatial / stride)` to x, weighed."""
        return recomputed(self.weigh, x, g, when=self.checkpoint)

    def weigh(self, x: Tensor, g: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        coefficients = self.psi((self.theta(x) + self.phi(g)).relu()).sigmoid()
        return x * upsample(coefficients, x.shape[2:], "aligned")

"""Attention U-Net as the authors of FocusNet++ measure it: gates of their own, and a decoder without convolutions.

The networks of Table 2 of "FocusNet++: Attentive Aggregated Transformations for Efficient and Accurate Medical Image
Segmentation", ISBI 2021, doi:10.1109/ISBI48211.2021.9433918, are those of its authors' code. There an encoder of two
convolutions a stage meets a decoder that upsamples by a transposed convolution and ReLU, and does no more than
concatenate: what it gives at a stage is half the skip connection's, half what came from below. The gate brings x to the
grid below by a convolution of kernel and stride 2, and adds a transposed convolution of the gating signal; what is
weighed is convolved and normalised once more. The full resolution has no gate.

Where this departs from the code or settles what it leaves open:

- The third gate takes its signal from the stage two below, not one, as in the code, where that looks like a slip. Of
  the further gates of a deeper plan every one takes it from the stage below.
- Kernels and strides are the plan's: a convolution of kernel 2 has the stride as its kernel, one of 3 the stage's.
- Normalisation and activation are the plan's, in the places that have them in the code; the gates have ReLU.
- Supervision: the code's is of the output alone. nnU-Net's adds X[i, L-i], i < L.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from .parts.blocks import ConvNormAct
from .parts.fusion import Fusion
from .parts.grid import Node, Wiring, unet
from .parts.recompute import recomputed
from .parts.separable import upsample
from .parts.topology import Topology
from .unet_sharp import GridNetwork


def gated_unet(last: int) -> Wiring:
    """U-Net's wiring, with the node that gates the skip connection in third place, where there is a gate."""
    return {(i, j): [*sources, *([gating_node(i, last)] if i > 0 else [])] for (i, j), sources in unet(last).items()}


def gating_node(stage: int, last: int) -> Node:
    """Where the gate of a stage has its signal from: the node below; the third gate that below it."""
    below = stage + 2 if stage == last - 3 else stage + 1
    return below, last - below


class ReleasedAttentionUNet(GridNetwork):
    """X[i, L-i] = cat(relu(up(below)), gate(X[i, 0], signal)), up a transposed convolution.

    `fusion` has nothing to upsample here.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    citation: ClassVar = 'Oktay et al.: "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018'
    link: ClassVar = "https://arxiv.org/abs/1804.03999"
    wirings: ClassVar = {"equation": gated_unet}

    @override
    def width(self, node: Node) -> int:
        return super().width(node) * (2 if node[1] > 0 else 1)

    @override
    def make_node(self, node: Node, sources: Sequence[Node], *, fusion: Fusion) -> nn.Module:
        _, below, *signal = sources
        gate = None
        if signal:
            gate = SignalGate(self.width(signal[0]), node[0], signal[0][0], self.topology)
        return JoinedNode(self.width(below), node[0], gate, self.topology)


class JoinedNode(nn.Module):
    """cat(act(up(below)), skip), the skip weighed by a gate where there is one."""

    def __init__(self, in_channels: int, stage: int, gate: SignalGate | None, topology: Topology) -> None:
        super().__init__()
        width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
        self.up = topology.transposed_conv(in_channels, width, stage + 1, kernel=kernel)
        self.nonlin = nn.Identity() if topology.nonlin is None else topology.nonlin(**(topology.nonlin_kwargs or {}))
        self.gate = gate

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """The skip connection's features, those below and the gate's signal to `(B, 2 * width, *spatial)`."""
        skip, below, *signal = sources
        return torch.cat([self.nonlin(self.up(below)), self.gate(skip, *signal) if self.gate else skip], dim=1)


class SignalGate(nn.Module):
    """norm(conv(x * up(sigmoid(psi(relu(theta(x) + up(phi(act(norm(conv(signal))))))))))), x of a stage."""

    def __init__(self, in_channels: int, stage: int, signal_stage: int, topology: Topology) -> None:
        super().__init__()
        width, stride = topology.features_per_stage[stage], topology.strides[stage + 1]
        kernel, one = topology.kernel_sizes[stage + 1], (1,) * topology.dim
        self.signal = ConvNormAct(topology.conv(in_channels, in_channels, one), in_channels, topology)
        self.phi = nn.Sequential(
            topology.conv(in_channels, width, one),
            topology.transposed_conv(width, width, signal_stage, target=stage + 1, kernel=kernel),
        )
        self.theta = topology.conv_op(width, width, stride, stride, bias=topology.conv_bias)
        self.psi = topology.conv_op(width, 1, 1)
        self.out = ConvNormAct(topology.conv(width, width, one), width, topology, nonlin=nn.Identity())
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor, signal: Tensor) -> Tensor:
        """Features `(B, C, *spatial)` and the gating node's `(B, C_g, *spatial_g)` to x, weighed."""
        return recomputed(self.weigh, x, signal, when=self.checkpoint)

    def weigh(self, x: Tensor, signal: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        coefficients = self.psi((self.theta(x) + self.phi(self.signal(signal))).relu()).sigmoid()
        return self.out(x * upsample(coefficients, x.shape[2:], "nearest"))

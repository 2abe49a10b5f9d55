"""The blocks that all networks are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from .recompute import recomputed
from .topology import Axes, Topology


class ConvNormAct(nn.Sequential):
    """Convolution, then dropout, normalisation and activation as the topology has them, in nnU-Net's order."""

    conv: nn.Module

    def __init__(self, conv: nn.Module, channels: int, topology: Topology, *, nonlin: nn.Module | None = None) -> None:
        super().__init__()
        self.add_module("conv", conv)
        if topology.dropout_op is not None:
            self.add_module("dropout", topology.dropout_op(**(topology.dropout_op_kwargs or {})))
        if topology.norm_op is not None:
            self.add_module("norm", topology.norm_op(channels, **(topology.norm_op_kwargs or {})))
        if nonlin is not None or topology.nonlin is not None:
            self.add_module("nonlin", nonlin or topology.activation())

    def finish(self, y: Tensor) -> Tensor:
        """What follows the convolution, whose result `(B, C, *spatial)` it takes."""
        for module in list(self)[1:]:
            y = module(y)
        return y


class NoConv(nn.Identity):
    """In the place of a `ConvNormAct`: what it is given, as it is."""

    def conv(self, x: Tensor) -> Tensor:
        """What it is given."""
        return x

    def finish(self, y: Tensor) -> Tensor:
        """What it is given."""
        return y


class NormAct(nn.Sequential):
    """Normalisation and activation as the topology has them, of features that others read too."""

    def __init__(self, channels: int, topology: Topology, *, nonlin: nn.Module | None = None) -> None:
        super().__init__()
        if topology.norm_op is not None:
            self.add_module("norm", topology.norm_op(channels, **(topology.norm_op_kwargs or {})))
        if nonlin is not None or topology.nonlin is not None:
            # without a norm, in place, it would change the input
            self.add_module("nonlin", nonlin or topology.activation(keeps_input=topology.norm_op is None))


class NormActConv(NormAct):
    """Normalisation and activation as the topology has them, then a convolution (He et al. 2016, arXiv:1603.05027).

    What follows the convolution of a `ConvNormAct` precedes this one, its dropout apart.
    """

    def __init__(self, channels: int, conv: nn.Module, topology: Topology, *, nonlin: nn.Module | None = None) -> None:
        super().__init__(channels, topology, nonlin=nonlin)
        self.add_module("conv", conv)
        if topology.dropout_op is not None:
            self.add_module("dropout", topology.dropout_op(**(topology.dropout_op_kwargs or {})))


class ConvStack(nn.Sequential):
    """f²: the given convolution and one more, or `n_convs` in all, each with normalisation and activation."""

    def __init__(self, first: nn.Module, channels: int, kernel: Axes, topology: Topology, *, n_convs: int = 2) -> None:
        others = (topology.conv(channels, channels, kernel) for _ in range(n_convs - 1))
        super().__init__(*(ConvNormAct(conv, channels, topology) for conv in (first, *others)))
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """What the first convolution takes to `(B, channels, *spatial)`."""
        return self.both(x)[1]

    def both(self, x: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The results of the first and the last convolution; with checkpoint, the first's alone is kept."""
        return self.end(self.begin(x))

    def begin(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """What the first convolution gives."""
        y: Tensor = cast(ConvNormAct, self[0]).conv(x)
        return y

    def end(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The results of the first and the last convolution, from what `begin` gives."""
        return recomputed(self.finish, y, when=self.checkpoint)

    def finish(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same, all of it kept for backward."""
        first, *others = cast("Sequence[ConvNormAct]", self)
        x = last = first.finish(y)
        for conv in others:
            last = conv(last)
        return x, last


class JoinedNode(nn.Module):
    """X[i, L-i]: a block of the skip connection's features and of those of the stage below, brought up by `up`."""

    def __init__(self, up: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.up = up
        self.block = block

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """The skip connection's features and those of the stage below to what the block makes of both."""
        skip, below = sources
        return self.block([skip, self.up(below)])


class SqueezeExcite(nn.Module):
    """x * sigmoid(W2 relu(W1 mean(x))), the mean over all voxels (Hu et al. 2018, arXiv:1709.01507).

    dynamic_network_architectures' block of that name takes the mean over two axes alone, also in 3D.
    """

    def __init__(self, channels: int, hidden: int, topology: Topology, *, bias: bool) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            topology.conv_op(channels, hidden, 1, bias=bias),
            nn.ReLU(),
            topology.conv_op(hidden, channels, 1, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, *spatial)`, each channel weighed by a number between 0 and 1."""
        return x * self.gate(x)

    def gate(self, x: Tensor) -> Tensor:
        """That number for each channel of `(B, C, *spatial)`: `(B, C, 1, ...)`."""
        return self.weigh(x.mean(dim=tuple(range(2, x.ndim)), keepdim=True))

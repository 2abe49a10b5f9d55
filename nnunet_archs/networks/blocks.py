"""The blocks that all networks are made of."""

from __future__ import annotations

from torch import nn

from .topology import Topology


class ConvNormAct(nn.Sequential):
    """Convolution, then dropout, normalisation and activation as the topology has them, in nnU-Net's order."""

    def __init__(self, conv: nn.Module, channels: int, topology: Topology, *, nonlin: nn.Module | None = None) -> None:
        super().__init__()
        self.add_module("conv", conv)
        if topology.dropout_op is not None:
            self.add_module("dropout", topology.dropout_op(**(topology.dropout_op_kwargs or {})))
        if topology.norm_op is not None:
            self.add_module("norm", topology.norm_op(channels, **(topology.norm_op_kwargs or {})))
        if nonlin is not None:
            self.add_module("nonlin", nonlin)
        elif topology.nonlin is not None:
            self.add_module("nonlin", topology.nonlin(**(topology.nonlin_kwargs or {})))


class ConvStack(nn.Sequential):
    """f²: the given convolution and one more, each with normalisation and activation."""

    def __init__(self, first: nn.Module, topology: Topology, stage: int) -> None:
        channels, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
        super().__init__(
            ConvNormAct(first, channels, topology),
            ConvNormAct(topology.conv(channels, channels, kernel), channels, topology),
        )

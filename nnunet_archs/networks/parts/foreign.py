"""Networks from elsewhere: any `nn.Module` behind the contract of the networks here, through one small class.

A subclass says how the module is built, and what it cannot do:

    class Theirs(ForeignNetwork):
        dimensions = (3,)
        strides = (1, 2, 2, 2)

        def build(self, topology, patch_size, input_channels, num_classes, n_heads):
            nets = imported("theirs.nets", install="pip install theirs")
            return nets.Theirs(input_channels, num_classes, width=topology.features_per_stage[0])
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Required, Unpack, override

from .contract import SegmentationNetwork, Supervision, check_supervision
from .stages import check_dimensions, check_patch, check_strides, next_patch, with_stages
from .topology import Axes, Topology, TopologyKwargs

# features at stage 0 of nnU-Net's plans: there a network that grows with them has the size of its paper
WIDTH = 32


class ForeignKwargs(TopologyKwargs, total=False):
    """The keywords that every network from elsewhere takes."""

    patch_size: Required[Sequence[int]]
    deep_supervision: bool
    supervision: Supervision | None


class ForeignNetwork(SegmentationNetwork):
    """A network whose module comes from elsewhere: its subclass states what that can do, and builds it.

    Its keywords are those of the other networks and `patch_size`, in voxels. `supervision` "nnunet" and "paper" are
    both the module's heads, of every stage but the deepest; by default it has those that it can have.

    Raises:
        ValueError: for dimensions, a patch, strides or channels that the module cannot take, heads that it has not,
            or a package that is not installed.
    """

    # the module's stages, each with its stride along every axis; None: it takes those of the topology
    strides: ClassVar[tuple[int, ...] | None] = None
    smallest: ClassVar[int] = 1  # voxels that a patch has along every axis, at least
    most_channels: ClassVar[int | None] = None  # of the input
    has_heads: ClassVar[bool] = False
    has_width: ClassVar[bool] = True  # the topology's features decide how wide it is
    recomputes: ClassVar[bool] = False

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        patch_size: Sequence[int],
        deep_supervision: bool = False,
        supervision: Supervision | None = None,
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        topology, patch = Topology.of(self, topology_kwargs), tuple(patch_size)
        self.check(topology, patch, input_channels)
        n_heads = self.n_heads(topology, supervision)
        super().__init__(topology, branch_stages=tuple(range(n_heads)), deep_supervision=deep_supervision)
        body = self.build(topology, patch, input_channels, num_classes, n_heads)
        # some make tensors on the CPU whatever is asked for, which get_default_device() does not know in torch 2.7
        self.body = body.to(torch.empty(0).device)

    @abstractmethod
    def build(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> nn.Module:
        """The module, with weights as it begins with; it gives logits, or those of `n_heads` stages, finest first."""

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of all heads, or of the full resolution alone."""
        y = self.body(x)
        outputs = [y] if isinstance(y, Tensor) else list(y)
        return outputs if self.deep_supervision else outputs[:1]

    @staticmethod
    @override
    def initialize(module: nn.Module) -> None:
        """Nothing: a module from elsewhere begins with the weights that its makers chose."""

    @classmethod
    def planned(cls, topology_kwargs: Mapping[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
        """The keywords for a patch, made of those of any topology, with the module's own stages if it has some."""
        own: dict[str, Any] = {"patch_size": [int(size) for size in patch_size]}
        if cls.strides is not None:
            own |= with_stages(topology_kwargs, cls.strides, len(patch_size))
        return {**topology_kwargs, **own}

    @classmethod
    def serving(cls, patch_size: Sequence[int], total_stride: Sequence[int]) -> Axes:
        """The next patch, no axis smaller, that serves a module with this product of strides."""
        steps = total_stride if cls.strides is None else [math.prod(cls.strides)] * len(patch_size)
        return next_patch(patch_size, steps, smallest=cls.smallest)

    def check(self, topology: Topology, patch: Axes, input_channels: int) -> None:
        """Check what the module is asked to do.

        Raises:
            ValueError: if it cannot.
        """
        name, dim = type(self).__name__, topology.dim
        check_dimensions(name, topology, self.dimensions)
        if len(patch) != dim:
            raise ValueError(f"patch_size={list(patch)} has {len(patch)} axes, {name} has {dim}; give one size an axis")
        if topology.checkpoint:
            raise ValueError(f"checkpoint=True: {name} keeps all for backward; leave that out of its arguments")
        if self.most_channels is not None and input_channels > self.most_channels:
            raise ValueError(
                f"input_channels={input_channels}: {name} takes {self.most_channels} at most, and a cascade adds one "
                "for every label; train a configuration of fewer channels"
            )
        if self.strides is not None:
            check_strides(name, topology, self.strides)
        serving = self.serving(patch, topology.total_stride)
        check_patch(name, patch, serving, topology.total_stride, smallest=self.smallest)

    def n_heads(self, topology: Topology, supervision: Supervision | None) -> int:
        """How many stages have a head.

        Raises:
            ValueError: if the module has none at lower stages.
        """
        if supervision is not None:
            check_supervision(self, supervision)
        return topology.last if self.has_heads and supervision != "none" else 1


def batch_normalised(topology: Topology) -> Topology:
    """The topology with the layers of networks for photographs, whatever the plan says: BatchNorm and ReLU, no bias."""
    return replace(
        topology,
        conv_bias=False,
        norm_op=nn.BatchNorm2d if topology.dim == 2 else nn.BatchNorm3d,
        norm_op_kwargs=None,
        dropout_op=None,
        nonlin=nn.ReLU,
        nonlin_kwargs=None,
    )


def imported(module: str, *, install: str) -> Any:
    """A module of a package that need not be there, imported when a network is built from it.

    Raises:
        ValueError: if the package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        raise ValueError(f"{error.name} is not installed, and this network comes from it; {install}") from error

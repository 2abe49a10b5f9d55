"""The shape of a network, as nnU-Net's plans state it: stages, features, kernels, strides and layer types."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, TypeAlias, cast

from dynamic_network_architectures.building_blocks.helper import (
    convert_conv_op_to_dim,
    get_matching_convtransp,
    get_matching_pool_op,
)
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import TypedDict

Axes: TypeAlias = tuple[int, ...]
Conv: TypeAlias = nn.Conv2d | nn.Conv3d


class TopologyKwargs(TypedDict, total=False):
    """The keywords that every network takes: those of dynamic_network_architectures."""

    n_stages: int
    features_per_stage: int | Sequence[int]
    conv_op: type[nn.Module]
    kernel_sizes: int | Sequence[int] | Sequence[Sequence[int]]
    strides: int | Sequence[int] | Sequence[Sequence[int]]
    conv_bias: bool
    norm_op: type[nn.Module] | None
    norm_op_kwargs: Mapping[str, Any] | None
    dropout_op: type[nn.Module] | None
    dropout_op_kwargs: Mapping[str, Any] | None
    nonlin: type[nn.Module] | None
    nonlin_kwargs: Mapping[str, Any] | None
    checkpoint: bool


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Stages 0 (full resolution) to n_stages - 1, each with its features, kernel and stride per axis.

    With `checkpoint`, blocks keep less for the backward pass and compute it again there.

    Raises:
        ValueError: for a topology that no network here can have.
    """

    n_stages: int
    features_per_stage: Sequence[int]
    conv_op: type[nn.Module]
    kernel_sizes: Sequence[Axes]
    strides: Sequence[Axes]
    conv_bias: bool = False
    norm_op: type[nn.Module] | None = None
    norm_op_kwargs: Mapping[str, Any] | None = None
    dropout_op: type[nn.Module] | None = None
    dropout_op_kwargs: Mapping[str, Any] | None = None
    nonlin: type[nn.Module] | None = None
    nonlin_kwargs: Mapping[str, Any] | None = None
    checkpoint: bool = False

    def __post_init__(self) -> None:
        if self.conv_op not in (nn.Conv2d, nn.Conv3d):
            raise ValueError(f"conv_op={self.conv_op!r}: give torch.nn.Conv2d or torch.nn.Conv3d")
        if self.n_stages < 2:
            raise ValueError(
                f"n_stages={self.n_stages}: an encoder with a decoder needs at least 2 stages; plan with a larger "
                "patch, so that it can be pooled at least once"
            )
        object.__setattr__(self, "features_per_stage", self._per_stage("features_per_stage"))
        object.__setattr__(self, "kernel_sizes", self._per_axis("kernel_sizes"))
        object.__setattr__(self, "strides", self._per_axis("strides"))
        if min(self.features_per_stage) < 1:
            raise ValueError(
                f"features_per_stage={list(self.features_per_stage)}: every stage needs at least 1 feature"
            )
        if any(k < 1 or k % 2 == 0 for kernel in self.kernel_sizes for k in kernel):
            raise ValueError(f"kernel_sizes={self.kernel_sizes}: kernels must be odd, so that padding keeps the size")
        if any(s < 1 for stride in self.strides for s in stride):
            raise ValueError(f"strides={self.strides}: every stride must be at least 1")
        if any(s != 1 for s in self.strides[0]):
            raise ValueError(f"strides[0]={list(self.strides[0])}: stage 0 works at full resolution; give it stride 1")
        if self.checkpoint and (obstacle := self._obstacle()):
            raise ValueError(f"checkpoint=True with {obstacle}, or leave checkpoint out")

    @classmethod
    def of(cls, network: object, kwargs: TopologyKwargs) -> Topology:
        """The topology among the keywords of a network, whose `widening` the features are multiplied by.

        Raises:
            ValueError: for a keyword that the network does not take.
        """
        if foreign := sorted(kwargs.keys() - TopologyKwargs.__annotations__.keys()):
            raise ValueError(f"{type(network).__name__} takes no {', '.join(foreign)}; leave that out of its arguments")
        topology = cls(**cast(Any, kwargs))
        ratio: Fraction = getattr(network, "widening", Fraction(1))
        return replace(topology, features_per_stage=[round(n * ratio) for n in topology.features_per_stage])

    @property
    def dim(self) -> int:
        """Spatial dimensions: 2 or 3."""
        return int(convert_conv_op_to_dim(self.conv_op))

    @property
    def last(self) -> int:
        """Index L of the deepest stage."""
        return self.n_stages - 1

    @property
    def remakes(self) -> bool:
        """Whether what follows a convolution is the same every time that it is computed from its result."""
        return self.dropout_op is None and not self._obstacle()

    @property
    def total_stride(self) -> Axes:
        """How many voxels of the image make one voxel of the deepest stage, per axis."""
        return self.stride_between(0, self.last)

    def conv(
        self, in_channels: int, out_channels: int, kernel: Axes, *, stride: Axes | int = 1, dilation: int = 1
    ) -> Conv:
        """Convolution that keeps the spatial size, or divides it by its stride."""
        padding = tuple(dilation * (k // 2) for k in kernel)
        conv = self.conv_op(in_channels, out_channels, kernel, stride, padding, dilation, bias=self.conv_bias)
        return cast(Conv, conv)

    def activation(self, *, keeps_input: bool = False) -> nn.Module:
        """The activation, or the identity if there is none; with `keeps_input` it does not work in place."""
        topology = self.out_of_place() if keeps_input else self
        return nn.Identity() if self.nonlin is None else self.nonlin(**(topology.nonlin_kwargs or {}))

    def max_pool(self, stage: int, *, source: int | None = None, return_indices: bool = False) -> nn.Module:
        """Max pooling into `stage`, from the stage above or from the shallower stage `source`."""
        pool = get_matching_pool_op(self.conv_op, pool_type="max")
        stride = self.stride_between(stage - 1 if source is None else source, stage)
        return pool(stride, stride, return_indices=return_indices)

    def transposed_conv(
        self, in_channels: int, out_channels: int, stage: int, *, target: int | None = None, kernel: Axes | None = None
    ) -> nn.Module:
        """Transposed convolution out of `stage` to the one above, or to the shallower stage `target`.

        By default its kernel is the stride, so that no two outputs overlap.
        """
        stride = self.stride_between(stage - 1 if target is None else target, stage)
        kernel = stride if kernel is None else kernel
        # as much as makes the grid finer by exactly the stride
        padding = tuple(max(0, (k - s + 1) // 2) for k, s in zip(kernel, stride, strict=True))
        rest = tuple(s - k + 2 * p for k, s, p in zip(kernel, stride, padding, strict=True))
        transposed: type[nn.Module] = get_matching_convtransp(self.conv_op)
        return transposed(
            in_channels, out_channels, kernel, stride, padding=padding, output_padding=rest, bias=self.conv_bias
        )

    def unnormalised(self) -> Topology:
        """The same without normalisation; activations leave what they take, a convolution's result, as it is."""
        return replace(self.out_of_place(), norm_op=None, norm_op_kwargs=None)

    def out_of_place(self) -> Topology:
        """The same with activations that leave what they take as it is."""
        kwargs = {**(self.nonlin_kwargs or {})}
        return replace(self, nonlin_kwargs=kwargs | ({"inplace": False} if "inplace" in kwargs else {}))

    def stride_between(self, shallow: int, deep: int) -> Axes:
        """How many voxels of stage `shallow` make one of stage `deep`, per axis."""
        return tuple(
            math.prod(axis) for axis in zip((1,) * self.dim, *self.strides[shallow + 1 : deep + 1], strict=True)
        )

    def _obstacle(self) -> str:
        """Why what follows a convolution cannot be computed again from its result, and what to do; or nothing."""
        if self.norm_op is not None and issubclass(self.norm_op, _BatchNorm):
            return (
                f"norm_op={self.norm_op.__name__}: what is computed again would count twice in its running "
                "statistics; plan with an instance norm"
            )
        first, kwargs = "dropout_op", self.dropout_op_kwargs
        if self.dropout_op is None:
            first, kwargs = "nonlin", self.nonlin_kwargs if self.norm_op is None else None
        if kwargs and kwargs.get("inplace"):
            return (
                f"{first}_kwargs={kwargs}: in place it would overwrite what is kept, a convolution's result; "
                "give inplace=False"
            )
        return ""

    def _per_stage(self, name: str) -> tuple[Any, ...]:
        value = getattr(self, name)
        values = (value,) * self.n_stages if isinstance(value, int) else tuple(value)
        if len(values) != self.n_stages:
            raise ValueError(f"{name} has {len(values)} entries for n_stages={self.n_stages}; give one a stage")
        return values

    def _per_axis(self, name: str) -> tuple[Axes, ...]:
        values = [(v,) * self.dim if isinstance(v, int) else tuple(v) for v in self._per_stage(name)]
        for stage, value in enumerate(values):
            if len(value) != self.dim:
                raise ValueError(
                    f"{name}[{stage}]={list(value)} has {len(value)} axes; {self.conv_op.__name__} has {self.dim}"
                )
        return tuple(values)


# what a plan states whatever its network is
PLANNED = tuple(field.name for field in fields(Topology) if field.name != "checkpoint")

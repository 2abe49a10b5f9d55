"""Modules that have stages of their own: plans made for other networks are brought to them, and what cannot be is told.

A module's strides are one number a stage, the same along every axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .topology import Axes, Topology


def with_stages(topology_kwargs: Mapping[str, Any], strides: Sequence[int], dim: int) -> dict[str, Any]:
    """What of the topology a module decides: its stages, the features and kernels of any topology brought to them."""
    n_stages = len(strides)
    own: dict[str, Any] = {"n_stages": n_stages, "strides": [[stride] * dim for stride in strides]}
    for name in ("features_per_stage", "kernel_sizes"):
        given = topology_kwargs[name]
        if not isinstance(given, int):  # what holds for the deepest stage holds for those below it
            own[name] = [*given, *[given[-1]] * n_stages][:n_stages]
    return own


def next_patch(patch: Sequence[int], total_stride: Sequence[int], *, smallest: int = 1) -> Axes:
    """The next patch, no axis smaller, that is a multiple of the product of all strides."""
    wanted = [max(size, smallest) for size in patch]
    serving = [-(-size // step) * step for size, step in zip(wanted, total_stride, strict=True)]
    if serving == list(total_stride) and math.prod(total_stride) > 1:
        # one voxel at the deepest stage cannot be normalised
        serving[-1] *= 2
    return tuple(serving)


def check_dimensions(name: str, topology: Topology, dimensions: Sequence[int]) -> None:
    """Check that a module has a topology's dimensions.

    Raises:
        ValueError: if it has not.
    """
    if topology.dim not in dimensions:
        known = " and ".join(f"{n}D" for n in dimensions)
        raise ValueError(f"conv_op={topology.conv_op.__name__}: {name} exists only in {known}; train it in {known}")


def check_strides(name: str, topology: Topology, strides: Sequence[int]) -> None:
    """Check that a topology has the stages of a module.

    Raises:
        ValueError: if it has others.
    """
    if topology.strides != tuple((stride,) * topology.dim for stride in strides):
        raise ValueError(
            f"strides={[list(stride) for stride in topology.strides]}: {name} has {list(strides)} along every "
            "axis; plan for it with nnunet-archs plan"
        )


def check_patch(
    name: str, patch: Sequence[int], serving: Axes, total_stride: Sequence[int], *, smallest: int = 1
) -> None:
    """Check that a patch is the one that serves a module.

    Raises:
        ValueError: if it is not.
    """
    if tuple(patch) != serving:
        steps = " x ".join(map(str, total_stride))
        least = f", every axis at least {smallest}" if smallest > 1 else ""
        raise ValueError(
            f"patch_size={list(patch)}: {name} needs a multiple of {steps}{least}, and more than one voxel at its "
            f"deepest stage; the next that serves is {list(serving)}, and nnunet-archs plan finds one"
        )

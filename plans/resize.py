"""Make nnU-Net's plans small enough to train on a CPU: fewer features, smaller batches and patches."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import prod
from typing import Any

from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

MIN_FEATURE_MAP_EDGE = 4  # voxels at the lowest stage, as in nnU-Net's planner

RESIZED = ("patch_size", "batch_size", "architecture")


@dataclass(frozen=True, kw_only=True)
class Caps:
    """The most that small plans have: features, which double from stage to stage, and by axes batch and voxels."""

    base_features: int = 16  # these are the widths of V-Net#'s paper: half of nnU-Net's
    max_features: int = 256
    batch_size: Mapping[int, int] = field(default_factory=lambda: {2: 12, 3: 2})
    patch_voxels: Mapping[int, int] = field(default_factory=lambda: {2: 256**2, 3: 2**17})


CAPS = Caps()


def resize_plans(plans: Mapping[str, Any], plans_name: str, *, caps: Caps = CAPS) -> dict[str, Any]:
    """Return a copy of nnU-Net's `plans` for a CPU; it uses the same preprocessed data as the original.

    Raises ValueError for a name that nnU-Net's folder names could not hold.
    """
    if not plans_name or "__" in plans_name:
        raise ValueError(f"plans name {plans_name!r}: nnU-Net splits folder names at '__'; use a name without it")
    small = deepcopy(dict(plans))
    small["plans_name"] = plans_name
    for name, configuration in small["configurations"].items():
        resized = resize_configuration(_resolve(plans["configurations"], name), caps)
        # What a configuration inherits stays inherited.
        configuration.update({key: resized[key] for key in RESIZED if key in configuration})
    return small


def resize_configuration(configuration: Mapping[str, Any], caps: Caps) -> dict[str, Any]:
    """Return a copy of a configuration without `inherits_from`, with features, batch and patch (voxels) capped."""
    n_axes = len(configuration["patch_size"])
    patch_size, strides, kernel_sizes = _shrink_patch(configuration, caps)
    architecture = deepcopy(configuration["architecture"])
    architecture["arch_kwargs"] = _resize_arch_kwargs(architecture["arch_kwargs"], strides, kernel_sizes, caps)
    return {
        **deepcopy(dict(configuration)),
        "batch_size": min(configuration["batch_size"], caps.batch_size[n_axes]),
        "patch_size": patch_size,
        "architecture": architecture,
    }


def _resolve(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration with what it inherits, as nnU-Net's PlansManager does it."""
    own = configurations[name]
    parent = own.get("inherits_from")
    return {**(_resolve(configurations, parent) if parent else {}), **own}


def _shrink_patch(configuration: Mapping[str, Any], caps: Caps) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """Return patch size, strides and kernel sizes, changed only if the patch has too many voxels."""
    arch_kwargs = configuration["architecture"]["arch_kwargs"]
    strides, kernel_sizes = arch_kwargs["strides"], arch_kwargs["kernel_sizes"]
    patch_size: Sequence[int] = configuration["patch_size"]
    # The spacing has three axes in 3D and two in 2D, as the patch; nnU-Net's own rules give the rest from both.
    while prod(patch_size) > caps.patch_voxels[len(patch_size)]:
        steps = [prod(axis) for axis in zip(*strides, strict=True)]
        reducible = [axis for axis, size in enumerate(patch_size) if size > steps[axis]]
        axis = max(reducible, key=lambda axis: patch_size[axis] / _extent(configuration)[axis])
        wanted = [size - steps[i] if i == axis else size for i, size in enumerate(patch_size)]
        _, strides, kernel_sizes, patch_size, _ = get_pool_and_conv_props(
            configuration["spacing"], wanted, MIN_FEATURE_MAP_EDGE, 999
        )
    return [int(n) for n in patch_size], _as_lists(strides), _as_lists(kernel_sizes)


def _extent(configuration: Mapping[str, Any]) -> Sequence[float]:
    """Return the median image size in voxels, of the axes that the patch has."""
    return configuration["median_image_size_in_voxels"][-len(configuration["patch_size"]) :]


def _resize_arch_kwargs(
    arch_kwargs: Mapping[str, Any], strides: list[list[int]], kernel_sizes: list[list[int]], caps: Caps
) -> dict[str, Any]:
    n_before, n_stages = arch_kwargs["n_stages"], len(strides)
    # Lists with an entry a stage (n_conv_per_stage) or a decoder stage (n_conv_per_stage_decoder) lose the last ones.
    kept = {
        key: list(value[: len(value) - (n_before - n_stages)])
        for key, value in arch_kwargs.items()
        if isinstance(value, list | tuple) and len(value) in (n_before, n_before - 1)
    }
    return {
        **deepcopy(dict(arch_kwargs)),
        **kept,
        "n_stages": n_stages,
        "features_per_stage": [min(caps.base_features * 2**i, caps.max_features) for i in range(n_stages)],
        "strides": strides,
        "kernel_sizes": kernel_sizes,
    }


def _as_lists(sizes: Sequence[Sequence[int]]) -> list[list[int]]:
    return [[int(n) for n in size] for size in sizes]

"""What networks are measured at: a topology, a patch and a batch, by name or from a data set's plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_archs.files import read_json
from nnunet_archs.networks import Topology
from nnunet_archs.networks.parts.contract import check_choice
from nnunet_archs.networks.parts.topology import PLANNED, Axes
from nnunet_archs.trainers.base import check_patch, read_topology

NUM_CLASSES = 2


@dataclass(frozen=True)
class Workload:
    """A topology, a patch in voxels and a batch."""

    name: str
    topology: Topology
    patch_size: Axes
    batch_size: int
    input_channels: int = 1

    @property
    def shape(self) -> Axes:
        """Shape of the input, `(B, C, *spatial)`."""
        return (self.batch_size, self.input_channels, *self.patch_size)

    @property
    def arguments(self) -> dict[str, Any]:
        """The topology as a plan states it, classes by their paths."""
        topology = {name: getattr(self.topology, name) for name in PLANNED}
        return {
            key: f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else value
            for key, value in topology.items()
        }

    @property
    def configuration(self) -> ConfigurationManager:
        """A configuration of this patch, batch and topology."""
        classes = [name for name in PLANNED if isinstance(getattr(self.topology, name), type)]
        architecture = {"network_class_name": "", "arch_kwargs": self.arguments, "_kw_requires_import": classes}
        sizes = {"patch_size": self.patch_size, "batch_size": self.batch_size}
        return ConfigurationManager({**sizes, "batch_dice": False, "architecture": architecture})

    def as_json(self) -> dict[str, Any]:
        """Name, shape of the input and topology."""
        return {"name": self.name, "shape": self.shape, "num_classes": NUM_CLASSES, **self.arguments}


def like_nnunet(
    name: str,
    features: Sequence[int],
    patch_size: Axes,
    batch_size: int,
    *,
    kernel_sizes: int | Sequence[Axes] = 3,
    strides: Sequence[int] | Sequence[Axes] | None = None,
) -> Workload:
    """A workload with the layers that nnU-Net plans, by default with isotropic kernels and pooling."""
    dim = len(patch_size)
    topology: dict[str, Any] = {
        "n_stages": len(features),
        "features_per_stage": features,
        "conv_op": nn.Conv2d if dim == 2 else nn.Conv3d,
        "kernel_sizes": kernel_sizes,
        "strides": strides or [1] + [2] * (len(features) - 1),
        "conv_bias": True,
        "norm_op": nn.InstanceNorm2d if dim == 2 else nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    return Workload(name, Topology(**topology), patch_size, batch_size)


TOPOLOGIES = {
    workload.name: workload
    for workload in (
        like_nnunet("2d-paper", [32, 64, 128, 256, 512], (256, 256), 1),
        like_nnunet("3d-paper", [16, 32, 64, 128, 256], (64, 64, 64), 1),
        like_nnunet("2d-nnunet", [32, 64, 128, 256, 512, 512, 512], (512, 512), 12),
        like_nnunet("3d-nnunet", [32, 64, 128, 256, 320, 320], (128, 128, 128), 2),
        # by nnU-Net's rules for slices of 3.6 mm and pixels of 0.625 mm, as of the Decathlon's prostates
        like_nnunet(
            "3d-anisotropic",
            [32, 64, 128, 256, 320, 320, 320],
            (16, 320, 320),
            2,
            kernel_sizes=[(1, 3, 3)] * 2 + [(3, 3, 3)] * 5,
            strides=[(1, 1, 1), *[(1, 2, 2)] * 2, *[(2, 2, 2)] * 2, *[(1, 2, 2)] * 2],
        ),
    )
}


def from_plans(file: Path, configuration: str) -> Workload:
    """The workload that a data set's plans state: the topology, the patch, the batch and the image's channels.

    Raises:
        ValueError: for a file that is not a plans file, a configuration that it has not, or one that cannot work.
    """
    try:
        plans = PlansManager(read_json(file))
        check_choice("-c", configuration, plans.available_configurations)
        planned = plans.get_configuration(configuration)
        name = f"{plans.dataset_name}, {plans.plans_name}, {configuration}"
        check_patch(planned, name)
        channels = len(planned.normalization_schemes)
        return Workload(name, read_topology(planned), tuple(planned.patch_size), int(planned.batch_size), channels)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"--plans {file} is not a plans file ({error!r}); give nnU-Net's nnUNetPlans.json") from error

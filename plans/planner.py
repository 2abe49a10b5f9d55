"""nnU-Net's experiment planner for any network: its rules for patch and batch, the network's measured memory.

nnU-Net estimates memory by counting what convolutions give, and compares it with a reference that was fitted to its own
networks. Here its rules stay, and what a training step takes of a GPU is measured: network, loss and optimiser, on the
meta device (`nnunet_archs/measure/memory.py`). A plan fits if that and a reserve is no more than the GPU has. nnU-Net's
own two networks keep nnU-Net's references, so that they get nnU-Net's own plans.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from math import ceil, inf, prod
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
    nnUNetPlannerResEncXL,
)
from nnunetv2.utilities.json_export import recursive_fix_for_json_export
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from typing_extensions import override

from nnunet_archs.measure.memory import GIB, TrainingMemory
from nnunet_archs.nnunet.commands import for_planning
from nnunet_archs.nnunet.datasets import normal_form
from nnunet_archs.nnunet.plans import BUDGET, budget
from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.memory import expected_memory
from nnunet_archs.trainers.nnunet import BaselineTrainer, ResidualEncoderUNetTrainer
from nnunet_archs.trainers.registry import resolve_paper

MIN_BATCH_SIZE = 2  # nnU-Net's
# Of a GPU's memory, what is not a step's tensors: CUDA's context, workspaces of convolutions, gaps between blocks. By
# what nvidia-smi shows for nnU-Net's own plans (nnU-Net's documentation/resenc_presets.md), for want of a GPU.
RESERVE, RESERVED_SHARE = 1.5 * GIB, 0.1
# The smallest patch that is tried, in voxels, by the number of axes.
SMALLEST = {2: 64**2, 3: 32**3}
WIDTH_STEP = 4  # features at stage 0, which also are the fewest: odd numbers of them are slow in half precision
# In parts of what there is: where a smaller patch of the same topology foretells this, a patch is not measured.
SURELY_TOO_MUCH = 1.05


@dataclass(frozen=True)
class Limits:
    """What keeps patch and batch from being larger; `larger` is nnU-Net's next larger patch, which does not fit."""

    patch: str
    batch: str
    larger: tuple[int, ...] | None


# nnU-Net's configurations, each with those that it depends on
CONFIGURATIONS = {
    "2d": ("2d",),
    "3d_fullres": ("3d_fullres",),
    "3d_lowres": ("3d_lowres", "3d_fullres"),
    "3d_cascade_fullres": ("3d_cascade_fullres", "3d_lowres", "3d_fullres"),
}


class NetworkPlanner(ExperimentPlanner):
    """nnU-Net's planner for a trainer's network and a GPU of `gpu_memory` GiB.

    `base_width` is the features at stage 0, in place of nnU-Net's 32; `configurations` are those that are wanted,
    by default all that the network can be trained in.
    """

    LIMIT: ClassVar[str] = "memory"

    def __init__(
        self,
        dataset: int | str,
        trainer: type[PaperTrainer],
        *,
        gpu_memory: float,
        base_width: int | None = None,
        configurations: Sequence[str] | None = None,
    ) -> None:
        with warnings.catch_warnings():
            # nnU-Net's presets warn of every target but their own
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(dataset, gpu_memory)
        self.dataset_json: dict[str, Any] = {**normal_form(self.dataset_json), "numTraining": len(self.dataset)}
        self.trainer = trainer
        self.gpu_memory = gpu_memory
        self.base_width = base_width
        self.wanted = [name for wanted in configurations or trainable(trainer) for name in CONFIGURATIONS[wanted]]
        self.usable = max(1, gpu_memory * GIB * (1 - RESERVED_SHARE) - RESERVE)
        self.limits: dict[str, Limits] = {}
        self._voxels: dict[str, float] = {}  # of the data set at a configuration's spacing
        self._refused: tuple[int, ...] | None = None
        self._is_wanted = True
        self._larger: dict[str, tuple[int, ...] | None] = {}
        self._excess: dict[str, float] = {}
        self._measured: dict[str, TrainingMemory] = {}
        self._of_topology: dict[str, tuple[int, TrainingMemory]] = {}

    def plan(self) -> dict[str, Any]:
        """Plans of all configurations that nnU-Net would make; nothing is written but what nnU-Net's planner copies.

        Raises:
            ValueError: if even the smallest patch does not fit.
        """
        with redirect_stdout(StringIO()), patch.dict(os.environ, for_planning()):
            plans: dict[str, Any] = self.plan_experiment()
        return plans

    @override
    def generate_data_identifier(self, configuration_name: str) -> str:
        return configuration_name

    @override
    def get_plans_for_configuration(
        self,
        spacing: Any,
        median_shape: Any,
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict[str, Any],
    ) -> dict[str, Any]:
        # whether there is a 3d_lowres decides how 3d_fullres is trained
        kin = ["2d"] if data_identifier == "2d" else ["3d_fullres", "3d_lowres"]
        self._refused, self._is_wanted = None, not set(kin).isdisjoint(self.wanted)
        # what is measured is kept here, so that every patch is seen
        planned: dict[str, Any] = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, {}
        )
        planned["patch_size"] = self.serving_patch(planned)
        self._larger[data_identifier] = self._refused
        self._voxels[data_identifier] = approximate_n_voxels_dataset
        return planned

    @override
    def static_estimate_VRAM_usage(  # nnU-Net calls it on the instance
        self,
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> float:
        """What nnU-Net's planner compares with its reference: more than that if two patches do not fit."""
        if not self._is_wanted:
            return 1  # whatever nnU-Net begins with will do
        topology = {
            "network_class_name": arch_class_name,
            "arch_kwargs": arch_kwargs,
            "_kw_requires_import": arch_kwargs_req_import,
        }
        planned: dict[str, Any] = {"patch_size": patch_size, "batch_dice": True, "architecture": topology}
        patch = planned["patch_size"] = self.serving_patch(planned)
        planned["architecture"] = self.architecture(planned)
        key = f"{patch} {arch_kwargs['strides']}"
        if key not in self._excess:
            self._excess[key] = self.excess(planned, input_channels, output_channels)
        excess = self._excess[key]
        if excess > 1:
            self._refused = patch
            if prod(patch_size) <= SMALLEST[len(patch)]:
                raise ValueError(self.does_not_fit(planned))
        return excess * self.threshold(len(patch))

    def architecture(self, planned: dict[str, Any]) -> dict[str, Any]:
        """The network for a configuration's topology, as a plan states it."""
        if self.base_width is None:
            return architecture(self.trainer, planned)
        check_width_is_free(self.trainer, planned)
        return self.at_width(planned, self.base_width)

    def at_width(self, planned: dict[str, Any], width: int) -> dict[str, Any]:
        """The same with `width` features at stage 0, and no limit below: nnU-Net's 320 or 512 are of its own width."""
        topology = planned["architecture"]
        doubled = [self.UNet_base_num_features * 2**stage for stage in range(len(topology["arch_kwargs"]["strides"]))]
        arguments = {**topology["arch_kwargs"], "features_per_stage": doubled}
        unlimited = {**planned, "architecture": {**topology, "arch_kwargs": arguments}}
        return with_base_width(architecture(self.trainer, unlimited), width)

    def serving_patch(self, planned: dict[str, Any]) -> tuple[int, ...]:
        """The patch that the trainer's network takes in place of a configuration's."""
        return tuple(int(n) for n in self.trainer.serving_patch(ConfigurationManager(planned)))

    def threshold(self, n_axes: int) -> float:
        """The estimate of a patch of which two just fit, as nnU-Net's planner has it."""
        reference = self.UNet_reference_val_2d if n_axes == 2 else self.UNet_reference_val_3d
        batch = self.UNet_reference_val_corresp_bs_2d if n_axes == 2 else self.UNet_reference_val_corresp_bs_3d
        return reference * self.UNet_vram_target_GB / self.UNet_reference_val_corresp_GB * batch / 2

    def excess(self, planned: dict[str, Any], input_channels: int, output_channels: int) -> float:
        """Memory of a step with two patches, in parts of what there is."""
        patch, strides = planned["patch_size"], planned["architecture"]["arch_kwargs"]["strides"]
        if self._of_topology.get(str(strides), (inf,))[0] > prod(patch):
            # large patches take long to measure, and most are far too large
            steps = [prod(axis) for axis in zip(*strides, strict=True)]
            halves = [ceil(size / step / 2) * step for size, step in zip(patch, steps, strict=True)]
            probe = self.serving_patch({**planned, "patch_size": halves})
            self._of_topology[str(strides)] = prod(probe), self.memory({**planned, "patch_size": probe}, MIN_BATCH_SIZE)
        voxels, memory = self._of_topology[str(strides)]
        estimate = memory.scaled(prod(patch) / voxels).peak / self.usable
        if estimate > SURELY_TOO_MUCH:
            return estimate
        return self.memory(planned, MIN_BATCH_SIZE).peak / self.usable

    def memory(
        self, planned: dict[str, Any], batch_size: int, trainer: type[PaperTrainer] | None = None
    ) -> TrainingMemory:
        """Memory of a training step under autocast, with the planner's trainer or another."""
        trainer = trainer or self.trainer
        configuration = ConfigurationManager({**planned, "batch_size": batch_size})
        key = f"{trainer.__name__} {batch_size} {configuration.patch_size} {configuration.network_arch_init_kwargs}"
        if key not in self._measured:
            plans = PlansManager({"label_manager": "LabelManager"})
            self._measured[key] = expected_memory(trainer, plans, configuration, self.dataset_json, half=True)
        return self._measured[key]

    @override
    def save_plans(self, plans: dict[str, Any]) -> None:
        """Give the configurations that nnU-Net's planner made their networks and batches, and write nothing."""
        recursive_fix_for_json_export(plans)
        planned_all = plans["configurations"]
        plans["configurations"] = {name: planned_all[name] for name in planned_all if name in self.wanted}
        for name, planned in plans["configurations"].items():
            if "inherits_from" not in planned:
                planned["architecture"] = self.architecture(planned)
                cap = round(self._voxels[name] * self.max_dataset_covered / prod(planned["patch_size"]))
                planned["batch_size"] = self.batch_size(planned, max(cap, MIN_BATCH_SIZE))
                self.limits[name] = self.what_limits(name, planned, cap)
                planned[BUDGET] = self.made_for(planned)
        for planned in plans["configurations"].values():
            if "inherits_from" in planned:  # the cascade, whose input has a channel more for every label
                whole = {**plans["configurations"][planned["inherits_from"]], **planned}
                batch_size = self.batch_size(whole, whole["batch_size"])
                planned |= {"batch_size": batch_size} if batch_size < whole["batch_size"] else {}

    def made_for(self, planned: dict[str, Any]) -> dict[str, Any]:
        """For what a configuration is planned."""
        return budget(self.trainer.__name__, gpu_memory=self.gpu_memory, base_width=self.base_width)

    def batch_size(self, planned: dict[str, Any], cap: int) -> int:
        """The largest batch that fits, at most `cap`; the planner took a patch of which two fit."""
        fitting, beyond = MIN_BATCH_SIZE, cap + 1
        while beyond - fitting > 1:
            memory = self.memory(planned, fitting)
            linear = int(fitting * (self.usable - memory.state) / memory.activations)
            batch = min(max(linear, fitting + 1), beyond - 1)
            if self.memory(planned, batch).peak <= self.usable:
                fitting = batch
            else:
                beyond = batch
        return fitting

    def what_limits(self, name: str, planned: dict[str, Any], cap: int) -> Limits:
        """What keeps a configuration's patch and batch from being larger."""
        larger, n_axes = self._larger[name], len(planned["patch_size"])
        patch = self.LIMIT
        if larger is None:
            image = planned["median_image_size_in_voxels"][-n_axes:]
            covered = all(size >= whole for size, whole in zip(planned["patch_size"], image, strict=True))
            patch = "image" if covered else f"nnU-Net's {2048 if n_axes == 2 else 256}{'²³'[n_axes - 2]} voxels"
        capped = planned["batch_size"] >= cap and self.max_dataset_covered < 1
        return Limits(patch, f"{self.max_dataset_covered:.0%} of the data" if capped else self.LIMIT, larger)

    def does_not_fit(self, planned: dict[str, Any]) -> str:
        """What is wrong with a target that is too small for a network, and what makes it fit."""
        patch = " x ".join(map(str, planned["patch_size"]))
        peak = self.memory(planned, MIN_BATCH_SIZE).peak
        needed = (peak + RESERVE) / (1 - RESERVED_SHARE)
        remedies = [f"--gpu-memory {needed / GIB + 0.05:.1f}", *self.levers(planned)]
        return (
            f"--gpu-memory {self.UNet_vram_target_GB:g}: {self.trainer.__name__} takes {peak / GIB:.2f} GiB for "
            f"{MIN_BATCH_SIZE} patches of {patch} voxels, and {self.usable / GIB:.2f} GiB are left for them; "
            f"give {', or '.join(remedies)}"
        )

    def levers(self, planned: dict[str, Any]) -> list[str]:
        """What makes two patches fit: computing again in backward, fewer columns, fewer features."""
        found = [
            f"-tr {trainer.__name__}"
            for trainer in leaner(self.trainer, planned)
            if self.memory(planned, MIN_BATCH_SIZE, trainer).peak <= self.usable
        ]
        width = planned["architecture"]["arch_kwargs"]["features_per_stage"][0] // 2
        while width >= WIDTH_STEP:
            narrow = {**planned, "architecture": self.at_width(planned, width)}
            if self.memory(narrow, MIN_BATCH_SIZE).peak <= self.usable:
                return [*found, f"--base-width {width}"]
            width //= 2
        return found


class BaselinePlanner(NetworkPlanner):
    """The planner of nnU-Net's own networks, with nnU-Net's estimate and references: they get nnU-Net's own plans.

    What they keep for backward, divided by 7.96 bytes (PlainConvUNet) or 7.87 (ResidualEncoderUNet), is that estimate
    to 1 per cent, but nnU-Net rounds its batches, and a measure that close can fall on the other side.
    """

    trainer: type[BaselineTrainer]
    LIMIT = "nnU-Net's reference"

    @override
    def excess(self, planned: dict[str, Any], input_channels: int, output_channels: int) -> float:
        with torch.device("meta"):  # the estimate is counted, and filling weights took most of the time
            estimate: float = ExperimentPlanner.static_estimate_VRAM_usage(
                planned["patch_size"], input_channels, output_channels, *planned["architecture"].values()
            )
        return estimate / self.threshold(len(planned["patch_size"]))

    @override
    def batch_size(self, planned: dict[str, Any], cap: int) -> int:
        return int(planned["batch_size"])


class ResidualPlanner(BaselinePlanner):
    """Its patches have to fit nnU-Net's reference whatever the batch that belongs to it."""

    @override
    def threshold(self, n_axes: int) -> float:
        reference = self.UNet_reference_val_2d if n_axes == 2 else self.UNet_reference_val_3d
        return reference * self.UNet_vram_target_GB / self.UNet_reference_val_corresp_GB


class ResEncMPlanner(ResidualPlanner, nnUNetPlannerResEncM):
    """nnU-Net's preset for 8 GB, which its documentation has scaled to other targets."""


class ResEncLPlanner(ResidualPlanner, nnUNetPlannerResEncL):
    """nnU-Net's preset for 24 GB."""


class ResEncXLPlanner(ResidualPlanner, nnUNetPlannerResEncXL):
    """nnU-Net's preset for 40 GB."""


def planner_class(trainer: type[PaperTrainer], gpu_memory: float) -> type[NetworkPlanner]:
    """The planner of a trainer's network for a GPU's GiB."""
    if issubclass(trainer, ResidualEncoderUNetTrainer):
        presets: dict[float, type[NetworkPlanner]] = {24: ResEncLPlanner, 40: ResEncXLPlanner}
        return presets.get(gpu_memory, ResEncMPlanner)
    return BaselinePlanner if issubclass(trainer, BaselineTrainer) else NetworkPlanner


def trainable(trainer: type[PaperTrainer]) -> list[str]:
    """The configurations of the dimensions that a trainer's network has."""
    return [name for name in CONFIGURATIONS if int(name[0]) in trainer.dimensions()]


def architecture(trainer: type[PaperTrainer], planned: dict[str, Any]) -> dict[str, Any]:
    """A trainer's network as a plan states it, with the topology of a configuration."""
    configuration = ConfigurationManager(planned)
    arguments = trainer.planned_arguments(configuration)
    return {
        "network_class_name": trainer.network_path(),
        "arch_kwargs": arguments,
        "_kw_requires_import": [key for key in configuration.network_arch_init_kwargs_req_import if key in arguments],
    }


def leaner(trainer: type[PaperTrainer], planned: dict[str, Any]) -> Iterator[type[PaperTrainer]]:
    """Trainers of the same network that take less: with `_checkpoint`, and with fewer columns."""
    n_stages = len(planned["architecture"]["arch_kwargs"]["strides"])
    for word in ("checkpoint", *(f"L{level}" for level in range(n_stages - 2, 0, -1))):
        try:
            yield resolve_paper(f"{trainer.__name__}_{word}")
        except ValueError:  # it has no such option, or has it already
            continue


def check_width_is_free(trainer: type[PaperTrainer], planned: dict[str, Any]) -> None:
    """Check that a plan decides how wide a trainer's network is.

    Raises:
        ValueError: if the trainer's name does, or the network has but one width.
    """
    if not getattr(trainer.network_class, "has_width", True):
        raise ValueError(
            f"{trainer.__name__}: its network has one width; plan it without --match and --base-width, and match the "
            "others to its plans"
        )
    if "features_per_stage" in trainer.architecture_options(ConfigurationManager(planned)):
        raise ValueError(f"{trainer.__name__}: its name says how wide the network is; leave that option out")


def with_base_width(stated: dict[str, Any], width: int) -> dict[str, Any]:
    """A plan's network with `width` features at stage 0 and all others in proportion."""
    features = stated["arch_kwargs"]["features_per_stage"]
    scaled = [max(1, round(n * width / features[0])) for n in features]
    return {**stated, "arch_kwargs": {**stated["arch_kwargs"], "features_per_stage": scaled}}

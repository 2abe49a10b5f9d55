"""What a training takes of memory, known before anything of it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunet_archs.measure.memory import GIB, TrainingMemory, training_memory


class LossSetting(Protocol):
    """What a loss depends on. A trainer knows it, and so does `Planned`, before there is one."""

    label_manager: LabelManager
    configuration_manager: ConfigurationManager
    branch_stages: tuple[int, ...]
    enable_deep_supervision: bool
    is_ddp: bool

    @property
    def target_strides(self) -> Sequence[Sequence[int]]:
        """The stride of every stage, by which targets are made."""

    def _get_deep_supervision_scales(self) -> list[list[float]] | None: ...

    def _do_i_compile(self) -> bool: ...


@dataclass
class Planned:
    """The setting of a loss in one process, from plans alone; `branch_stages` are those of the network's outputs."""

    label_manager: LabelManager
    configuration_manager: ConfigurationManager
    branch_stages: tuple[int, ...]
    target_strides: Sequence[Sequence[int]]
    is_ddp: bool = False

    def __post_init__(self) -> None:
        self.enable_deep_supervision = len(self.branch_stages) > 1

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        return supervision_scales(self)

    def _do_i_compile(self) -> bool:
        return False


def supervision_scales(setting: LossSetting) -> list[list[float]] | None:
    """Size of each target in parts of the patch, an axis each, down to the deepest supervised stage."""
    if not setting.enable_deep_supervision:
        return None
    strides = np.cumprod(setting.target_strides, axis=0)
    return [list(1 / stride) for stride in strides[: max(setting.branch_stages) + 1]]


class Plannable(Protocol):
    """The methods of a trainer's class that are called before there is a trainer."""

    def build_network_architecture(
        self, plans: PlansManager, configuration: ConfigurationManager, channels: int, heads: int, /
    ) -> nn.Module:
        """The network."""

    def supervised_stages(self, network: nn.Module, n_stages: int, /) -> tuple[int, ...]:
        """The stages of the network's outputs."""

    def stage_strides(self, configuration: ConfigurationManager, /) -> Sequence[Sequence[int]]:
        """The stride of every stage, by which targets are made."""

    def make_loss(self, setting: LossSetting, /) -> nn.Module:
        """The loss of these outputs."""

    def moments(self) -> int:
        """Tensors that the optimiser keeps for a parameter."""


def expected_memory(
    trainer: Plannable,
    plans: PlansManager,
    configuration: ConfigurationManager,
    dataset_json: dict[str, Any],
    *,
    half: bool,
    batch_size: int | None = None,
) -> TrainingMemory:
    """Memory of a step of a trainer's class at a plan, of its network, loss and optimiser.

    `half` is as under autocast, `batch_size` what one of several GPUs gets of the plan's batch.
    """
    # how many voxels are ignored decides what a loss does, and there are none to look at
    labels = {name: label for name, label in dataset_json["labels"].items() if name != "ignore"}
    label_manager = plans.get_label_manager({**dataset_json, "labels": labels})
    channels = determine_num_input_channels(plans, configuration, dataset_json)
    with torch.device("meta"):
        network = trainer.build_network_architecture(
            plans, configuration, channels, label_manager.num_segmentation_heads
        )
    strides = trainer.stage_strides(configuration)
    stages = trainer.supervised_stages(network, len(strides))
    planned = Planned(label_manager, configuration, stages, strides)
    decoder: Any = network.decoder
    decoder.deep_supervision = planned.enable_deep_supervision
    batch_size = batch_size or configuration.batch_size
    loss, targets = trainer.make_loss(planned), make_targets(planned, batch_size)
    return training_memory(
        network,
        (batch_size, channels, *configuration.patch_size),
        # under autocast nnU-Net's loss is computed in float32 too
        lambda outputs: loss([y.float() for y in outputs] if isinstance(outputs, list) else outputs.float(), targets),
        half=half,
        moments=trainer.moments(),
    )


def make_targets(planned: LossSetting, batch_size: int) -> Tensor | list[Tensor]:
    """Targets as nnU-Net's data loader gives them, one a stage under deep supervision, on the meta device."""
    labels, configuration = planned.label_manager, planned.configuration_manager
    channels = len(labels.foreground_regions) if labels.has_regions else 1
    dtype = torch.bool if labels.has_regions else torch.int16
    sizes = [configuration.patch_size // step for step in np.cumprod(planned.target_strides, axis=0)]
    targets = [torch.empty(batch_size, channels, *size, dtype=dtype, device="meta") for size in sizes]
    return targets if planned.enable_deep_supervision else targets[0]


def describe_memory(memory: TrainingMemory, device: torch.device, *, dataset: str, trainer: str) -> str:
    """What a step is expected to take, what the GPU has, and what to do where that is less."""
    expected = f"A training step is expected to take {memory.peak / GIB:.1f} GiB"
    if device.type != "cuda":
        return expected
    free, total = (n / GIB for n in torch.cuda.mem_get_info(device))
    expected += f", besides some 2 GiB of CUDA's own; {torch.cuda.get_device_name(device)} has {total:.1f} GiB"
    if memory.peak / GIB + 2 < free:
        return expected
    return (
        f"{expected}, of which {free:.1f} are free: that will hardly fit. Plan for this network (nnunet-archs plan "
        f"-d {dataset} -tr {trainer} --gpu-memory {free:.0f}), append _checkpoint to the trainer's name if it has that "
        "option, or lower batch_size or patch_size in a copy of the plans."
    )

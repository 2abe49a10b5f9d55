"""What a training takes of memory, known before anything of it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor

from nnunet_archs.measure.memory import GIB, TrainingMemory, training_memory

if TYPE_CHECKING:
    from .base import PaperTrainer


def expected_memory(
    trainer: type[PaperTrainer],
    plans: PlansManager,
    configuration: ConfigurationManager,
    dataset_json: dict[str, Any],
    *,
    half: bool,
    batch_size: int | None = None,
) -> TrainingMemory:
    """Memory of a step of a trainer at a plan, of its network, loss and optimiser.

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
    planned = trainer.__new__(trainer)  # as much of a trainer as its loss needs: no folders, no log, no data
    planned.device = torch.device("cpu")
    planned.is_ddp = False
    planned.local_rank = -1  # the one that logs is 0
    planned.configuration_manager = configuration
    planned.label_manager = label_manager
    planned.branch_stages = trainer.supervised_stages(network, len(configuration.pool_op_kernel_sizes))
    planned.enable_deep_supervision = len(planned.branch_stages) > 1
    decoder: Any = network.decoder
    decoder.deep_supervision = planned.enable_deep_supervision
    batch_size = batch_size or configuration.batch_size
    loss, targets = planned._build_loss(), make_targets(planned, batch_size)
    return training_memory(
        network,
        (batch_size, channels, *configuration.patch_size),
        # under autocast nnU-Net's loss is computed in float32 too
        lambda outputs: loss([y.float() for y in outputs] if isinstance(outputs, list) else outputs.float(), targets),
        half=half,
        moments=trainer.moments(),
    )


def make_targets(planned: PaperTrainer, batch_size: int) -> Tensor | list[Tensor]:
    """Targets as nnU-Net's data loader gives them, one a stage under deep supervision, on the meta device."""
    labels, configuration = planned.label_manager, planned.configuration_manager
    channels = len(labels.foreground_regions) if labels.has_regions else 1
    dtype = torch.bool if labels.has_regions else torch.int16
    sizes = [configuration.patch_size // step for step in np.cumprod(configuration.pool_op_kernel_sizes, axis=0)]
    targets = [torch.empty(batch_size, channels, *size, dtype=dtype, device="meta") for size in sizes]
    return targets if planned.enable_deep_supervision else targets[0]


def describe_memory(trainer: PaperTrainer) -> str:
    """What a step is expected to take, what the GPU has, and what to do where that is less."""
    on_gpu = trainer.device.type == "cuda"
    memory = expected_memory(
        type(trainer),
        trainer.plans_manager,
        trainer.configuration_manager,
        trainer.dataset_json,
        half=on_gpu,
        batch_size=trainer.batch_size,
    )
    expected = f"A training step is expected to take {memory.peak / GIB:.1f} GiB"
    if not on_gpu:
        return expected
    free, total = (n / GIB for n in torch.cuda.mem_get_info(trainer.device))
    expected += f", besides some 2 GiB of CUDA's own; {torch.cuda.get_device_name(trainer.device)} has {total:.1f} GiB"
    if memory.peak / GIB + 2 < free:
        return expected
    return (
        f"{expected}, of which {free:.1f} are free: that will hardly fit. Plan for this network (nnunet-archs plan "
        f"-d {trainer.plans_manager.dataset_name[7:10]} -tr {type(trainer).__name__} --gpu-memory {free:.0f}), append "
        "_checkpoint to the trainer's name if it has that option, or lower batch_size or patch_size in a copy of the "
        "plans."
    )

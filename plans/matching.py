"""Plans of equal budget: other networks at the patch and batch of given plans, as wide as the same budget allows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, Literal

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_archs.nnunet.plans import BUDGET, budget
from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.memory import expected_memory
from nnunet_archs.trainers.registry import paper_trainers

from .planner import WIDTH_STEP, architecture, check_width_is_free, with_base_width

Budget = Literal["memory", "parameters"]
Cost = Callable[[type[PaperTrainer], ConfigurationManager], int]


def match(
    plans: dict[str, Any], trainer: type[PaperTrainer], dataset_json: dict[str, Any], by: Budget
) -> dict[str, Any]:
    """Plans for a trainer's network that keep patch, batch and data of `plans`, and do not exceed its budget.

    Raises:
        ValueError: if the given plans are for a network that no trainer here has, or if no width meets the budget.
    """
    cost = partial({"memory": peak_memory, "parameters": parameters}[by], PlansManager(plans), dataset_json)
    matched = deepcopy(plans)
    for name, own in matched["configurations"].items():
        if "inherits_from" not in own and "architecture" not in own:
            raise ValueError(
                f"--match {plans['plans_name']}: an old nnU-Net made it, without architectures; plan again"
            )
        if "architecture" in own:
            planned = deepcopy(PlansManager(plans).get_configuration(name).configuration)
            most = cost(trainer_of(planned), ConfigurationManager(planned))
            own["architecture"] = widest(trainer, planned, most, cost, f"{plans['plans_name']}/{name}")
            given = planned.get(BUDGET) or {"gpu_memory": None, "base_width": None}
            sizes = {key: given[key] for key in ("gpu_memory", "base_width")}
            own[BUDGET] = budget(trainer.__name__, **sizes, match=plans["plans_name"], by=by)
    return matched


def widest(trainer: type[PaperTrainer], planned: dict[str, Any], budget: int, cost: Cost, name: str) -> dict[str, Any]:
    """A trainer's network, as a plan states it, with as many features at stage 0 as its budget allows.

    Raises:
        ValueError: if the fewest are too many, or if its name decides them.
    """
    check_width_is_free(trainer, planned)
    stated = architecture(trainer, planned)

    def with_width(width: int) -> int:
        return cost(trainer, ConfigurationManager({**planned, "architecture": with_base_width(stated, width)}))

    if with_width(WIDTH_STEP) > budget:
        raise ValueError(
            f"{name}: {trainer.__name__} exceeds its budget at any width; append _checkpoint, or leave it out"
        )
    most = WIDTH_STEP
    while with_width(most) <= budget:
        most *= 2
    widths = range(WIDTH_STEP, most, WIDTH_STEP)
    return with_base_width(stated, widths[bisect_right(widths, budget, key=with_width) - 1])


def trainer_of(planned: dict[str, Any]) -> type[PaperTrainer]:
    """The trainer of the network that a configuration names.

    Raises:
        ValueError: if there is none.
    """
    path = planned["architecture"]["network_class_name"]
    for trainer in paper_trainers():
        if path == trainer.network_path():
            return trainer
    raise ValueError(f"--match: {path} is the network of no trainer here; give plans of nnU-Net's or of ours")


def peak_memory(
    plans: PlansManager, dataset_json: dict[str, Any], trainer: type[PaperTrainer], configuration: ConfigurationManager
) -> int:
    """Bytes that a training step takes at its peak, under autocast."""
    return expected_memory(trainer, plans, configuration, dataset_json, half=True).peak


def parameters(
    plans: PlansManager, dataset_json: dict[str, Any], trainer: type[PaperTrainer], configuration: ConfigurationManager
) -> int:
    """Parameters of the network."""
    heads = plans.get_label_manager(dataset_json).num_segmentation_heads
    channels = determine_num_input_channels(plans, configuration, dataset_json)
    with torch.device("meta"):
        network = trainer.build_network_architecture(plans, configuration, channels, heads)
    return sum(parameter.numel() for parameter in network.parameters())

"""The networks that are wider than any plan says, by their ratio, however the plan came about."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hand_made import make_dataset_json, make_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.plans.matching import match
from nnunet_archs.plans.planner import architecture, with_base_width
from nnunet_archs.trainers.registry import resolve_paper

PLANNED = [32, 64, 128]


def plans_of(features: list[int], n_axes: int) -> dict[str, Any]:
    plans = make_plans(n_axes)
    plans["configurations"]["tiny"]["architecture"]["arch_kwargs"]["features_per_stage"] = features
    return plans


def shapes(trainer: str, plans: dict[str, Any]) -> dict[str, torch.Size]:
    """Names and shapes of a network's parameters."""
    manager = PlansManager(plans)
    with torch.device("meta"):
        network = resolve_paper(trainer).build_network_architecture(manager, manager.get_configuration("tiny"), 1, 3)
    return {name: parameter.shape for name, parameter in network.named_parameters()}


@pytest.mark.parametrize(
    ("name", "narrow", "widened", "n_axes"),
    [
        ("WideUNetTrainer", "ClassicalUNetTrainer", [35, 70, 140], 2),
        ("WUNetTrainer", "UNetTrainer", [35, 70, 140], 2),
        ("WVNetTrainer", "VNetTrainer", [36, 72, 144], 3),
    ],
)
def test_features_are_widened_once(name: str, narrow: str, widened: list[int], n_axes: int) -> None:
    expected = shapes(narrow, plans_of(widened, n_axes))
    plans = plans_of(PLANNED, n_axes)
    assert shapes(name, plans) == expected
    tiny = plans["configurations"]["tiny"]
    for _ in range(2):  # the plan of another network's topology, then of its own
        tiny["architecture"] = architecture(resolve_paper(name), tiny)
        assert tiny["architecture"]["arch_kwargs"]["features_per_stage"] == PLANNED
        assert shapes(name, plans) == expected


def test_a_wide_network_matched_to_its_own_plans_keeps_their_features() -> None:
    trainer = resolve_paper("WUNetTrainer")
    plans = plans_of(PLANNED, 2)
    tiny = plans["configurations"]["tiny"]
    tiny["architecture"] = with_base_width(architecture(trainer, tiny), 16)
    matched = match(plans, trainer, make_dataset_json(), "parameters")["configurations"]["tiny"]["architecture"]
    assert matched == tiny["architecture"]

"""The sizes of FocusNet++ that a trainer's name decides."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from hand_made import make_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_archs.trainers.focusnet import PRESETS
from nnunet_archs.trainers.registry import resolve_paper

TEXT = [32, 64, 128, 192, 256]
RELEASED = [48, 96, 156, 256, 512]


def plans_of_seven_stages(n_axes: int) -> dict[str, Any]:
    plans = make_plans(n_axes)
    kwargs = plans["configurations"]["tiny"]["architecture"]["arch_kwargs"]
    kwargs.update(
        n_stages=7,
        features_per_stage=[4] * 7,
        kernel_sizes=[[3] * n_axes] * 7,
        strides=[[1] * n_axes] + [[2] * n_axes] * 6,
    )
    return plans


def build(name: str, plans: dict[str, Any]) -> Any:
    manager = PlansManager(plans)
    with torch.device("meta"):
        return resolve_paper(name).build_network_architecture(manager, manager.get_configuration("tiny"), 1, 3)


def is_released(network: nn.Module) -> bool:
    return not any(key.endswith("excite.weigh.0.weight") for key in network.state_dict())


@pytest.mark.parametrize(
    ("word", "n_axes", "features", "released"),
    [
        ("", 2, [*TEXT, 256, 256], False),
        ("", 3, [*TEXT, 256, 256], False),
        ("_L", 2, [*RELEASED, 512, 512], False),
        ("_L", 3, [48, 96, 156, 256, 320, 320, 320], False),
        ("_S", 2, [16, 32, 64, 128, 256, 256, 256], True),
        ("_released", 2, [*RELEASED, 512, 512], True),
        ("_released", 3, [48, 96, 156, 256, 320, 320, 320], True),
    ],
)
def test_features_for_plans_of_another_network(word: str, n_axes: int, features: list[int], released: bool) -> None:
    plans = plans_of_seven_stages(n_axes)
    before = deepcopy(plans)
    network = build(f"FocusNetPlusPlusTrainer{word}", plans)
    assert plans == before
    assert list(network.topology.features_per_stage) == features
    assert network.encoder.stem.out_channels == 32
    assert is_released(network) == released


def test_plan_of_the_network_decides_where_the_name_does_not() -> None:
    plans = plans_of_seven_stages(2)
    architecture = plans["configurations"]["tiny"]["architecture"]
    architecture["network_class_name"] = "nnunet_archs.networks.FocusNetPlusPlus"
    for key in ("n_conv_per_stage", "n_conv_per_stage_decoder"):
        del architecture["arch_kwargs"][key]
    architecture["arch_kwargs"].update(features_per_stage=[8] * 7, block="released", stem=16)
    planned = build("FocusNetPlusPlusTrainer", plans)
    assert list(planned.topology.features_per_stage) == [8] * 7
    assert planned.encoder.stem.out_channels == 16
    assert is_released(planned)
    named = build("FocusNetPlusPlusTrainer_L", plans)
    assert list(named.topology.features_per_stage) == [*RELEASED, 512, 512]
    assert named.encoder.stem.out_channels == 32
    assert not is_released(named)


def test_presets_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="_L and _released both settle the preset"):
        resolve_paper("FocusNetPlusPlusTrainer_L_released")


def test_presets_are_of_this_trainer() -> None:
    spelled = {option.spelling for option in resolve_paper("FocusNetPlusPlusTrainer").options}
    assert spelled == PRESETS.keys() - {"text"}
    with pytest.raises(ValueError, match="UNetTrainer has no option _S;"):
        resolve_paper("UNetTrainer_S")

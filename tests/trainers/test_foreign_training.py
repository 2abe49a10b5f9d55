"""Networks from elsewhere as nnU-Net's trainers, on plans made by hand."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from hand_made import make_batch, make_dataset_json, make_plans, make_trainer, serving_plans
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.plans.matching import match
from nnunet_archs.plans.planner import architecture
from nnunet_archs.trainers.foreign import ForeignTrainer
from nnunet_archs.trainers.memory import expected_memory
from nnunet_archs.trainers.registry import paper_trainers, resolve_paper

TRAINERS = [
    pytest.param(trainer, n_axes, id=f"{trainer.__name__}-{n_axes}d")
    for trainer in paper_trainers()
    if issubclass(trainer, ForeignTrainer) and trainer.network_class.is_graph  # others: test_detection.py
    for n_axes in trainer.network_class.dimensions
]


@pytest.mark.parametrize(("trainer", "n_axes"), TRAINERS)
def test_plans_of_another_network_serve_and_the_memory_is_known(trainer: Any, n_axes: int) -> None:
    plans = serving_plans(trainer, n_axes)
    assert trainer.check_plans(plans, "tiny", make_dataset_json())[0] == 0
    manager = PlansManager(plans)
    memory = expected_memory(trainer, manager, manager.get_configuration("tiny"), make_dataset_json(), half=True)
    assert 0 < memory.kept <= memory.activations


@pytest.mark.parametrize("stock", [True, False], ids=["stock", "ours"])
@pytest.mark.parametrize("name", ["SegResNetTrainer", "MedNeXtTrainer"])
def test_a_plan_that_names_the_network_trains(name: str, stock: bool) -> None:
    plans = serving_plans(resolve_paper(name), 2)
    tiny = plans["configurations"]["tiny"]
    tiny["architecture"] = architecture(resolve_paper(name), tiny)
    assert tiny["architecture"]["arch_kwargs"]["patch_size"] == tiny["patch_size"]
    torch.manual_seed(0)
    if stock:
        trainer = nnUNetTrainer(plans, "tiny", 0, make_dataset_json(), torch.device("cpu"))
        trainer.initialize()
    else:
        trainer = make_trainer(name, plans)
    batch = make_batch(trainer)
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(8)]
    assert losses[-1] < losses[0]


def test_every_head_has_a_target_of_its_size_whatever_the_plans_strides() -> None:
    plans = serving_plans(resolve_paper("MedNeXtTrainer"), 2)
    assert len(plans["configurations"]["tiny"]["architecture"]["arch_kwargs"]["strides"]) == 3
    trainer = make_trainer("MedNeXtTrainer", deepcopy(plans))
    batch = make_batch(trainer)
    outputs = trainer.network.eval()(batch["data"])
    assert [y.shape[2:] for y in outputs] == [target.shape[2:] for target in batch["target"]]
    assert [y.shape[-1] for y in outputs] == [32, 16, 8, 4]
    assert not make_trainer("MedNeXtTrainer_noDS", plans).enable_deep_supervision


def test_the_patch_is_the_configurations() -> None:
    plans = serving_plans(resolve_paper("UNETRTrainer"), 2)
    tiny = plans["configurations"]["tiny"]
    tiny["architecture"] = architecture(resolve_paper("UNETRTrainer"), tiny)
    tiny["patch_size"] = [48, 32]
    trainer = make_trainer("UNETRTrainer", plans)
    assert trainer.network(torch.zeros(1, 1, 48, 32)).shape == (1, 3, 48, 32)


@pytest.mark.parametrize(
    ("name", "n_axes", "message"),
    [
        ("SwinUNETRTrainer", 3, r"patch_size=\[8, 16, 16\]: SwinUNETR .*the next that serves is \[32, 32, 64\]"),
        ("UNETRTrainer", 2, r"patch_size=\[32, 24\]: UNETR .*the next that serves is \[32, 32\]"),
        ("PSPNetTrainer", 3, "PSPNet exists only in 2D"),
        ("SegResNetTrainer_DS", 2, "SegResNet has no heads at lower stages; leave _DS out"),
    ],
)
def test_what_cannot_be_trained(name: str, n_axes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_paper(name).check_plans(make_plans(n_axes), "tiny", make_dataset_json())


def test_there_is_nothing_to_recompute() -> None:
    with pytest.raises(ValueError, match="has no option _checkpoint"):
        resolve_paper("UNETRTrainer_checkpoint")


def test_widths_are_matched_where_there_are_some() -> None:
    plans = serving_plans(resolve_paper("SegResNetTrainer"), 2)
    plans["configurations"]["tiny"]["architecture"]["arch_kwargs"]["features_per_stage"] = [64, 128, 128]
    matched = match(plans, resolve_paper("SegResNetTrainer"), make_dataset_json(), "parameters")
    stated = matched["configurations"]["tiny"]["architecture"]["arch_kwargs"]
    assert stated["features_per_stage"][0] > 4
    assert stated["patch_size"] == plans["configurations"]["tiny"]["patch_size"]
    with pytest.raises(ValueError, match="PSPNetTrainer: its network has one width; plan it without --match"):
        match(plans, resolve_paper("PSPNetTrainer"), make_dataset_json(), "parameters")

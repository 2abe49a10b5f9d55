"""Inf-Net with its loss, and with others."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hand_made import make_batch, make_plans, make_trainer
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_archs.losses import AuxiliaryLoss, BoundaryWeightedLoss, CrossEntropyLoss, DeepSupervisionLoss, EdgeLoss


def trainer_of(name: str, target: str = "labels") -> Any:
    plans = make_plans(2)
    plans["configurations"]["tiny"]["patch_size"] = [32, 64]
    return make_trainer(name, plans, target)


def train(trainer: nnUNetTrainer, n_steps: int) -> list[float]:
    batch = make_batch(trainer)
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(n_steps)]
    trainer.network.eval()
    trainer.validation_step(batch)
    return losses


def test_it_learns() -> None:
    losses = train(trainer_of("InfNetTrainer"), 16)
    assert max(losses[-2:]) < 0.9 * losses[0]


def test_four_maps_and_edges() -> None:
    trainer = trainer_of("InfNetTrainer", "regions+ignore")
    (loss,) = train(trainer, 1)
    assert math.isfinite(loss)
    assert all(parameter.grad is not None for parameter in trainer.network.parameters())
    assert isinstance(trainer.loss, AuxiliaryLoss)
    assert isinstance(trainer.loss.auxiliary, EdgeLoss)
    assert isinstance(trainer.loss.segmentation, DeepSupervisionLoss)
    assert trainer.loss.segmentation.weights == (1,) * 4
    assert isinstance(trainer.loss.segmentation.loss, BoundaryWeightedLoss)


def test_another_loss_has_no_edges() -> None:
    trainer = trainer_of("InfNetTrainer_CE")
    assert isinstance(trainer.loss.loss, CrossEntropyLoss)
    assert trainer.network.body.edge_head is None
    train(trainer, 1)


@pytest.mark.parametrize("name", ["InfNetTrainer_DiceCE", "InfNetTrainer_noDS"])
def test_the_prediction_alone(name: str) -> None:
    trainer = trainer_of(name)
    assert not trainer.enable_deep_supervision
    train(trainer, 1)

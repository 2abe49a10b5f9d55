"""What a step is expected to take, against steps; and plans that name a network, with nnU-Net's own trainer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hand_made import ADAPTING, FLAT, by_turns, make_batch, make_dataset_json, make_plans, make_trainer
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.measure.memory import GIB, LiveStorages
from nnunet_archs.plans.planner import architecture
from nnunet_archs.trainers.memory import expected_memory
from nnunet_archs.trainers.registry import resolve_paper

CPU = torch.device("cpu")


def expect(name: str, plans: dict[str, Any], target: str = "labels", **options: Any) -> Any:
    manager = PlansManager(plans)
    configuration = manager.get_configuration("tiny")
    return expected_memory(
        resolve_paper(name), manager, configuration, make_dataset_json(target), **{"half": False} | options
    )


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("UNetSharpTrainer", "labels"),
        ("UNetSharpTrainer", "regions"),
        ("UNetSharpTrainer_CGM_checkpoint", "regions"),
        ("CAggNetTrainer", "labels"),
        ("CrosslinkNetTrainer", "regions"),
        ("FocusNetPlusPlusTrainer", "labels"),
        ("PlainConvUNetTrainer", "labels"),
        ("PlainConvUNetTrainer", "regions"),
    ],
)
def test_a_real_step_takes_what_is_expected(name: str, target: str) -> None:
    plans = make_plans(2)
    plans["configurations"]["tiny"] |= {"patch_size": [128, 128], "batch_size": 4}
    trainer = make_trainer(name, plans, target)
    batch = make_batch(trainer)
    trainer.train_step(batch)  # the optimiser's moments are there from now on
    moments = [value for state in trainer.optimizer.state.values() for value in state.values()]
    batch = {"data": batch["data"], "target": batch["target"]}
    targets = batch["target"] if isinstance(batch["target"], list) else [batch["target"]]
    there = [batch["data"], *targets, *trainer.network.parameters(), *trainer.network.buffers(), *moments]
    with LiveStorages(there) as live:
        trainer.train_step(batch)
    expected = expect(name, plans, target)
    assert max(expected.activations, expected.update) == pytest.approx(live.peak, rel=0.1)


@pytest.mark.parametrize("name", [*ADAPTING, *FLAT])
def test_every_trainer_has_an_expectation(name: str) -> None:
    plans = make_plans(2 if name in FLAT else 3)
    whole, half = (expect(name, plans, "regions+ignore", half=half) for half in (False, True))
    assert whole.state < half.state
    assert 0 < half.kept < whole.kept <= whole.activations


def test_a_smaller_batch_takes_less() -> None:
    assert expect("CAggNetTrainer", make_plans(3), batch_size=1).peak < expect("CAggNetTrainer", make_plans(3)).peak


def test_the_step_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer("UNetSharpTrainer_5epochs", make_plans(2))
    peak = expect("UNetSharpTrainer", make_plans(2)).peak / GIB
    assert trainer._describe_memory() == f"A training step is expected to take {peak:.1f} GiB"
    free = 10 * GIB
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free, 24 * GIB))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "a GPU")
    trainer.device = torch.device("cuda")
    assert trainer._describe_memory().endswith("besides some 2 GiB of CUDA's own; a GPU has 24.0 GiB")
    free = GIB
    remedy = trainer._describe_memory()
    assert "of which 1.0 are free: that will hardly fit" in remedy
    assert "nnunet-archs plan -d 901 -tr UNetSharpTrainer_5epochs --gpu-memory 1)" in remedy


@pytest.mark.parametrize(
    ("name", "n_axes"), by_turns([*ADAPTING, *FLAT, "UNetSharpTrainer_L1_checkpoint", "FocusNetPlusPlusTrainer_S"])
)
def test_nnunets_own_trainer_trains_the_network_that_a_plan_names(name: str, n_axes: int) -> None:
    plans = make_plans(n_axes)
    tiny = plans["configurations"]["tiny"]
    tiny["architecture"] = architecture(resolve_paper(name), tiny)
    torch.manual_seed(0)
    trainer = nnUNetTrainer(plans, "tiny", 0, make_dataset_json(), CPU)
    trainer.initialize()
    assert type(trainer.network).__name__ == resolve_paper(name).network_class.__name__
    batch = make_batch(trainer)
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(10)]
    assert losses[-1] < losses[0]
    network = nnUNetTrainer.build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 1, 3, enable_deep_supervision=False
    )
    network.load_state_dict(trainer.network.state_dict())
    assert network(batch["data"]).shape == (2, 3, *tiny["patch_size"])

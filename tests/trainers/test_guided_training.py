"""The trainers' option _CGM: the answers are learnt in every recipe, and gate what is predicted."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import LABELS, PATCH, by_turns, make_batch, make_plans, make_trainer
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_archs.losses import AuxiliaryLoss, PresenceLoss
from nnunet_archs.networks.guidance import ClassificationGuidedModule
from nnunet_archs.trainers.registry import resolve_paper

GUIDED = ["UNetSharpTrainer", "VNetSharpTrainer"]
OPTIONS = ["", "_CE", "_DiceCE", "_noDS", "_DS", "_DiceCE_noDS", "_L1"]


def guidance(network: nn.Module) -> list[ClassificationGuidedModule]:
    return [module for module in network.modules() if isinstance(module, ClassificationGuidedModule)]


def build(name: str, n_axes: int = 2, *, n_classes: int = 3, supervision: bool = True) -> Any:
    manager = PlansManager(make_plans(n_axes))
    configuration = manager.get_configuration("tiny")
    return resolve_paper(name).build_network_architecture(manager, configuration, 1, n_classes, supervision)


def run_epoch(name: str, target: str, n_axes: int) -> Any:
    """A trainer after an epoch of two steps on one batch; what it learnt and gives is looked at."""
    trainer = make_trainer(name, make_plans(n_axes), target)
    batch = make_batch(trainer)
    before = deepcopy(trainer.network.state_dict())
    trainer.on_train_epoch_start()
    outputs = [trainer.train_step(batch) for _ in range(2)]
    trainer.on_train_epoch_end(outputs)
    assert np.isfinite([output["loss"] for output in outputs]).all()
    for key, value in trainer.network.state_dict().items():
        assert value.isfinite().all(), key
        if "guidance" in key and key.endswith("weight"):
            assert not torch.equal(value, before[key]), key
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        result = trainer.validation_step(deepcopy(batch))
    assert np.isfinite(result["loss"])
    assert len(result["tp_hard"]) == 2
    return trainer


class TestTraining:
    @pytest.mark.parametrize("target", [target for target in LABELS if target != "two channels"])
    @pytest.mark.parametrize(("name", "n_axes"), by_turns(GUIDED))
    def test_every_kind_of_target(self, name: str, target: str, n_axes: int) -> None:
        trainer = run_epoch(f"{name}_CGM", target, n_axes)
        regions = target.startswith("regions")
        assert len(guidance(trainer.network)) == 4
        assert all(
            module.foreground.tolist() == ([True] * 2 if regions else [False, True, True])
            for module in guidance(trainer.network)
        )

    @pytest.mark.parametrize("options", OPTIONS)
    def test_every_recipe(self, options: str) -> None:
        trainer = run_epoch(f"UNetSharpTrainer{options}_CGM", "labels+ignore", 2)
        assert isinstance(trainer.loss, AuxiliaryLoss)
        assert trainer.enable_deep_supervision == ("noDS" not in options)

    @pytest.mark.parametrize(
        ("options", "target"), [("", "labels"), *((option, "regions+ignore") for option in OPTIONS)]
    )
    def test_loss_is_that_of_the_recipe_and_of_the_answers(self, options: str, target: str) -> None:
        trainer = make_trainer(f"UNetSharpTrainer{options}_CGM", make_plans(2), target)
        plain = make_trainer(f"UNetSharpTrainer{options}", make_plans(2), target)
        batch = make_batch(trainer)
        n = len(trainer.branch_stages)
        with torch.no_grad():
            outputs = trainer.network(batch["data"])
            assert len(outputs) == 2 * n
            supervised = trainer.enable_deep_supervision
            segmentation = plain.loss(outputs[:n] if supervised else outputs[0], batch["target"])
            full = batch["target"][0] if supervised else batch["target"]
            labels = trainer.label_manager
            presence = PresenceLoss(regions=labels.has_regions, ignore_label=labels.ignore_label)(outputs[n:], full)
            assert presence > 0
            torch.testing.assert_close(trainer.loss(outputs, batch["target"]), segmentation + presence)

    def test_plan_of_two_stages(self) -> None:
        trainer = make_trainer("VNetSharpTrainer_CGM_DiceCE", make_plans(2, n_stages=2))
        assert not trainer.enable_deep_supervision
        assert np.isfinite(trainer.train_step(make_batch(trainer))["loss"])

    def test_ignored_voxels_hide_what_they_hide(self) -> None:
        trainer = make_trainer("UNetSharpTrainer_CGM", make_plans(2), "labels+ignore")
        batch = make_batch(trainer)
        for target in batch["target"]:
            target.fill_(3)
        assert trainer.train_step(batch)["loss"] == 0


class TestPrediction:
    @pytest.mark.parametrize("target", ["labels", "regions"])
    @pytest.mark.parametrize(("options", "n_axes"), by_turns(["_CGM", "_CGM_noDS"]))
    def test_the_rebuilt_network_gates_as_the_trained_one(self, options: str, target: str, n_axes: int) -> None:
        trainer = make_trainer(f"UNetSharpTrainer{options}", make_plans(n_axes), target)
        channels = trainer.label_manager.num_segmentation_heads
        for module in guidance(trainer.network):
            nn.init.zeros_(module.classifier[-1].weight)
            with torch.no_grad():  # every class is absent
                module.classifier[-1].bias.copy_(torch.tensor([1.0, -1.0] * channels))
        rebuilt = build(f"UNetSharpTrainer{options}", n_axes, n_classes=channels, supervision=False)
        rebuilt.load_state_dict(trainer.network.state_dict(), strict=True)
        trainer.set_deep_supervision_enabled(False)
        image = make_batch(trainer)["data"][:1]
        with torch.no_grad():
            logits = rebuilt.eval()(image)
            assert isinstance(logits, torch.Tensor)
            assert list(logits.shape) == [1, channels, *PATCH[n_axes]]
            assert torch.equal(logits, trainer.network.eval()(image))
        if target == "regions":
            assert logits.max() <= -10
        else:
            assert not logits.argmax(1).any()

    def test_a_pruned_level_takes_the_classifiers_with_it(self) -> None:
        full = build("VNetSharpTrainer_CGM", 3).eval()
        pruned = build("VNetSharpTrainer_CGM_pruned1", 3, supervision=False).eval()
        pruned.load_state_dict({key: full.state_dict()[key] for key in pruned.state_dict()}, strict=True)
        image = torch.rand(1, 1, *PATCH[3], generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(pruned(image), full(image)[-1])


class TestNames:
    @pytest.mark.parametrize("name", GUIDED)
    def test_a_bare_name_has_no_guidance(self, name: str) -> None:
        assert not guidance(build(name))
        assert len(guidance(build(f"{name}_CGM"))) == 4


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/gloo", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("options", ["", "_noDS", "_DS"])
@pytest.mark.usefixtures("one_rank")
def test_no_parameter_is_left_unused_under_ddp(options: str) -> None:
    network = build(f"UNetSharpTrainer_CGM{options}", supervision=options != "_noDS")
    ddp = nn.parallel.DistributedDataParallel(network)
    for _ in range(2):  # DDP complains of the first pass in the second
        torch.stack([output.square().mean() for output in ddp(torch.rand(2, 1, *PATCH[2]))]).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("source", ["UNetSharpTrainer_CGM", "UNetSharpTrainer"])
def test_pretrained_weights_load_whatever_the_classes(source: str, tmp_path: Path) -> None:
    pretrained = build(source, n_classes=5)
    for module in guidance(pretrained):
        module.foreground.fill_(True)
    network = build("UNetSharpTrainer_CGM")
    checkpoint = tmp_path / "checkpoint.pth"
    torch.save({"network_weights": pretrained.state_dict()}, checkpoint)
    load_pretrained_weights(network, str(checkpoint))
    assert torch.equal(
        network.state_dict()["encoder.stages.0.0.conv.weight"], pretrained.encoder.stages[0][0].conv.weight
    )
    # what the channels are is not handed on: there they were regions
    assert all(module.foreground.tolist() == [False, True, True] for module in guidance(network))

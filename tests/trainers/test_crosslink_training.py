"""Crosslink-Net's trainers: the attention's loss in every recipe, on every kind of target."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from hand_made import make_batch, make_dataset_json, make_plans, make_trainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

from nnunet_archs.losses import AttentionLoss, AuxiliaryLoss, CrossEntropyLoss, CrosslinkLoss, DeepSupervisionLoss
from nnunet_archs.trainers.registry import resolve_paper

# name, axes of the data, outputs and maps of attention on a plan of three stages
TRAINED = [
    ("CrosslinkNetTrainer", 2, 1, 2),
    ("CrosslinkNetTrainer", 3, 1, 2),
    ("CrosslinkNetTrainer_pairwise", 2, 1, 2),
    ("CrosslinkNetTrainer_CE", 2, 1, 0),
    ("CrosslinkNetTrainer_DS", 2, 2, 2),
    ("CrosslinkNetTrainer_DiceCE", 2, 2, 0),
    ("CrosslinkNetTrainer_released", 2, 1, 2),
    ("CrosslinkNetTrainer_lambda550", 2, 1, 0),
    ("CrosslinkNetTrainer_3branches_attentionAll", 3, 1, 6),
    ("CrosslinkNetTrainer_3branches", 3, 1, 3),
    ("CrosslinkNetTrainer_3branches_DS", 3, 2, 3),
]
trained = pytest.mark.parametrize(("name", "n_axes", "n_outputs", "n_maps"), TRAINED)


@trained
@pytest.mark.parametrize("target", ["labels", "regions+ignore"])
def test_a_step_of_training(name: str, n_axes: int, n_outputs: int, n_maps: int, target: str) -> None:
    trainer = make_trainer(name, make_plans(n_axes), target)
    batch = make_batch(trainer)
    outputs = trainer.network(batch["data"])
    outputs = outputs if isinstance(outputs, list) else [outputs]
    assert [y.shape[1] for y in outputs[:n_outputs]] == [trainer.label_manager.num_segmentation_heads] * n_outputs
    assert [a.shape[1] for a in outputs[n_outputs:]] == [1] * n_maps
    before = deepcopy(trainer.network.state_dict())
    loss = torch.as_tensor(trainer.train_step(batch)["loss"])
    assert loss.isfinite()
    # nnU-Net's own supervision leaves the output of the lowest resolution out
    left_out = 2 if trainer.objective == "nnunet" else 0
    missing = [key for key, parameter in trainer.network.named_parameters() if parameter.grad is None]
    assert len(missing) == left_out
    for key, value in trainer.network.state_dict().items():
        assert value.isfinite().all()
        if key.startswith("attention.") and key.endswith("conv.weight"):
            assert not torch.equal(value, before[key])
    trainer.network.eval()
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        assert torch.as_tensor(trainer.validation_step(batch)["loss"]).isfinite()


@trained
def test_ignored_voxels_have_no_influence(name: str, n_axes: int, n_outputs: int, n_maps: int) -> None:
    trainer = make_trainer(name, make_plans(n_axes), "labels+ignore")
    batch = make_batch(trainer)
    outputs = trainer.network(batch["data"])
    changed = deepcopy_detached(outputs)
    for output in changed if isinstance(changed, list) else [changed]:
        output[:, :, : output.shape[2] // 4] += 5
    value = trainer.loss(outputs, batch["target"])
    assert torch.equal(value, trainer.loss(changed, batch["target"]))
    tail = outputs[n_outputs:] if isinstance(outputs, list) else []
    assert len(tail) == n_maps
    for attention in tail:
        (gradient,) = torch.autograd.grad(value, attention, retain_graph=True)
        assert gradient.any()
        assert not gradient[:, :, : gradient.shape[2] // 4].any()


def deepcopy_detached(outputs: Tensor | list[Tensor]) -> Any:
    return [y.detach().clone() for y in outputs] if isinstance(outputs, list) else outputs.detach().clone()


def test_the_loss_is_the_one_of_the_name() -> None:
    def loss(name: str, n_axes: int = 2) -> Any:
        return make_trainer(f"CrosslinkNetTrainer{name}", make_plans(n_axes), "regions+ignore").loss

    def attention(whole: Any) -> tuple[str, bool, bool, float, int]:
        assert type(whole) is AuxiliaryLoss
        part = whole.auxiliary
        assert type(part) is AttentionLoss
        return part.mode, part.regions, part.ignore_label is not None, whole.weight, whole.n_branches

    assert attention(loss("")) == ("triple", True, True, 0.5, 1)
    assert type(loss("").segmentation) is CrosslinkLoss
    assert attention(loss("_pairwise")) == ("pairwise", True, True, 0.5, 1)
    assert attention(loss("_3branches", 3)) == ("pairwise", True, True, 0.5, 1)
    assert attention(loss("_released_noDS_pairwise")) == ("pairwise", True, True, 0.5, 1)
    supervised = loss("_DS")
    assert attention(supervised) == ("triple", True, True, 0.5, 2)
    assert type(supervised.segmentation) is DeepSupervisionLoss
    weighted = loss("_lambda235_attention1")
    assert attention(weighted) == ("triple", True, True, 0.5, 1)
    assert (weighted.segmentation.cross_entropy, weighted.segmentation.dice) == (0.2, 0.3)
    assert attention(loss("_lambda208")) == ("triple", True, True, 0.8, 1)
    assert type(loss("_lambda550")) is CrosslinkLoss
    assert type(loss("_CE")) is CrossEntropyLoss  # Table III's "Ours", lambda = (1, 0, 0)
    assert not isinstance(loss("_DiceCE"), AuxiliaryLoss)


@pytest.mark.parametrize("name", ["VerCrosslink", "HorCrosslink", "SquareCrosslink", "Double2SingleNet"])
def test_ablations_have_cross_entropy_alone(name: str) -> None:
    trainer = make_trainer(f"{name}Trainer", make_plans(2))
    assert type(trainer.network).__name__ == name
    assert type(trainer.loss) is CrossEntropyLoss
    batch = make_batch(trainer)
    assert torch.as_tensor(trainer.train_step(batch)["loss"]).isfinite()
    assert all(parameter.grad is not None for parameter in trainer.network.parameters())


@pytest.mark.parametrize("option", ["", "_DS", "_3branches"])
def test_two_stages_train(option: str) -> None:
    trainer = make_trainer(f"CrosslinkNetTrainer{option}", make_plans(3, n_stages=2))
    assert torch.as_tensor(trainer.train_step(make_batch(trainer))["loss"]).isfinite()


def test_options_reach_the_network() -> None:
    configuration = PlansManager(make_plans(2)).get_configuration("tiny")

    def options(name: str) -> dict[str, Any]:
        return resolve_paper(f"CrosslinkNetTrainer{name}").network_options(configuration)

    bare = {"supervision": "paper", "attention": True, "attention_block": 3, "branches": 2, "released": False}
    assert options("") == options("_pairwise") == bare
    assert options("_3branches") == {**bare, "branches": 3}
    assert options("_released") == {**bare, "released": True}
    assert options("_CE") == options("_lambda550") == {**bare, "attention": False}
    assert options("_attention2") == {**bare, "attention_block": 2}
    assert options("_attentionAll_1x1decoder") == {**bare, "attention_block": "all", "decoder_kernel": 1}
    assert options("_DiceCE_3branches") == {**bare, "supervision": "nnunet", "attention": False, "branches": 3}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CrosslinkNetTrainer_pairwise_CE", "_pairwise is of the paper's loss"),
        ("CrosslinkNetTrainer_3branches_pairwise", "_3branches and _pairwise both settle the attention's loss"),
        ("CrosslinkNetTrainer_lambda555", "the digits of _lambda555 add up to 15; give three that add up to 10"),
        ("CrosslinkNetTrainer_lambda415", "CrosslinkNetTrainer is that without _lambda415 already"),
        ("CrosslinkNetTrainer_lambda550_attention2", "_lambda550 leaves attention out, and another option is about it"),
        ("CrosslinkNetTrainer_pairwise_lambda280", "_lambda280 leaves attention out, and another option is about it"),
        ("CrosslinkNetTrainer_attention3", "CrosslinkNetTrainer is that without _attention3 already"),
        ("VerCrosslinkTrainer_pairwise", "VerCrosslinkTrainer has no option _pairwise"),
    ],
)
def test_names_that_make_no_sense(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve_paper(name)


@pytest.mark.parametrize(
    ("name", "n_axes", "said"),
    [
        ("CrosslinkNetTrainer_3branches", 2, "branches=3: a third branch needs a third axis; give 2, or a 3D"),
        ("CrosslinkNetTrainer_3branches_released", 3, "released=True with branches=3: the authors' code has 2"),
        (
            "CrosslinkNetTrainer_attention4",
            3,
            "attention_block=4: a network of 3 stages has 2 blocks before its center",
        ),
    ],
)
def test_configurations_that_cannot_be_trained(
    name: str, n_axes: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        resolve_paper(name)(make_plans(n_axes), "tiny", 0, make_dataset_json(), torch.device("cpu"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"nnunet-archs: error: {said}")

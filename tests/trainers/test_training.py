from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import (
    ADAPTING,
    FLAT,
    PATCH,
    by_turns,
    make_batch,
    make_dataset_json,
    make_plans,
    make_sample,
    make_trainer,
)
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.trainers.registry import resolve_paper

NAMES = [
    "UNetSharpTrainer",
    "UNetSharpTrainer_DiceCE",
    "UNetSharpTrainer_noDS",
    "VNetSharpTrainer",
    "UNetSharpTrainer_CE",
    "UNetPlusPlusTrainer",
    "UNet3PlusTrainer",
    "CAggNetTrainer",
    "FocusNetPlusPlusTrainer_DS",
    "ImprovedSkipUNetTrainer",
    "ImprovedSkipUNetTrainer_CE",
    "PlainConvUNetTrainer",
]
# outputs on a plan of three stages
N_OUTPUTS = {"UNetSharpTrainer": 4, "UNetSharpTrainer_CE": 4, "VNetSharpTrainer": 4, "UNet3PlusTrainer": 3}


def train(trainer: nnUNetTrainer, batch: dict[str, Any], n_steps: int) -> list[float]:
    """An epoch on one batch, as nnU-Net's loop runs it; its losses."""
    trainer.on_train_epoch_start()
    outputs = [trainer.train_step(batch) for _ in range(n_steps)]
    trainer.on_train_epoch_end(outputs)
    return [float(output["loss"]) for output in outputs]


each_dimension = pytest.mark.parametrize("n_axes", [2, 3], ids=["2d", "3d"])
each_trainer = pytest.mark.parametrize("name", ADAPTING)
each_trainer_by_turns = pytest.mark.parametrize(("name", "n_axes"), by_turns([*ADAPTING, *FLAT]))
# what the option changes does not depend on the rest of the trainer
WITHOUT_SUPERVISION = ["UNetSharpTrainer_noDS", "CAggNetTrainer_noDS", "PlainConvUNetTrainer_noDS"]


def test_omp_num_threads_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(2)  # as nnU-Net's command does for each core
    try:
        make_trainer("PlainConvUNetTrainer", make_plans(2))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("target", "n_axes"), [("two channels", 3), ("regions", 2), ("labels+ignore", 2), ("regions+ignore", 3)]
)
@pytest.mark.parametrize("name", NAMES)
def test_loss_falls_on_one_batch(name: str, target: str, n_axes: int) -> None:
    trainer = make_trainer(name, make_plans(n_axes), target)
    batch = make_batch(trainer)
    losses = train(trainer, batch, 12)
    assert np.isfinite(losses).all()
    assert max(losses[-2:]) < 0.97 * losses[0]
    gradients = {key: parameter.grad for key, parameter in trainer.network.named_parameters()}
    untouched = [key for key, gradient in gradients.items() if gradient is None]
    # nnU-Net's own supervision leaves the output of the lowest resolution out: one head, weight and bias
    left_out = trainer.objective == "nnunet" and trainer.enable_deep_supervision
    assert len(untouched) == 2 * left_out
    assert all(".seg_layers." in key for key in untouched)
    for key, gradient in gradients.items():
        if gradient is not None:
            assert gradient.isfinite().all(), key
            # a bias is not felt behind a normalisation, and the few hidden units of a tiny gate may all be off
            assert gradient.any() or not key.endswith("weight") or ".weigh." in key, key

    with torch.no_grad():
        trainer.on_validation_epoch_start()
        result = trainer.validation_step(deepcopy(batch))
    assert np.isfinite(result["loss"])
    n_foreground = 2
    assert [len(result[key]) for key in ("tp_hard", "fp_hard", "fn_hard")] == [n_foreground] * 3
    # every voxel of a foreground class is found or missed, those under the ignore label aside
    largest = batch["target"][0] if trainer.enable_deep_supervision else batch["target"]
    if target == "regions+ignore":
        truth = (largest[:, :2] & ~largest[:, 2:]).transpose(0, 1).flatten(1).sum(1)
    elif target == "regions":
        truth = largest.transpose(0, 1).flatten(1).sum(1)
    else:
        truth = torch.stack([(largest == label).sum() for label in (1, 2)])
    assert np.allclose(result["tp_hard"] + result["fn_hard"], truth.numpy())


@pytest.mark.parametrize("target", ["labels+ignore", "regions+ignore"])
@pytest.mark.parametrize("name", NAMES)
def test_ignored_voxels_have_no_influence(name: str, target: str) -> None:
    trainer = make_trainer(name, make_plans(2), target)
    batch = make_batch(trainer)
    with torch.no_grad():
        outputs = trainer.network(batch["data"])
        changed = [output.clone() for output in outputs] if isinstance(outputs, list) else outputs.clone()
        for output in changed if isinstance(changed, list) else [changed]:
            output[:, :, : output.shape[2] // 4] += 5
        assert torch.equal(trainer.loss(outputs, batch["target"]), trainer.loss(changed, batch["target"]))


@pytest.mark.parametrize("name", NAMES)
def test_every_output_has_a_target_of_its_size(name: str) -> None:
    trainer = make_trainer(name, make_plans(3))
    batch = make_batch(trainer)
    outputs = trainer.network(batch["data"])
    if not trainer.enable_deep_supervision:
        assert isinstance(outputs, torch.Tensor)
        assert outputs.shape[2:] == batch["target"].shape[2:]
        return
    assert len(outputs) == N_OUTPUTS.get(name, 2)
    for output, stage in zip(outputs, trainer.branch_stages, strict=True):
        assert output.shape[2:] == batch["target"][stage].shape[2:]
    assert list(outputs[0].shape[2:]) == PATCH[3]


@each_trainer_by_turns
def test_state_dict_does_not_depend_on_the_supervision_switch(name: str, n_axes: int) -> None:
    plans = make_plans(n_axes)
    manager = PlansManager(plans)
    on, off = (
        resolve_paper(name).build_network_architecture(manager, manager.get_configuration("tiny"), 1, 3, switch)
        for switch in (True, False)
    )
    off.load_state_dict(on.state_dict(), strict=True)
    image = torch.rand(1, 1, *PATCH[n_axes], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = off.eval()(image)
        assert isinstance(logits, torch.Tensor)
        outputs = on.eval()(image)
    assert torch.equal(outputs[0], logits)


@pytest.mark.parametrize(("name", "n_axes"), [*by_turns([*ADAPTING, *FLAT]), *by_turns(WITHOUT_SUPERVISION)])
def test_plan_of_two_stages_trains(name: str, n_axes: int) -> None:
    # nnU-Net's own trainer has one output there, with the weight 0 / 0
    trainer = make_trainer(name, make_plans(n_axes, n_stages=2))
    batch = make_batch(trainer)
    before = deepcopy(trainer.network.state_dict())
    losses = train(trainer, batch, 6)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(value.isfinite().all() for value in trainer.network.state_dict().values())
    assert any(not torch.equal(value, before[key]) for key, value in trainer.network.state_dict().items())


@each_trainer
def test_plans_stay_as_they_are(name: str) -> None:
    plans = make_plans(3)
    dataset_json = make_dataset_json()
    before = deepcopy(plans)
    dataset_before = deepcopy(dataset_json)
    trainer = resolve_paper(name)(plans, "tiny", 0, dataset_json, torch.device("cpu"))
    trainer.initialize()
    train(trainer, make_batch(trainer), 1)
    # nnU-Net's own constructor takes this one entry out
    del before["continue_training"]
    assert plans == before
    assert dataset_json == dataset_before


def test_network_named_in_the_plans_is_built_with_its_own_arguments() -> None:
    plans = make_plans(2)
    architecture = plans["configurations"]["tiny"]["architecture"]
    trainer = make_trainer("PlainConvUNetTrainer", deepcopy(plans))
    planned = sum(parameter.numel() for parameter in trainer.network.parameters())
    architecture["network_class_name"] = "nnunet_archs.networks.UNetSharp"
    del architecture["arch_kwargs"]["n_conv_per_stage"], architecture["arch_kwargs"]["n_conv_per_stage_decoder"]
    # one convolution a stage was the plan's; two are what nnU-Net's planner would have set
    trainer = make_trainer("PlainConvUNetTrainer", deepcopy(plans))
    assert sum(parameter.numel() for parameter in trainer.network.parameters()) > planned
    architecture["arch_kwargs"]["fusion"] = "textbook"
    exact = make_trainer("VNetSharpTrainer", deepcopy(plans)).network
    textbook = make_trainer("UNetSharpTrainer", deepcopy(plans)).network
    assert {module.fusion for module in textbook.modules() if hasattr(module, "fusion")} == {"textbook"}
    assert {module.fusion for module in exact.modules() if hasattr(module, "fusion")} == {"exact"}


@each_dimension
def test_stock_trainer_trains_a_network_named_in_the_plans(n_axes: int) -> None:
    plans = make_plans(n_axes)
    architecture = plans["configurations"]["tiny"]["architecture"]
    architecture["network_class_name"] = "nnunet_archs.networks.unet_sharp.UNetSharp"
    del architecture["arch_kwargs"]["n_conv_per_stage"], architecture["arch_kwargs"]["n_conv_per_stage_decoder"]
    torch.manual_seed(0)
    trainer = nnUNetTrainer(plans, "tiny", 0, make_dataset_json(), torch.device("cpu"))
    trainer.initialize()
    losses = train(trainer, make_batch(trainer), 12)
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.95 * losses[0]


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/gloo", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", [*ADAPTING, *FLAT, *WITHOUT_SUPERVISION])
@pytest.mark.usefixtures("one_rank")
def test_no_parameter_is_left_unused_under_ddp(name: str) -> None:
    plans = make_plans(2)
    manager = PlansManager(plans)
    supervised = "_noDS" not in name
    build = resolve_paper(name).build_network_architecture
    network = build(manager, manager.get_configuration("tiny"), 1, 3, supervised)
    ddp = torch.nn.parallel.DistributedDataParallel(network)
    for _ in range(2):  # DDP complains of the first pass in the second
        outputs = ddp(torch.rand(2, 1, *PATCH[2]))
        outputs = outputs if isinstance(outputs, list) else [outputs]
        torch.stack([output.square().mean() for output in outputs]).sum().backward()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in trained)


def test_pretrained_weights_load_whatever_the_classes(tmp_path: Path) -> None:
    plans = make_plans(2)
    manager = PlansManager(plans)
    build = resolve_paper("UNetSharpTrainer").build_network_architecture
    pretrained, network = (build(manager, manager.get_configuration("tiny"), 1, classes) for classes in (5, 3))
    checkpoint = tmp_path / "checkpoint.pth"
    torch.save({"network_weights": pretrained.state_dict()}, checkpoint)
    load_pretrained_weights(network, str(checkpoint))
    for key, value in network.state_dict().items():
        if ".seg_layers." not in key:
            assert torch.equal(value, pretrained.state_dict()[key]), key


@each_dimension
@pytest.mark.parametrize("option", ["NoMirroring", "onlyMirror01", "NoDA", "DA5"])
def test_variants_of_augmentation_give_every_target(option: str, n_axes: int) -> None:
    trainer = make_trainer(f"UNetSharpTrainer_{option}", make_plans(n_axes))
    rotation, dummy_2d, initial_patch, mirror = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    patch, scales = PATCH[n_axes], trainer._get_deep_supervision_scales()
    transforms = trainer.get_training_transforms(patch, rotation, scales, mirror, dummy_2d)
    sample = make_sample(np.random.default_rng(0), [int(n) for n in initial_patch], 1, None)
    transformed = transforms(**sample)
    assert list(transformed["image"].shape[1:]) == patch
    assert [list(target.shape[1:]) for target in transformed["segmentation"]] == [
        [round(n * s) for n, s in zip(patch, scale, strict=True)] for scale in scales
    ]


@pytest.mark.parametrize("name", ["UNetSharpTrainer", "FocusNetPlusPlusTrainer", "PlainConvUNetTrainer_7epochs"])
def test_strides_that_a_plan_states_as_integers(name: str) -> None:
    plans = make_plans(3)
    plans["configurations"]["tiny"]["architecture"]["arch_kwargs"]["strides"] = [1, 2, 2]
    trainer = make_trainer(name, plans)
    losses = [float(trainer.train_step(make_batch(trainer))["loss"]) for _ in range(2)]
    assert np.isfinite(losses).all()

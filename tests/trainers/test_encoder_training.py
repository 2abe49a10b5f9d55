"""Trainers whose name says the encoder, on plans made by hand and on planned ones."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hand_made import make_batch, make_dataset_json, make_plans, make_trainer
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from safetensors.torch import save_file
from torch import nn

from nnunet_archs.networks.parts.pretrained import VARIABLE, find_weights
from nnunet_archs.plans.matching import match
from nnunet_archs.plans.planner import architecture, trainable
from nnunet_archs.trainers.encoders import check_synchronised
from nnunet_archs.trainers.memory import expected_memory
from nnunet_archs.trainers.names import plans_name
from nnunet_archs.trainers.registry import resolve_paper

TIMM = "UNetSharpTrainer_timm-test-resnet"
MODEL = "test_resnet"
TRAINERS = [
    (TIMM, 2),
    ("UNetTrainer_vgg11", 2),
    ("AttentionUNetTrainer_timm-test-resnet_checkpoint", 2),
    ("UNetPlusPlusTrainer_timm-test-convnext_L2", 2),
    ("UNetSharpTrainer_resenc", 3),
    ("UNetSharpTrainer_resenc_CGM_checkpoint", 2),
    ("UNet3PlusTrainer_resenc_DiceCE", 3),
]


def serving_plans(name: str, n_axes: int = 2) -> dict[str, Any]:
    """Plans of nnU-Net's network at a patch that serves another."""
    plans = make_plans(n_axes)
    tiny = plans["configurations"]["tiny"]
    tiny["patch_size"] = list(resolve_paper(name).serving_patch(ConfigurationManager(tiny)))
    return plans


def with_blocks(plans: dict[str, Any]) -> dict[str, Any]:
    """The same plans as nnU-Net makes them for its ResEnc networks, but with few blocks."""
    stated = plans["configurations"]["tiny"]["architecture"]
    stated["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    stated["arch_kwargs"]["n_blocks_per_stage"] = [1, 2, 2]
    del stated["arch_kwargs"]["n_conv_per_stage"]
    return plans


def blocks(network: Any) -> list[int]:
    return [len(stage.blocks) for stage in network.encoder.body.stages]


@pytest.mark.parametrize(("name", "n_axes"), TRAINERS)
def test_plans_of_another_network_serve(name: str, n_axes: int) -> None:
    plans = serving_plans(name, n_axes)
    before = deepcopy(plans)
    trainer = make_trainer(name, plans)
    del before["continue_training"]
    assert plans == before
    batch = make_batch(trainer)
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(6)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    outputs = trainer.network(batch["data"])
    for y, stage in zip(outputs, trainer.branch_stages, strict=False):  # answers of CGM follow
        assert y.shape[2:] == batch["target"][stage].shape[2:]
    manager = PlansManager(plans)
    memory = expected_memory(
        resolve_paper(name), manager, manager.get_configuration("tiny"), make_dataset_json(), half=True
    )
    assert 0 < memory.kept <= memory.activations


@pytest.mark.parametrize(("name", "n_axes"), [(TIMM, 2), ("UNetSharpTrainer_resenc", 3)])
def test_nnunets_own_trainer_trains_the_network_that_a_plan_names(name: str, n_axes: int) -> None:
    plans = serving_plans(name, n_axes)
    tiny = plans["configurations"]["tiny"]
    tiny["architecture"] = architecture(resolve_paper(name), tiny)
    torch.manual_seed(0)
    theirs = nnUNetTrainer(deepcopy(plans), "tiny", 0, make_dataset_json(), torch.device("cpu"))
    theirs.initialize()
    batch = make_batch(theirs)
    losses = [float(theirs.train_step(batch)["loss"]) for _ in range(6)]
    assert losses[-1] < losses[0]
    # the plan has the encoder, so that the trainer's name need not
    bare = make_trainer(name.split("_")[0], plans).network
    assert type(bare.encoder) is type(theirs.network.encoder)
    assert bare.encoder.widths == theirs.network.encoder.widths


def test_a_name_decides_where_a_plan_has_another_encoder() -> None:
    plans = with_blocks(serving_plans(TIMM))
    tiny = plans["configurations"]["tiny"]
    tiny["architecture"] = architecture(resolve_paper("UNetSharpTrainer_resenc"), tiny)
    assert make_trainer(TIMM, deepcopy(plans)).network.encoder.model == MODEL
    assert blocks(make_trainer("UNetSharpTrainer", plans).network) == [1, 2, 2]


def test_the_blocks_are_those_of_a_residual_plan_or_of_nnunets_presets() -> None:
    name = "UNetSharpTrainer_resenc"
    assert blocks(make_trainer(name, with_blocks(make_plans(3))).network) == [1, 2, 2]
    assert blocks(make_trainer(name, make_plans(3)).network) == [1, 3, 4]
    # another network on them has no use for blocks
    assert make_trainer("UNetSharpTrainer", with_blocks(make_plans(3))).network.topology.n_stages == 3


@pytest.mark.parametrize(
    ("name", "by"), [("UNetTrainer_timm-test-resnet", "parameters"), ("UNetTrainer_resenc", "memory")]
)
def test_the_decoder_is_matched_to_the_budget_of_a_residual_plan(name: str, by: Any) -> None:
    plans = with_blocks(serving_plans(name))
    tiny = plans["configurations"]["tiny"]
    tiny["architecture"]["arch_kwargs"]["features_per_stage"] = [64, 128, 256]
    matched = match(plans, resolve_paper(name), make_dataset_json(), by)["configurations"]["tiny"]
    stated = matched["architecture"]["arch_kwargs"]
    expected = ("resenc", [1, 2, 2]) if name.endswith("resenc") else (MODEL, None)
    assert (stated["encoder"], stated.get("n_blocks_per_stage")) == expected
    assert stated["features_per_stage"][0] > 4
    assert matched["patch_size"] == tiny["patch_size"]


def test_names() -> None:
    assert trainable(resolve_paper(TIMM)) == ["2d"]
    assert "3d_fullres" in trainable(resolve_paper("UNetSharpTrainer_resenc"))
    assert plans_name(resolve_paper("UNetTrainer_vgg16bn_pretrained_5epochs")) == "UNet_vgg16bnPlans"
    assert resolve_paper("UNetTrainer_vgg16bn").encoder == "vgg16_bn"


@pytest.mark.parametrize(
    ("name", "n_axes", "message"),
    [
        ("UNetTrainer_vgg16", 3, "timm's vgg16 exists only in 2D"),
        ("UNetTrainer_vgg16", 2, r"patch_size=\[32, 24\]: UNetTrainer_vgg16 .* next that serves is \[32, 32\]"),
        ("UNetTrainer_timm-vgg", 2, "encoder='vgg': timm .* has no such model"),
        ("UNetTrainer_pretrained", 2, "weights are there for models of timm alone"),
        ("UNetTrainer_resenc_pretrained", 2, "weights are there for models of timm alone"),
        ("UNetTrainer_vgg16_resenc", 2, "_vgg16 and _resenc both settle the encoder"),
    ],
)
def test_what_cannot_be_trained(name: str, n_axes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_paper(name).check_plans(make_plans(n_axes), "tiny", make_dataset_json())


def test_activations_in_batch_norms_are_not_lost_on_several_gpus() -> None:
    convert = nn.SyncBatchNorm.convert_sync_batchnorm
    check_synchronised(convert(make_trainer(TIMM, serving_plans(TIMM)).network))
    name = "UNetTrainer_timm-test-efficientnet"
    with pytest.raises(ValueError, match="train it on one GPU"):
        check_synchronised(convert(make_trainer(name, serving_plans(name)).network))


class TestPretrained:
    """A file of weights, made on the spot."""

    @pytest.fixture
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        torch.manual_seed(5)
        file = tmp_path / "weights" / f"{MODEL}.safetensors"
        file.parent.mkdir()
        save_file(timm.create_model(MODEL).state_dict(), file)
        monkeypatch.setenv(VARIABLE, str(file))
        return file

    def begin(self, monkeypatch: pytest.MonkeyPatch, *, epoch: int = 0, target: str = "labels") -> Any:
        """A trainer that has begun to train, without data."""
        trainer = make_trainer(f"{TIMM}_pretrained", serving_plans(TIMM), target)
        monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
        trainer.num_epochs, trainer.current_epoch = epoch, epoch
        monkeypatch.setattr(nnUNetTrainer, "on_train_end", lambda self: None)
        trainer.run_training()
        return trainer

    def test_a_training_begins_with_them_alone(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(5)
        weights = timm.create_model(MODEL).state_dict()
        begun = self.begin(monkeypatch, target="three channels").network.encoder.body.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in begun.items())
        continued = self.begin(monkeypatch, epoch=1, target="three channels").network.encoder.body.state_dict()
        assert not torch.equal(continued["conv1.0.weight"], weights["conv1.0.weight"])

    def test_an_image_of_one_channel_gets_the_sum_over_three(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        begun = self.begin(monkeypatch).network.encoder.body
        torch.manual_seed(5)
        weights = timm.create_model(MODEL).state_dict()
        torch.testing.assert_close(begun.state_dict()["conv1.0.weight"], weights["conv1.0.weight"].sum(1, keepdim=True))

    def test_no_weights_are_no_concern_of_prediction_and_planning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, "/nowhere")
        make_trainer(f"{TIMM}_pretrained", serving_plans(TIMM))

    def test_they_are_found_in_a_folder_and_in_the_caches(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, str(file.parent))
        assert find_weights(MODEL) == file
        monkeypatch.delenv(VARIABLE)
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repo, name: None)
        monkeypatch.setenv("TORCH_HOME", str(file.parent))
        with pytest.raises(ValueError, match="there are no weights of resnet101 here, and none are downloaded"):
            find_weights("resnet101")
        there = file.parent / "hub" / "checkpoints" / Path(timm.get_pretrained_cfg("resnet101").url).name
        there.parent.mkdir(parents=True)
        there.touch()
        assert find_weights("resnet101") == there
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repo, name: str(file))
        assert find_weights("resnet101") == file

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "is neither a file nor a folder with test_resnet.safetensors or test_resnet.pth"),
            ({}, "holds no weights of test_resnet: conv1.0.weight .* lacks it"),
            ({"conv1.0.weight": torch.zeros(1)}, r"holds no weights of test_resnet: .* has it in the shape \[1\]"),
            ("text", "cannot be read as weights"),
        ],
    )
    def test_a_training_without_them_ends_in_one_line(
        self,
        content: Any,
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        file = tmp_path / "weights.pth"
        monkeypatch.setenv(VARIABLE, str(file))
        if content is not None:
            torch.save(content, file)
        if content == "text":
            file.write_text(content)
        with pytest.raises(SystemExit):
            self.begin(monkeypatch)
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(message, line)

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hand_made import ADAPTING, DATASET, make_batch, make_dataset_json, make_plans, make_trainer
from nnunetv2.run.run_training import run_training

from nnunet_archs.discovery import discovery_folder
from nnunet_archs.nnunet.plans import check_data
from nnunet_archs.trainers.registry import resolve_paper

Change = Callable[[dict[str, Any]], None]


def with_one_stage(plans: dict[str, Any]) -> None:
    plans["configurations"] = make_plans(3, n_stages=1)["configurations"]


def with_indivisible_patch(plans: dict[str, Any]) -> None:
    plans["configurations"]["tiny"]["patch_size"] = [8, 18, 16]


def with_flat_patch(plans: dict[str, Any]) -> None:
    plans["configurations"]["tiny"]["patch_size"] = [16, 16]


def with_small_patch(plans: dict[str, Any]) -> None:
    plans["configurations"]["tiny"]["patch_size"] = [2, 4, 4]


def without_configuration(plans: dict[str, Any]) -> None:
    plans["configurations"]["other"] = plans["configurations"].pop("tiny")


def with_features(*features: int) -> Change:
    def change(plans: dict[str, Any]) -> None:
        plans["configurations"]["tiny"]["architecture"]["arch_kwargs"]["features_per_stage"] = list(features)

    return change


REFUSED: dict[str, tuple[Change, list[str]]] = {
    "one stage": (with_one_stage, ["n_stages=1", "at least 2", "larger patch"]),
    "indivisible patch": (with_indivisible_patch, ["[8, 18, 16]", "HandMadePlans/tiny", "axis 1", "by 4", "20"]),
    "flat patch": (with_flat_patch, ["patch_size=[16, 16]", "2 axes", "3 axes"]),
    "small patch": (with_small_patch, ["patch_size=[2, 4, 4]", "one voxel", "larger patch"]),
    "no such configuration": (without_configuration, ["tiny", "HandMadePlans", "other"]),
    "few features": (with_features(4, 8), ["features_per_stage", "2 entries", "n_stages=3", "one a stage"]),
    "many features": (with_features(4, 8, 8, 8), ["features_per_stage", "4 entries", "n_stages=3", "one a stage"]),
    "no features": (with_features(4, 0, 8), ["features_per_stage=[4, 0, 8]", "at least 1"]),
}


# ours, and nnU-Net's own network: plan and patch are looked at before any network is built
@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize("name", ["UNetSharpTrainer", "PlainConvUNetTrainer"])
def test_plans_that_cannot_be_trained(name: str, reason: str) -> None:
    change, said = REFUSED[reason]
    plans = make_plans(3)
    cls = resolve_paper(name)
    assert cls.check_plans(plans, "tiny", make_dataset_json())[0] == 0
    change(plans)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is looked at below)
        cls.check_plans(plans, "tiny", make_dataset_json())
    message = str(caught.value)
    assert "\n" not in message
    for words in said:
        assert words in message


def test_refusal_ends_the_command_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = make_plans(3)
    with_indivisible_patch(plans)
    with pytest.raises(SystemExit) as end:
        resolve_paper("UNetSharpTrainer")(plans, "tiny", 0, make_dataset_json(), torch.device("cpu"))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nnunet-archs: error: patch_size=[8, 18, 16]")
    assert not (tmp_path / "results").exists()


def test_results_folder_has_to_be_set(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(SystemExit) as end:
        resolve_paper("UNetSharpTrainer")(make_plans(3), "tiny", 0, make_dataset_json(), torch.device("cpu"))
    assert end.value.code == 2
    assert "nnUNet_results is not set" in capsys.readouterr().err


def test_data_that_other_plans_preprocess_otherwise(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans that were moved from another data set go on naming data, which is of another spacing here."""
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    plans, theirs = make_plans(3), make_plans(3)
    for made in (plans, theirs):
        made["configurations"]["tiny"]["data_identifier"] = "TheirPlans_tiny"
    theirs["plans_name"] = "TheirPlans"
    theirs["configurations"]["tiny"]["spacing"] = [3.0, 1.0, 1.0]
    (tmp_path / DATASET).mkdir()
    for made in (plans, theirs):
        (tmp_path / DATASET / f"{made['plans_name']}.json").write_text(json.dumps(made))
    check_data(theirs, "tiny")  # it is their own data
    with pytest.raises(SystemExit) as end:
        resolve_paper("UNetSharpTrainer")(plans, "tiny", 0, make_dataset_json(), torch.device("cpu"))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "HandMadePlans/tiny of Dataset901_HandMade names the data TheirPlans_tiny, which TheirPlans" in line
    assert "nnUNetv2_move_plans_between_datasets -tp NAME" in line
    theirs["configurations"]["tiny"]["spacing"] = plans["configurations"]["tiny"]["spacing"]
    (tmp_path / DATASET / "TheirPlans.json").write_text(json.dumps(theirs))
    check_data(plans, "tiny")


@pytest.mark.parametrize("name", ADAPTING)
def test_plans_of_another_network_may_import_more(name: str) -> None:
    plans = make_plans(3)
    architecture = plans["configurations"]["tiny"]["architecture"]
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    arch_kwargs = architecture["arch_kwargs"]
    arch_kwargs["n_blocks_per_stage"] = arch_kwargs.pop("n_conv_per_stage")
    arch_kwargs["block"] = "dynamic_network_architectures.building_blocks.residual.BasicBlockD"
    architecture["_kw_requires_import"].append("block")
    assert resolve_paper(name).check_plans(plans, "tiny", make_dataset_json())[0] == 0


def test_refusal_where_nnunet_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # what nnUNetv2_train calls; the fixture has set nnU-Net's folders, below tmp_path
    monkeypatch.setenv("nnUNet_extTrainer", discovery_folder())
    folder = tmp_path / "preprocessed" / DATASET
    plans = make_plans(3)
    del plans["continue_training"]
    with_one_stage(plans)
    (folder / "HandMadePlans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(make_dataset_json()))
    with pytest.raises(SystemExit, match="2"):
        run_training(DATASET, "tiny", 0, "VNetSharpTrainer_5epochs", "HandMadePlans", device=torch.device("cpu"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nnunet-archs: error: ")
    assert "n_stages=1" in line
    assert not (tmp_path / "results").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_epoch(output: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """An epoch of two iterations with its validation; what it wrote to stderr."""
    trainer = make_trainer("UNetTrainer_2iterations", make_plans(2))
    batch = make_batch(trainer)
    monkeypatch.setattr(sys, "stderr", output)
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([trainer.train_step(batch) for _ in range(2)])
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        trainer.on_validation_epoch_end([trainer.validation_step(batch)])
    return output.getvalue()


def test_progress_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    written = run_epoch(Terminal(), monkeypatch)
    assert "Epoch 0 training:" in written
    assert "/2 [" in written
    assert "Epoch 0 validation:" in written
    # each bar is wiped when its epoch ends
    assert written.split("\r")[-1].strip() == ""


def test_no_progress_bar_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_epoch(io.StringIO(), monkeypatch) == ""

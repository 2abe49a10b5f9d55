from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import ABSENT, NAME, save_model

from nnunet_archs.deploy import info as informing
from nnunet_archs.deploy import peak
from nnunet_archs.discovery import discovery_folder
from nnunet_archs.nnunet.plans import BUDGET, budget
from nnunet_archs.scripts.main import main

CHECKPOINT = "fold_0/checkpoint_final.pth"


@pytest.fixture(autouse=True)
def _trainers_found(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", discovery_folder())
    if "measured_memory" not in request.fixturenames:
        monkeypatch.setattr(informing, "memory_of_prediction", lambda *_: {"peak": None, "imports": None, "gpu": None})


@pytest.fixture
def measured_memory() -> None:
    """Memory is measured, in a process that imports nnU-Net."""


def info(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["info", str(folder), *arguments]) == code
    return capsys.readouterr().out


def info_json(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    return json.loads(info(folder, capsys, "--json", *arguments, code=code))


def test_all_of_a_finished_model(capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model(folds=(0, 1))
    (folder / "fold_0" / "validation").mkdir()
    (folder / "fold_0" / "validation" / "summary.json").write_text('{"foreground_mean": {"Dice": 0.75}}')
    (folder / "fold_0" / "debug.json").write_text('{"torch_version": "2.4.0", "cudnn_version": "None"}')
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["tiny"][BUDGET] = budget(NAME, gpu_memory=24, base_width=16)
    (folder / "plans.json").write_text(json.dumps(plans))
    printed = info(folder, capsys)
    for words in (
        f"planned for   24 GB, width 16, {NAME}",
        f"{NAME}, of nnunet-archs",
        "_5epochs    train for 5 epochs",
        "HandMadePlans, tiny: patch 32x24, batch 2, spacing 1.0x1.0 mm",
        "nnunet_archs.networks.unet_sharp.UNetSharp",
        "finished, 1 epochs, validation Dice 0.7500",
        "finished, 1 epochs, not validated",
        "torch_version 2.4.0",
        "10x40x30",
        "runs here     yes",
    ):
        assert words in printed


def test_cost_of_inference(capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model("UNetTrainer", 3)
    patch = [8, 16, 16]
    one = info_json(folder, capsys, "--image-size", *map(str, patch))["inference"]
    assert one["forward_passes"] == 8  # one window, mirrored along three axes
    network = torch.load(folder / CHECKPOINT, weights_only=False)["network_weights"]
    assert one["parameters"] == sum(weight.numel() for weight in network.values())
    assert one["seconds"] > 0
    longer = info_json(folder, capsys, "--image-size", "8", "16", "32")["inference"]
    assert longer["forward_passes"] == 24
    assert longer["multiply_adds"] == 3 * one["multiply_adds"]
    by_default = info_json(folder, capsys)["inference"]
    assert by_default["image_size"] == [10, 40, 30]
    assert by_default["seconds"] is None


def test_memory_of_a_process(measured_memory: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Two channels of a hundred slices are 23 MiB as floats; nnU-Net has several copies of them."""
    folder = save_model("UNetTrainer", target="two channels")
    printed = info(folder, capsys, "--image-size", "100", "300", "100")
    found = re.search(
        r"memory +([\d,]+) MiB at the peak of a process that predicts it, ([\d,]+) MiB of them imports", printed
    )
    assert found
    peak, imports = (int(number.replace(",", "")) for number in found.groups())
    assert 200 < imports < peak - 3 * 2 * 100 * 300 * 100 * 4 / 2**20
    assert "mirrored along 2 axes" in printed


def test_image_that_cannot_be_predicted(
    measured_memory: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [sys.executable, "-c", "raise SystemExit('no memory is left')"]
    monkeypatch.setattr(peak, "python_command", lambda *_: failing)
    (problem,) = info_json(save_model(), capsys, "--image-size", "4", "40", "30", code=1)["problems"]
    assert problem == "an image of 4x40x30 voxels cannot be predicted here: no memory is left"


def test_slices_of_a_2d_network(capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model("UNetTrainer_NoMirroring")
    assert info_json(folder, capsys, "--image-size", "7", "5", "5")["inference"]["forward_passes"] == 7
    assert "a fold, without mirroring" in info(folder, capsys)


def test_modality_in_place_of_channel_names(capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model(modality={"0": "MRI"}, channel_names=ABSENT, overwrite_image_reader_writer=None)
    assert info_json(folder, capsys)["channels"] == ["MRI"]


def test_fold_in_training(capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model(folds=(0, 1))
    (folder / "fold_0" / "checkpoint_final.pth").rename(folder / "fold_0" / "checkpoint_latest.pth")
    (folder / "fold_3").mkdir()
    facts = info_json(folder, capsys)
    assert [(fold, known["finished"], known["epochs"]) for fold, known in facts["folds"].items()] == [
        ("0", False, 1),
        ("1", True, 1),
        ("3", False, None),
    ]
    (folder / "fold_1" / "checkpoint_final.pth").unlink()
    (problem,) = info_json(folder, capsys, code=1)["problems"]
    assert "no fold is finished" in problem


def test_what_keeps_it_from_running(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_model(folds=(0, 1))

    def problem() -> str:
        (found,) = info_json(folder, capsys, code=1)["problems"]
        assert f"no: {found}" in info(folder, capsys, code=1)
        return str(found)

    monkeypatch.delenv("nnUNet_extTrainer")
    assert f"nnU-Net does not find {NAME}" in problem()
    monkeypatch.setenv("nnUNet_extTrainer", discovery_folder())
    monkeypatch.setattr(informing, "version_of", lambda name: "2.5")
    assert "nnunetv2 2.5 does not fit" in problem()
    monkeypatch.undo()
    monkeypatch.setenv("nnUNet_extTrainer", discovery_folder())
    content = (folder / CHECKPOINT).read_bytes()
    (folder / CHECKPOINT).write_bytes(content[:-1000])
    assert "cannot be read as a checkpoint" in problem()
    (folder / CHECKPOINT).write_bytes(content)
    plans = (folder / "plans.json").read_text()
    (folder / "plans.json").write_text(plans.replace("[4, 8, 8]", "[4, 8, 9]"))
    problems = info_json(folder, capsys, code=1)["problems"]
    assert [problem.split(" beside")[0] for problem in problems] == [
        f"fold {fold} of {folder} does not fit plans.json" for fold in (0, 1)
    ]


def test_plans_of_another_version(capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model()
    plans = json.loads((folder / "plans.json").read_text())
    del plans["original_median_shape_after_transp"]
    (folder / "plans.json").write_text(json.dumps(plans))
    printed = info(folder, capsys, code=1)
    assert "no: plans.json lacks 'original_median_shape_after_transp'" in printed
    assert NAME in printed


def test_trainer_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model()
    checkpoint = torch.load(folder / CHECKPOINT, weights_only=False)
    torch.save(checkpoint | {"trainer_name": "TheirTrainer"}, folder / CHECKPOINT)
    printed = info(folder, capsys, code=1)
    assert "no: TheirTrainer, the trainer of this model, is not installed here" in printed
    assert "fold 0" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["not/there"], "not/there is not a trained model's folder"), ([".", "--image-size", "0", "1", "1"], "0 1 1")],
)
def test_refusals(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line

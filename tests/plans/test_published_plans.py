"""Plans of what papers print: networks of their size to the digit, through the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from planning import HIPPOCAMPUS, set_folders, write_dataset

from nnunet_archs.fidelity.papers import FOCUSNET
from nnunet_archs.fidelity.published import PUBLISHED, Published
from nnunet_archs.nnunet.plans import BUDGET, describe_budget
from nnunet_archs.scripts.main import main
from nnunet_archs.trainers.registry import paper_trainers, resolve_paper


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_dataset(tmp_path, HIPPOCAMPUS, [1.0, 1.0, 1.0], [[40, 56, 40]] * 20)
    set_folders(tmp_path, monkeypatch)
    monkeypatch.setattr("nnunet_archs.plans.making.default_num_processes", 1)
    return tmp_path / "nnUNet_preprocessed" / HIPPOCAMPUS


def have(folder: Path, channels: int) -> None:
    """One class as the papers count it: a region, which is predicted without the background."""
    file = folder.parents[1] / "nnUNet_raw" / HIPPOCAMPUS / "dataset.json"
    dataset = json.loads(file.read_text())
    dataset["channel_names"] = {str(channel): f"c{channel}" for channel in range(channels)}
    file.write_text(json.dumps(dataset | {"labels": {"background": 0, "whole": [1, 2]}, "regions_class_order": [1]}))
    properties = {str(channel): dict.fromkeys(("mean", "std"), 1.0) for channel in range(channels)}
    fingerprint = json.loads((folder / "dataset_fingerprint.json").read_text())
    fingerprint["foreground_intensity_properties_per_channel"] = properties
    (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))


def trainer_of(row: Published) -> str:
    (name,) = [trainer.__name__ for trainer in paper_trainers() if trainer.network_class is row.network]
    return name


def rows_of(output: str) -> list[dict[str, str]]:
    header, _, *rows = (line.strip("| ").split(" | ") for line in output.splitlines() if line.startswith("|"))
    return [dict(zip(header, row, strict=True)) for row in rows]


def counted(row: Published) -> int:
    """Parameters that are trained: one row counts BatchNorm's statistics too."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in row.build().parameters())


# each table, kind of block and number of axes; the options of the name, and a row that has to be named
NAMES = [
    *("UNet", "WUNet", "UNet# (table)", "UNet# L2", "WV-Net", "V-Net# (table)", "CAggNet", "FocusNet++ (released)"),
    *("Crosslink-Net", "Crosslink-Net (released)", "SquareCrosslink (1 branch)", "U-Net", "Ours2"),
]
# two papers print a U-Net: that of the trainer's own is planned
ROWS = [row for row in PUBLISHED if row.name in NAMES and (row.paper, row.name) != (FOCUSNET, "U-Net")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.paper.name}: {row.name}")
def test_sizes_to_the_digit(row: Published, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    have(folder, row.input_channels)
    trainer = f"{trainer_of(row)}{row.words}_recipe_noDS"
    assert main(["plan", "-d", "801", "-tr", trainer, "--published", row.name]) == 0
    (printed,) = rows_of(capsys.readouterr().out)
    assert printed["parameters"] == f"{counted(row):,}"
    recipe = resolve_paper(trainer).recipe
    assert recipe is not None
    patch = [recipe.patch_size[row.dim]] * row.dim
    assert printed["patch"] == " x ".join(map(str, patch))
    assert printed["batch"] == str(recipe.batch_size[row.dim])
    (file,) = folder.glob("*published*.json")
    plans: dict[str, Any] = json.loads(file.read_text())
    (planned,) = plans["configurations"].values()
    assert file.stem == plans["plans_name"] == printed["plans"]
    assert planned["architecture"]["arch_kwargs"]["features_per_stage"] == list(row.features)
    assert describe_budget(planned[BUDGET]) == f"as published ({row.name}), {trainer}"


def test_the_first_row_is_the_papers_own_network(folder: Path) -> None:
    trainers = ["ClassicalUNetTrainer_recipe", "UNetSharpTrainer_CGM_recipe", "VNetTrainer", "CAggNetTrainer_alpha50"]
    assert main(["plan", "-d", "801", "-tr", *trainers, "--published"]) == 0
    found = {
        file.stem: {name: planned[BUDGET]["published"] for name, planned in plans["configurations"].items()}
        for file in folder.glob("*published*.json")
        for plans in [json.loads(file.read_text())]
    }
    assert found == {
        "ClassicalUNet_publishedPlans": {"2d": "U-Net"},
        "UNetSharp_CGM_publishedPlans": {"2d": "UNet#"},
        "VNet_publishedPlans": {"3d_fullres": "V-Net"},
        "CAggNet_alpha50_publishedPlans": {"2d": "CAggNet"},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-tr", "PlainConvUNetTrainer", "--published"], "no paper prints a size of PlainConvUNetTrainer's network"),
        (
            ["-tr", "VNetTrainer", "--published", "UNet"],
            "of VNetTrainer's network, papers print V-Net; name one of them",
        ),
        (["-tr", "UNetSharpTrainer", "--published", "UNet# (table)"], "UNet# (table) (append _table)"),
        (["-tr", "VNetTrainer", "--published", "-c", "2d"], "-c 2d: what papers print of VNetTrainer's network has 3"),
        (
            ["-tr", "VNetTrainer", "--published", "--base-width", "8"],
            "leave out --match, --gpu-memory",
        ),
        (["-tr", "VNetTrainer", "--published", "--match", "nnUNetPlans"], "--published has all sizes from a paper"),
    ],
)
def test_refusals(arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-d", "801", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(folder.glob("*Plans.json"))

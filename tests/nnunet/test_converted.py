"""A converted data set through nnU-Net's own commands, with the split of its paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_folders import make_york
from tiny_dataset import Home

from nnunet_archs.scripts.main import main


@pytest.mark.slow
def test_trained_on_the_papers_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path / "home")
    for name, value in home.variables.items():
        monkeypatch.setenv(name, value)
    assert main(["convert", str(make_york(tmp_path / "source")), "-d", "501"]) == 0
    data = home.raw.parent / "Dataset501_york"
    arguments = ["-d", 501, "-c", "2d", "--verify_dataset_integrity", "-npfp", 1, "-np", 1]
    home.run("nnUNetv2_plan_and_preprocess", *arguments)
    preprocessed = home.preprocessed.parent / data.name
    splits = json.loads((data / "splits_final.json").read_text())
    assert json.loads((preprocessed / "splits_final.json").read_text()) == splits
    trainer = "UNetTrainer_1epochs_1iterations"
    home.run("nnUNetv2_train", 501, "2d", 2, "-tr", trainer, "-device", "cpu")
    (validation,) = home.root.glob(f"nnUNet_results/{data.name}/{trainer}__*/fold_2/validation")
    assert sorted(file.stem for file in validation.glob("*.png")) == splits[2]["val"]

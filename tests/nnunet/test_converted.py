"""A converted data set through nnU-Net's own commands, with the split of its paper."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from made_folders import make_york, write
from skimage.io import imread
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


@pytest.mark.slow
def test_objects_by_mask_rcnn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home")
    for name, value in home.variables.items():
        monkeypatch.setenv(name, value)
    rows, columns = np.indices((64, 64))
    for case in range(5):
        ids = np.zeros((64, 64), dtype=np.uint8)
        for number, centre in enumerate(np.random.default_rng(case).integers(8, 56, (5, 2)), start=1):
            ids[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 36] = number
        write(
            tmp_path / "cells" / "images" / f"c{case}.png", 200 * (ids > 0).astype(np.uint8) + 20
        )  # without 0: it is not cropped
        write(tmp_path / "cells" / "labels" / f"c{case}.png", ids)
    assert main(["convert", str(tmp_path / "cells"), "-d", "502", "--instances"]) == 0
    home.run("nnUNetv2_plan_and_preprocess", "-d", 502, "-c", "2d", "-npfp", 1, "-np", 1)
    trainer = "MaskRCNNSharpTrainer_resnet18_w16_r16_1epochs_2iterations_NoMirroring"
    home.run("nnUNetv2_train", 502, "2d", 0, "-tr", trainer, "-device", "cpu", "--npz")
    (validation,) = home.root.glob(f"nnUNet_results/Dataset502_cells/{trainer}__*/fold_0/validation")
    assert main(["instances", str(validation), "-o", str(tmp_path / "validated")]) == 0
    (case,) = validation.glob("*.png")
    assert [*json.loads((tmp_path / "validated" / "scores.json").read_text())] == [case.name]

    model = ["-tr", trainer, "-p", "nnUNetPlans", "-c", "2d", "-f", "0", "-device", "cpu", "--allow-empty"]
    images, out = home.raw.parent / "Dataset502_cells" / "imagesTr", tmp_path / "out"
    assert main(["submit", "-d", "502", "-i", str(images), "-o", str(out), *model]) == 0
    with ZipFile(out / "submission.zip") as package:
        package.extractall(tmp_path / "predicted")
    assert main(["instances", str(tmp_path / "predicted"), "--border-core", "-o", str(tmp_path / "objects")]) == 0
    found = [imread(file) for file in sorted((tmp_path / "objects").iterdir())]
    assert [(image.shape, image.dtype) for image in found] == [((64, 64), np.uint16)] * 5

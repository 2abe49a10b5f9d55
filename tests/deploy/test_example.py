"""Prediction with an exported model, by the example without nnU-Net and by `nnunet-archs predict`: as nnU-Net predicts.

The images are out of the ordinary.
"""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from models import save_model
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_archs.discovery import discovery_folder
from nnunet_archs.scripts.main import main

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "sliding_window.py"


def test_two_axes_and_nothing_but_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", discovery_folder())
    model = save_model("UNetTrainer_NoMirroring", file_ending=".mha", target="two channels")
    assert main(["export", str(model), "--to", "onnx", "-o", "exported"]) == 0
    predict = runpy.run_path(str(EXAMPLE))["main"]
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    noise = np.random.default_rng(0).normal(3, 2, (2, 4, 40, 30)).astype(np.float32)
    cases = {"flat": noise[:, 0], "deep": noise, "flat zeros": 0 * noise[:, 0], "zeros": 0 * noise}
    for name in ("images", "example", "nnunet"):
        Path(name).mkdir()
    for name, array in cases.items():
        files = [f"images/{name}_{channel:04}.mha" for channel in range(2)]
        for file, channel in zip(files, array, strict=True):
            image = SimpleITK.GetImageFromArray(channel)
            image.SetSpacing((1.0, 1.0, 4.0)[: image.GetDimension()])
            SimpleITK.WriteImage(image, file)
        predict(Path("exported"), f"example/{name}.mha", files)
    predictor.predict_from_files_sequential("images", "nnunet")
    assert main(["predict", "exported", "-i", "images", "-o", "graph"]) == 0
    for name in cases:
        theirs = SimpleITK.ReadImage(f"nnunet/{name}.mha")
        for folder in ("example", "graph"):
            ours = SimpleITK.ReadImage(f"{folder}/{name}.mha")
            assert ours.GetSpacing() == theirs.GetSpacing()
            assert np.array_equal(SimpleITK.GetArrayFromImage(ours), SimpleITK.GetArrayFromImage(theirs))
    assert len(np.unique(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("graph/flat.mha")))) > 1


def change(**changes: object) -> None:
    file = Path("exported", "model.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# what is done to a folder exported to safetensors, further arguments, words of the error
REFUSED: dict[str, tuple[Callable[[], object], list[str], str]] = {
    "no export": (lambda: Path("exported", "model.json").unlink(), [], "has no model.json"),
    "another format": (lambda: None, [], "exported to safetensors; export it again with --to onnx"),
    "newer": (lambda: change(format_version=2), [], "another version of nnunet-archs"),
    "cut off": (lambda: change(weights=ONNX), [], "fold_0.onnx is missing, or not as it was exported"),
    "cascade": (lambda: change(weights=ONNX, previous_stage="3d_lowres"), [], "second stage of a cascade"),
    "no cascade": (lambda: change(weights=ONNX), ["-prev_stage_predictions", "."], "has no previous stage"),
    "step": (lambda: None, ["--step-size", "2"], "--step-size 2: give a share"),
}
ONNX = {"format": "onnx", "folds": {"0": {"file": "fold_0.onnx", "sha256": ""}}}


def test_refusals_of_predict(capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model("UNetTrainer")
    Path("images").mkdir()
    for damage, arguments, words in REFUSED.values():
        shutil.rmtree("exported", ignore_errors=True)
        assert main(["export", str(folder), "--to", "safetensors", "-o", "exported"]) == 0
        damage()
        capsys.readouterr()
        assert main(["predict", "exported", "-i", "images", "-o", "graph", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
        assert not Path("graph").exists()

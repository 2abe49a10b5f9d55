"""The example that predicts without nnU-Net, on images that are out of the ordinary: as nnU-Net predicts them."""

from __future__ import annotations

import runpy
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
    folder = save_model("UNetTrainer_NoMirroring", file_ending=".mha", target="two channels")
    assert main(["export", str(folder), "--to", "onnx", "-o", "exported"]) == 0
    predict = runpy.run_path(str(EXAMPLE))["main"]
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    noise = np.random.default_rng(0).normal(3, 2, (2, 4, 40, 30)).astype(np.float32)
    found = []
    for name, array in {"flat": noise[:, 0], "deep": noise, "flat zeros": 0 * noise[:, 0], "zeros": 0 * noise}.items():
        files = [f"{name}_{channel:04}.mha" for channel in range(2)]
        for file, channel in zip(files, array, strict=True):
            image = SimpleITK.GetImageFromArray(channel)
            image.SetSpacing((1.0, 1.0, 4.0)[: image.GetDimension()])
            SimpleITK.WriteImage(image, file)
        predict(Path("exported"), f"{name}_ours.mha", files)
        predictor.predict_from_files_sequential([files], [f"{name}_theirs"])
        ours, theirs = (SimpleITK.ReadImage(f"{name}_{whose}.mha") for whose in ("ours", "theirs"))
        found.append(SimpleITK.GetArrayFromImage(ours))
        assert ours.GetSpacing() == theirs.GetSpacing()
        assert np.array_equal(found[-1], SimpleITK.GetArrayFromImage(theirs))
    assert len(np.unique(found[0])) > 1

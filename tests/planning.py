"""Data sets in nnU-Net's folders that are nothing but a fingerprint: planning needs no more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

HIPPOCAMPUS, CT = "Dataset801_Hippocampus", "Dataset802_CT"


def write_dataset(root: Path, name: str, spacing: Sequence[float], shapes: Sequence[Sequence[int]]) -> None:
    """Raw data of one image and empty files, with the fingerprint of these shapes (z, y, x) and spacings in mm."""
    raw, preprocessed = root / "nnUNet_raw" / name, root / "nnUNet_preprocessed" / name
    for folder in (raw / "imagesTr", raw / "labelsTr", preprocessed):
        folder.mkdir(parents=True)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "organ": 1, "lesion": 2},
        "numTraining": len(shapes),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(dataset))
    for case in range(len(shapes)):
        (raw / "labelsTr" / f"c{case:03}.nii.gz").touch()
        (raw / "imagesTr" / f"c{case:03}_0000.nii.gz").touch()
    image = SimpleITK.GetImageFromArray(np.zeros((4, 4, 4), np.float32))
    SimpleITK.WriteImage(image, raw / "imagesTr" / "c000_0000.nii.gz")
    names = ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std")
    fingerprint = {
        "spacings": [list(spacing)] * len(shapes),
        "shapes_after_crop": [list(map(int, shape)) for shape in shapes],
        "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {"0": dict.fromkeys(names, 1.0)},
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))


def write_datasets(root: Path) -> None:
    """Images of the size of the Decathlon's hippocampi, and large ones of thick slices."""
    rng = np.random.default_rng(0)
    write_dataset(root, HIPPOCAMPUS, [1.0, 1.0, 1.0], rng.integers([31, 40, 24], [44, 60, 48], (260, 3)))
    write_dataset(root, CT, [5.0, 0.8, 0.8], [[100, 512, 512]] * 30)


def set_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nnU-Net look for its folders below `root`."""
    for folder in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(folder, str(root / folder))

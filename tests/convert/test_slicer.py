from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnunet_archs.scripts.main import main

REGIONS = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}


def write_labels(file: Path, array: np.ndarray, spacing: tuple[float, ...]) -> SimpleITK.Image:
    file.parent.mkdir(exist_ok=True)
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin([-7.5] * len(spacing))
    SimpleITK.WriteImage(image, str(file))
    return image


def segments_of(image: SimpleITK.Image) -> dict[int, dict[str, str]]:
    """What Slicer reads of each segment, by its label."""
    keys = [key.split("_", 1) for key in image.GetMetaDataKeys() if key.startswith("Segment") and key[7].isdecimal()]
    found: dict[str, dict[str, str]] = {}
    for segment, key in keys:
        found.setdefault(segment, {})[key] = image.GetMetaData(f"{segment}_{key}")
    return {int(segment["LabelValue"]): segment for segment in found.values()}


def test_names_colours_and_grid_of_a_volume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (3, 4, 5)).astype(np.int16)
    volume = write_labels(tmp_path / "predictions" / "case.1.nii.gz", labels, (0.5, 1.0, 2.0))
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps({"labels": REGIONS}))
    out = tmp_path / "slicer"
    assert main(["slicer", str(tmp_path / "predictions"), "-o", str(out)]) == 0
    assert f"Slicer IMAGE {out}" in capsys.readouterr().out
    written = SimpleITK.ReadImage(str(out / "case.1.seg.nrrd"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(written), labels)
    for place in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(written, place)() == pytest.approx(getattr(volume, place)())
    segments = segments_of(written)
    # the third has a name and no voxel here; a voxel has the name of the smallest region that holds it
    assert {label: segment["Name"] for label, segment in segments.items()} == {
        1: "whole tumour",
        2: "core",
        3: "enhancing",
    }
    colours = [tuple(map(float, segment["Color"].split())) for segment in segments.values()]
    assert len(set(colours)) == 3
    assert all(0 <= part <= 1 for colour in colours for part in colour)
    assert segments[1]["Extent"] == "0 4 0 3 0 2"


def test_a_picture_without_names(tmp_path: Path) -> None:
    write_labels(tmp_path / "labels" / "cell.png", np.array([[0, 1], [7, 1]], np.uint8), (1.0, 1.0))
    assert main(["slicer", str(tmp_path / "labels"), "-o", str(tmp_path / "slicer")]) == 0
    written = SimpleITK.ReadImage(str(tmp_path / "slicer" / "cell.seg.nrrd"))
    assert written.GetSize() == (2, 2, 1)
    assert {label: segment["Name"] for label, segment in segments_of(written).items()} == {1: "label 1", 7: "label 7"}


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(tmp_path / "labels" / "cell.png", np.zeros((2, 2), np.uint8), (1.0, 1.0))
    (tmp_path / "labels" / "broken.nii.gz").write_bytes(b"x")
    assert main(["slicer", str(tmp_path / "labels"), "-o", str(tmp_path / "labels")]) == 2
    assert main(["slicer", str(tmp_path / "labels"), "-o", str(tmp_path / "slicer")]) == 2
    assert "broken.nii.gz" in capsys.readouterr().err
    assert not (tmp_path / "slicer").exists()

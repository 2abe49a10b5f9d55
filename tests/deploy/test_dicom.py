from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from highdicom.seg import Segmentation, segread
from models import container
from series import write_series

from nnunet_archs.deploy import container as building
from nnunet_archs.deploy.dicom import find_series, read_series, slices_of, write_segmentation

SCAN = np.random.default_rng(0).integers(0, 250, (4, 12, 14))


def voxels(segmentation: Segmentation, series: Path) -> np.ndarray:
    """A segmentation on the slices of its series, in their order: the numbers of its segments."""
    sources = [SimpleITK.ReadImage(file).GetMetaData("0008|0018").strip("\0 ") for file in slices_of(series)]
    return segmentation.get_pixels_by_source_instance(sources, combine_segments=True, ignore_spatial_locations=True)


def test_a_series_and_its_segmentation(tmp_path: Path) -> None:
    series, target = tmp_path / "series", tmp_path / "out.dcm"
    write_series(series, SCAN, spacing=(2.5, 0.5, 0.8), origin=(-7, 3, 100), RescaleIntercept=-1024)
    volume = read_series(series)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(volume), SCAN - 1024)
    assert volume.GetSpacing() == pytest.approx((0.8, 0.5, 2.5))
    assert volume.GetOrigin() == pytest.approx((-7, 3, 100))
    labels = np.zeros(SCAN.shape, np.uint8)
    labels[1, 2:5], labels[3, 7:, 4] = 1, 4
    write_segmentation(SimpleITK.GetImageFromArray(labels), {1: "organ", 2: "cyst", 4: "lesion"}, series, target)
    written = segread(target)
    assert [segment.SegmentLabel for segment in written.SegmentSequence] == ["organ", "cyst", "lesion"]
    assert written.PatientID == "phantom"
    np.testing.assert_array_equal(voxels(written, series), np.where(labels == 4, 3, labels))
    write_segmentation(SimpleITK.GetImageFromArray(0 * labels), {1: "organ"}, series, target)
    assert not voxels(segread(target), series).any()


def write_two(folder: Path) -> None:
    write_series(folder, SCAN)
    shutil.copy(folder / "0.dcm", folder / "of_another.dcm")
    write_series(folder, SCAN)


def write_text(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.dcm").write_text("x")


def write_cut_off(folder: Path) -> None:
    write_series(folder, SCAN)
    content = (folder / "10.dcm").read_bytes()  # the last slice
    (folder / "10.dcm").write_bytes(content[:-200])


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda folder: folder.mkdir(), "holds 0 DICOM series"),
    "text": (write_text, "holds 0 DICOM series"),
    "two": (write_two, "holds 2 DICOM series"),
    "a slice is missing": (lambda folder: write_series(folder, SCAN, left_out=[1]), "not evenly spaced"),
    "no pixels": (lambda folder: write_series(folder, SCAN, PixelData=None), "holds 0 DICOM series"),
    "cut off": (write_cut_off, r"10\.dcm is no whole slice of the series"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_volume(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, said = UNREADABLE[name]
    make(tmp_path / "series")
    with pytest.raises(ValueError, match=said):
        read_series(tmp_path / "series")
    assert "WARNING" not in capfd.readouterr().err


def test_a_series_that_no_segmentation_can_refer_to(tmp_path: Path) -> None:
    write_series(tmp_path / "series", SCAN, StudyInstanceUID=None)
    with pytest.raises(ValueError, match=r"lacks what a DICOM segmentation refers to: .*StudyInstanceUID"):
        write_segmentation(SimpleITK.GetImageFromArray(SCAN % 2), {1: "a"}, tmp_path / "series", tmp_path / "out.dcm")
    assert not (tmp_path / "out.dcm").exists()


def test_cases_of_folders(tmp_path: Path) -> None:
    def found(n_channels: int, *names: str) -> dict[str, list[str]]:
        root = tmp_path / "_".join(names)
        for name in names:
            (root / name).mkdir(parents=True)
        return {case: [path.name for path in folders] for case, folders in find_series(root, n_channels).items()}

    assert found(1, "a_0000", "b", "c_2024") == {"a": ["a_0000"], "b": ["b"], "c_2024": ["c_2024"]}
    assert found(2, "a_0001", "a_0000") == {"a": ["a_0000", "a_0001"]}
    with pytest.raises(ValueError, match="a has the channels 0000, 0002, and the networks take 0000, 0001"):
        found(2, "a_0000", "a_0002")
    with pytest.raises(ValueError, match="b is not named CASE_0000, and the networks take 2 channels"):
        found(2, "b")


def test_container_writes_a_segmentation_of_a_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = container("SimpleITKIO", ".nii.gz", 2, "labels")
    write_series(Path("input", "images", "ct"), SCAN)
    Path("input", "inputs.json").write_text(json.dumps([{"socket": {"slug": "ct", "relative_path": "images/ct"}}]))
    shutil.copy(Path(building.__file__).parent / "container-template" / "inference.py", tmp_path)
    settings = {"inputs": ["ct"], "output": "organ", "step_size": 0.5, "mirroring": True, "time_limit": None}
    Path("settings.json").write_text(json.dumps({**settings, "dicom": True}))
    arguments = ["inference.py", "--input", "input", "--output", "output", "--model", str(models)]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setenv("nnUNet_extTrainer", "")
    with pytest.raises(SystemExit) as ended:
        runpy.run_path("inference.py", run_name="__main__")
    assert ended.value.code == 0, capsys.readouterr().err
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("output/images/organ/ct.mha"))
    segmentation = segread("output/images/organ/ct.dcm")
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["organ", "lesion"]
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(voxels(segmentation, Path("input/images/ct")), labels)

"""The checks of a submission in every format that nnU-Net reads, with the reader that the plans name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from formats import FORMATS, Array, by_itk, sheared

from nnunet_archs.deploy.check import check, find_cases
from nnunet_archs.deploy.submit import remove_unfinished
from nnunet_archs.nnunet.images import reader_of

SHARES = (0.3, 0.5, 0.7, 0.98, 0.9999)


def image(n_axes: int) -> Array:
    return np.random.default_rng(0).integers(0, 250, (6, 20, 22)[-n_axes:], np.uint8)


def labels(n_axes: int) -> Array:
    return np.random.default_rng(1).integers(0, 2, (6, 20, 22)[-n_axes:], np.uint8)


def data_set(ending: str, n_channels: int = 1) -> dict[str, Any]:
    names = {str(channel): f"c{channel}" for channel in range(n_channels)}
    return {"channel_names": names, "labels": {"background": 0, "organ": 1}, "file_ending": ending}


def problems(ending: str, reader_name: str, n_channels: int = 1, **options: Any) -> list[str]:
    reader, dataset = reader_of({"image_reader_writer": reader_name}), data_set(ending, n_channels)
    cases = find_cases(Path("images"), dataset, reader)
    return [
        f"{'warning: ' if problem.is_warning else ''}{problem}"
        for problem in check(Path("package"), cases, dataset, reader, **options)
    ]


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    for name in ("images", "package"):
        (tmp_path / name).mkdir()


def write_case(write: Callable[[Path, Array], None], ending: str, n_axes: int) -> tuple[Path, Path]:
    """An image and nnU-Net's segmentation of it."""
    scan, found = Path("images", f"b_0000{ending}"), Path("package", f"b{ending}")
    write(scan, image(n_axes))
    write(found, labels(n_axes))
    found.with_suffix(".json").unlink(missing_ok=True)  # a challenge takes the .tif alone
    return scan, found


@pytest.mark.parametrize("name", FORMATS)
def test_whole_and_truncated(name: str) -> None:
    """Nothing is wrong with a whole file; every shorter one is found, as a segmentation and as an image."""
    ending, reader, write, n_axes = FORMATS[name]
    scan, found = write_case(write, ending, n_axes)
    assert problems(ending, reader) == []
    whole = found.read_bytes()
    for share in SHARES:
        found.write_bytes(whole[: int(share * len(whole))])
        assert problems(ending, reader) == [f"b: cannot be read to its end (b{ending})"]
        remove_unfinished(found.parent, ending, reader_of({"image_reader_writer": reader}))
        assert not found.exists()
    found.write_bytes(whole)
    remove_unfinished(found.parent, ending, reader_of({"image_reader_writer": reader}))
    assert found.read_bytes() == whole
    whole = scan.read_bytes()
    for share in SHARES:
        scan.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=rf"b_0000{re.escape(ending)} cannot be read"):
            problems(ending, reader)


TIFFS: dict[str, Callable[[Path], Any]] = {
    "float64": lambda file: tifffile.imwrite(file, image(2).astype(np.float64)),
    "tiled": lambda file: tifffile.imwrite(file, image(2), tile=(16, 16), compression="zlib"),
    "boolean": lambda file: tifffile.imwrite(file, image(2) > 100),
    "big": lambda file: tifffile.imwrite(file, image(2), bigtiff=True),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_tiff_that_simpleitk_does_not_read(kind: str) -> None:
    _, found = write_case(FORMATS["2D TIFF"][2], ".tif", 2)
    TIFFS[kind](Path("images", "b_0000.tif"))
    assert problems(".tif", "NaturalImage2DIO") == []
    found.rename("package/b_.tif")
    assert "b: is missing (b.tif)" in problems(".tif", "NaturalImage2DIO")


def test_planes_of_colours_in_a_tiff() -> None:
    write_case(FORMATS["2D TIFF"][2], ".tif", 2)
    planes = np.random.default_rng(0).integers(0, 255, (3, 20, 22), np.uint8)
    tifffile.imwrite("images/b_0000.tif", planes, photometric="rgb", planarconfig="separate")
    assert problems(".tif", "NaturalImage2DIO", n_channels=3) == []


@pytest.mark.parametrize("n_slices", [3, 4])
def test_slices_of_a_tiff_are_no_channels(n_slices: int) -> None:
    write = FORMATS["3D TIFF"][2]
    write(Path("images", "b_0000.tif"), image(3)[:n_slices])
    write(Path("package", "b.tif"), labels(3)[:n_slices])
    Path("package", "b.json").unlink()
    assert problems(".tif", "Tiff3DIO") == []
    write(Path("package", "b.tif"), labels(3))
    assert f"b: has size (22, 20, 6), its image (22, 20, {n_slices})" in problems(".tif", "Tiff3DIO")


def test_sheared_segmentation_elsewhere() -> None:
    _, found = write_case(sheared, ".nii.gz", 3)
    by_itk(found, labels(3))
    assert [problem.split(" (")[0] for problem in problems(".nii.gz", "NibabelIO")] == [
        "b: has spacing",
        "b: has origin",
        "b: has direction",
    ]


def test_qform_and_sform_that_differ() -> None:
    """What nnU-Net writes has the image's sform, by which nibabel goes; SimpleITK goes by its qform (code 1)."""
    qform, sform = np.diag([1.0, 1, 2, 1]), np.diag([1.0, 1, 2, 1])
    sform[:3, 3] = 10, 20, 30
    scan = nibabel.Nifti1Image(image(3).transpose(), None)
    scan.set_qform(qform, 1)
    scan.set_sform(sform, 2)
    nibabel.save(scan, "images/b_0000.nii.gz")
    reader = reader_of({"image_reader_writer": "NibabelIO"})
    _, properties = reader.read_images(["images/b_0000.nii.gz"])
    reader.write_seg(labels(3), "package/b.nii.gz", properties)
    (warning,) = problems(".nii.gz", "NibabelIO")
    assert re.fullmatch(
        r"warning: b: has origin \(-10, -20, 30\), its image \(0, 0, 0\), as SimpleITK reads them; .*", warning
    )
    assert problems(".nii.gz", "NibabelIO", geometry="nibabel") == []
    assert problems(".nii.gz", "NibabelIO", geometry="none") == []
    assert problems(".nii.gz", "NibabelIO", geometry="SimpleITK") == [
        "b: has origin (-10, -20, 30), its image (0, 0, 0)"
    ]


def test_reader_that_nnunet_does_not_have() -> None:
    with pytest.raises(ValueError, match="plans name the reader DicomIO, which nnU-Net does not have"):
        reader_of({"image_reader_writer": "DicomIO"})


def test_channels_in_one_file() -> None:
    """nnU-Net reads them, and fails when it writes the labels."""
    write_case(by_itk, ".nii.gz", 3)
    by_itk(Path("images", "b_0000.nii.gz"), np.stack([image(3)] * 2), (1.0, 1.0, 2.0, 1.0))
    with pytest.raises(ValueError, match="holds several channels, and nnU-Net writes no labels for such; split it"):
        problems(".nii.gz", "SimpleITKIO", n_channels=2)

"""A container's label map is `nnUNetv2_predict`'s, whatever format the model was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import tifffile
import torch
from formats import Array, by_itk, natural, volume
from models import FASTEST, container
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from series import write_series

from nnunet_archs.deploy.inference import segment
from nnunet_archs.deploy.sockets import check_format, is_possible
from nnunet_archs.discovery import discovery_folder
from nnunet_archs.nnunet.images import read_labels, reader_of

TURNED = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture(autouse=True)
def _trainers_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", discovery_folder())
    for name in ("sockets", "raw"):
        Path(name).mkdir()


def by_nnunet(models: Path, files: list[Path], reader: str) -> Array:
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(models / f"{FASTEST}__HandMadePlans__tiny"), (0,))
    predictor.predict_from_files_sequential([[str(file) for file in files]], ["theirs"])
    (result,) = (file for file in Path().glob("theirs.*") if file.suffix != ".json")
    return read_labels(reader_of({"image_reader_writer": reader}), result)[0]


def noise(*shape: int) -> Array:
    return np.random.default_rng(0).integers(0, 250, shape, np.uint8)


def scan(file: Path, array: Array) -> None:
    """An image that is turned and anisotropic, with a voxel of 2 x 1 x 1 mm (z, y, x)."""
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 2.0)[: array.ndim])
    if array.ndim == 3:
        image.SetDirection(TURNED)
    SimpleITK.WriteImage(image, str(file))


def colours(file: Path, array: Array) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=True), str(file))


def plain(file: Path, array: Array) -> None:
    tifffile.imwrite(file, array, photometric="minisblack")


# reader, ending, channels of the model, shape of a file, number of files, ending and writer of a socket's, of nnU-Net's
Write = Callable[[Path, Array], None]


def series_like_by_itk(folder: Path, array: Array) -> None:
    write_series(folder, array, spacing=(2, 1, 1))


GIVEN: dict[str, tuple[str, str, str, tuple[int, ...], int, tuple[str, Write], Write]] = {
    "NIfTI": ("SimpleITKIO", ".nii.gz", "two channels", (4, 9, 10), 2, (".mha", scan), scan),
    "NIfTI by nibabel": ("NibabelIO", ".nii.gz", "labels", (4, 9, 10), 1, (".mha", scan), scan),
    "reoriented": ("SimpleITKIOWithReorient", ".nrrd", "labels", (4, 9, 10), 1, (".mha", scan), scan),
    "reoriented by nibabel": ("NibabelIOWithReorient", ".nii", "labels", (4, 9, 10), 1, (".mha", scan), scan),
    "3D TIFF": ("Tiff3DIO", ".tif", "labels", (5, 12, 14), 1, (".mha", by_itk), volume),
    "three slices": ("Tiff3DIO", ".tiff", "labels", (3, 12, 14), 1, (".mha", by_itk), volume),
    "TIFF given as such": ("Tiff3DIO", ".tif", "two channels", (4, 12, 14), 2, (".tif", plain), plain),
    "PNG": ("NaturalImage2DIO", ".png", "labels", (12, 14), 1, (".mha", scan), natural),
    "PNG a channel": ("NaturalImage2DIO", ".png", "two channels", (12, 14), 2, (".mha", scan), natural),
    "colours": ("NaturalImage2DIO", ".png", "three channels", (12, 14, 3), 1, (".mha", colours), natural),
    "a slice for BMP": ("NaturalImage2DIO", ".bmp", "labels", (1, 12, 14), 1, (".mha", scan), natural),
    "DICOM": (
        "SimpleITKIO",
        ".nii.gz",
        "two channels",
        (4, 12, 14),
        2,
        ("", series_like_by_itk),
        by_itk,
    ),
    "two-dimensional": ("SimpleITKIO", ".mha", "labels", (12, 14), 1, (".mha", scan), scan),
}


@pytest.mark.parametrize("name", GIVEN)
def test_equals_nnunet(name: str) -> None:
    reader, ending, target, shape, n_files, (given, write_socket), write_raw = GIVEN[name]
    models = container(reader, ending, 3 if reader == "Tiff3DIO" else 2, target)
    sockets, raw = [], []
    for channel in range(n_files):
        array = noise(*shape) // (channel + 1)
        sockets.append(Path("sockets", f"scan{channel}{given}"))
        raw.append(Path("raw", f"case_{channel:04}{ending}"))
        write_socket(sockets[-1], array)
        write_raw(raw[-1], array[0] if name == "a slice for BMP" else array)
    label_map = segment(sockets, models, step_size=0.5, mirroring=True, end=None)
    stored = {"SimpleITKIOWithReorient": "SimpleITKIO", "NibabelIOWithReorient": "NibabelIO"}.get(reader, reader)
    theirs = by_nnunet(models, raw, stored)
    ours = SimpleITK.GetArrayFromImage(label_map)
    assert len(np.unique(theirs)) > 1
    assert np.array_equal(ours.reshape(theirs.shape), theirs)
    if given == ".mha":
        image = SimpleITK.ReadImage(str(sockets[0]))
        assert label_map.GetSize() == image.GetSize()
        assert label_map.GetSpacing() == image.GetSpacing()
        assert label_map.GetDirection() == image.GetDirection()


@pytest.mark.parametrize(
    ("reader", "shape", "said"),
    [
        ("Tiff3DIO", (12, 14), "the model takes three axes"),
        ("NaturalImage2DIO", (2, 20, 22), "has 2 slices, and the model takes one"),
        ("SimpleITKIO", (3, 20, 22, 1), "the images hold 3 channels, and the model takes 1: channel0"),
    ],
)
def test_image_that_is_none_of_the_models(reader: str, shape: tuple[int, ...], said: str) -> None:
    ending = {"Tiff3DIO": ".tif", "NaturalImage2DIO": ".png", "SimpleITKIO": ".nii.gz"}[reader]
    models = container(reader, ending, 2, "labels")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise(*shape), isVector=False), "sockets/scan.mha")
    with pytest.raises(ValueError, match=said):
        segment([Path("sockets/scan.mha")], models, step_size=0.5, mirroring=True, end=None)


def test_number_of_sockets() -> None:
    one_each, natural_images = SimpleITKIO(), NaturalImage2DIO()
    assert [n for n in range(5) if is_possible(n, 3, one_each)] == [3]
    assert [n for n in range(5) if is_possible(n, 3, natural_images)] == [1, 3]
    assert [n for n in range(5) if is_possible(n, 4, natural_images)] == [1, 2, 4]
    assert [n for n in range(5) if is_possible(n, 2, natural_images)] == [2]


def test_format_that_a_container_does_not_make() -> None:
    with pytest.raises(ValueError, match=r"reads \.png with SimpleITKIO, which a container's images are not made into"):
        check_format(SimpleITKIO(), ".png")

"""Images and label maps of every format that nnU-Net reads, written without its help."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import SimpleITK
import tifffile
from skimage.io import imsave

Array = npt.NDArray[Any]
SHEARED = np.array([[2, 0.4, 0, -10], [0, 1.5, 0, 20], [0, 0, 3, 5], [0, 0, 0, 1.0]])


def by_itk(file: Path, array: Array, spacing: tuple[float, ...] = (1.0, 1.0, 2.0)) -> None:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing[: array.ndim])
    SimpleITK.WriteImage(image, str(file), useCompression=True)


def sheared(file: Path, array: Array) -> None:
    """NIfTI that SimpleITK refuses to read."""
    nibabel.save(nibabel.Nifti1Image(array.transpose(), SHEARED), file)


def volume(file: Path, array: Array) -> None:
    """3D TIFF, with its spacing beside it."""
    tifffile.imwrite(file, array, compression="zlib", photometric="minisblack")
    beside = file.name.removesuffix(file.suffix).removesuffix("_0000") + ".json"
    file.with_name(beside).write_text(json.dumps({"spacing": [2.0, 1.0, 1.0]}))


def natural(file: Path, array: Array) -> None:
    imsave(file, array, check_contrast=False)


# ending, nnU-Net's reader, what writes it, axes
FORMATS: dict[str, tuple[str, str, Callable[[Path, Array], None], int]] = {
    "NIfTI": (".nii.gz", "SimpleITKIO", by_itk, 3),
    "uncompressed NIfTI": (".nii", "NibabelIO", by_itk, 3),
    "sheared NIfTI": (".nii.gz", "NibabelIO", sheared, 3),
    "reoriented NIfTI": (".nii.gz", "NibabelIOWithReorient", by_itk, 3),
    "two-dimensional NIfTI": (".nii.gz", "SimpleITKIO", by_itk, 2),
    "NRRD": (".nrrd", "SimpleITKIO", by_itk, 3),
    "MetaImage": (".mha", "SimpleITKIO", by_itk, 3),
    "two-dimensional MetaImage": (".mha", "SimpleITKIO", by_itk, 2),
    "GIPL": (".gipl", "SimpleITKIO", by_itk, 3),
    "PNG": (".png", "NaturalImage2DIO", natural, 2),
    "BMP": (".bmp", "NaturalImage2DIO", natural, 2),
    "2D TIFF": (".tif", "NaturalImage2DIO", natural, 2),
    "3D TIFF": (".tif", "Tiff3DIO", volume, 3),
    "3D TIFF, other ending": (".tiff", "Tiff3DIO", volume, 3),
}

"""Cut a box out of an image file, whose place in space stays as it is."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

from nnunet_archs.nnunet.whole import check_whole

from .case_files import Box
from .pixels import Array, read_volume

NIFTI = (".nii", ".nii.gz")
CANNOT_BE_CUT = (".tif", ".tiff")  # their spacing lies in another file


def cut(file: Path, box: Box, target: Path) -> None:
    """Write what lies in a box."""
    if file.name.endswith(NIFTI):  # both of its transforms stay true
        nibabel.save(nibabel.load(file).slicer[tuple(slice(*ends) for ends in box)], target)
        return
    SimpleITK.WriteImage(read_volume(file)[tuple(slice(*ends) for ends in box)], str(target), True)


def read_voxels(file: Path) -> tuple[Array, tuple[float, ...]]:
    """A label map and its spacing in mm, in the file's order of axes: x comes first.

    Raises:
        ValueError: for a file that is none, or not whole.
    """
    if not file.name.endswith(NIFTI):
        image = read_volume(file)
        return SimpleITK.GetArrayFromImage(image).T, image.GetSpacing()
    check_whole(file)
    try:
        nifti = nibabel.load(file)
        return np.asarray(nifti.dataobj), tuple(map(float, nifti.header.get_zooms()))
    except (OSError, nibabel.filebasedimages.ImageFileError) as error:
        raise ValueError(f"{file} cannot be read as an image: replace it") from error

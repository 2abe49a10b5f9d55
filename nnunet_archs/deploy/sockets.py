"""From the image of a container's socket to the file that nnU-Net reads in its place, and from its label map back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import SimpleITK
import tifffile
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunet_archs.nnunet.images import read_image, read_labels

from .dicom import read_series

TIFF = (".tif", ".tiff")
# what a file of each of nnU-Net's readers may be called, and what reads its labels as they are stored
WITH_GEOMETRY = (".nii", ".nii.gz", ".nrrd", ".mha", ".gipl")
READERS: dict[type[BaseReaderWriter], tuple[tuple[str, ...], type[BaseReaderWriter]]] = {
    SimpleITKIO: (WITH_GEOMETRY, SimpleITKIO),
    SimpleITKIOWithReorient: (WITH_GEOMETRY, SimpleITKIO),
    NibabelIO: (WITH_GEOMETRY[:2], NibabelIO),
    NibabelIOWithReorient: (WITH_GEOMETRY[:2], NibabelIO),
    Tiff3DIO: (TIFF, Tiff3DIO),
    NaturalImage2DIO: ((".png", ".bmp", ".tif"), NaturalImage2DIO),
}


def check_format(reader: BaseReaderWriter, ending: str) -> None:
    """Check that files for a reader can be made of a socket's image.

    Raises:
        ValueError: if not.
    """
    endings, _ = READERS.get(type(reader), ((), None))
    if ending not in endings:
        known = "; ".join(f"{known.__name__} of {', '.join(endings)}" for known, (endings, _) in READERS.items())
        raise ValueError(
            f"the model reads {ending} with {type(reader).__name__}, which a container's images are not made into; "
            f"train on one of these: {known}"
        )


def is_possible(n_files: int, n_channels: int, reader: BaseReaderWriter) -> bool:
    """Whether a case's channels can be in so many files: one in each, or in a natural image 3 or 4 colours."""
    if not isinstance(reader, NaturalImage2DIO):
        return n_files == n_channels
    splits = ((rgb, rgba) for rgb in range(n_files + 1) for rgba in range(n_files + 1 - rgb))
    return any(n_files + 2 * rgb + 3 * rgba == n_channels for rgb, rgba in splits)


def make_files(images: Sequence[Path], case: Path, ending: str, reader: BaseReaderWriter) -> list[Path]:
    """Write images, or folders of DICOM series, as the files of a case, `case` their path without channel and ending.

    Raises:
        ValueError: if an image cannot be read, or is none of the model's.
    """
    files = []
    for channel, image in enumerate(images):
        is_copied = image.suffix in TIFF and isinstance(reader, (Tiff3DIO, NaturalImage2DIO))
        # natural images as TIFF, which holds all types; nnU-Net reads them by their content
        own = image.suffix if is_copied else ".tif" if isinstance(reader, NaturalImage2DIO) else ending
        files.append(case.with_name(f"{case.name}_{channel:04}{own}"))
        try:
            if is_copied:
                shutil.copyfile(image, files[-1])
            else:
                write(image, files[-1], reader)
        except RuntimeError as error:
            raise ValueError(f"{image} cannot be read, or not be written as {own}; replace it") from error
    return files


def read_socket(image: Path) -> SimpleITK.Image:
    """An image, or the DICOM series in a folder. Raises RuntimeError or ValueError where that is not possible."""
    return read_series(image) if image.is_dir() else SimpleITK.ReadImage(str(image))


def write(image: Path, file: Path, reader: BaseReaderWriter) -> None:
    """Write an image as a reader reads it. Raises RuntimeError or ValueError where that is not possible."""
    read = read_socket(image)
    if not isinstance(reader, (Tiff3DIO, NaturalImage2DIO)):
        SimpleITK.WriteImage(read, str(file))
        return
    array = SimpleITK.GetArrayFromImage(read)
    if isinstance(reader, Tiff3DIO):
        if array.ndim != 3:
            raise ValueError(f"{image} has shape {array.shape}, and the model takes three axes; replace it")
        beside = file.with_name(f"{file.stem[: -len('_0000')]}.json")
        beside.write_text(json.dumps({"spacing": read.GetSpacing()[::-1]}))
    elif read.GetDimension() == 3:
        if len(array) > 1:
            raise ValueError(f"{image} has {len(array)} slices, and the model takes one; replace it")
        array = array[0]
    is_coloured = read.GetNumberOfComponentsPerPixel() > 1
    tifffile.imwrite(file, array, photometric="rgb" if is_coloured else "minisblack")


def check_channels(files: Sequence[Path], names: Sequence[str], reader: BaseReaderWriter) -> None:
    """Check that a case has the data set's channels.

    Raises:
        ValueError: if it does not.
    """
    image, _ = read_image(reader, files)
    if len(image) != len(names):
        raise ValueError(f"the images hold {len(image)} channels, and the model takes {len(names)}: {', '.join(names)}")


def label_map(file: Path, image: Path, reader: BaseReaderWriter) -> SimpleITK.Image:
    """The label map in a file of nnU-Net's, on the grid of a socket's image."""
    _, stored = READERS[type(reader)]
    labels, _ = read_labels(stored(), file)
    labels = labels.astype(np.uint8 if labels.max() < 255 else np.uint16)
    try:
        grid = read_socket(image)
    except RuntimeError:
        grid = None
    if grid is None or prod(grid.GetSize()) != labels.size:  # a TIFF, which has no geometry, as SimpleITK reads it
        return SimpleITK.GetImageFromArray(labels[0] if isinstance(reader, NaturalImage2DIO) else labels)
    made = SimpleITK.GetImageFromArray(labels.reshape(grid.GetSize()[::-1]))
    made.CopyInformation(grid)
    return made

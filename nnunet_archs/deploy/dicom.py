"""DICOM series as images, and label maps as DICOM segmentations (SEG) of such a series."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import SimpleITK

OURS = "nnunet-archs"
NEEDED = ("highdicom", "pydicom")
# what ITK notes of a series whose slices are not where an even spacing has them
UNEVEN = "ITK_non_uniform_sampling_deviation"


def check_installed() -> None:
    """Check that the libraries are there.

    Raises:
        ValueError: if one is missing.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ValueError(f'--dicom needs {", ".join(missing)}, not installed here; pip install "{OURS}[dicom]"')


def find_series(images: Path, n_channels: int) -> dict[str, list[Path]]:
    """The folders of every case in a folder of series, one a channel: CASE_0000, ...; CASE too, where there is one.

    Raises:
        ValueError: if there are none, or a case does not have the channels.
    """
    if not images.is_dir():
        raise ValueError(f"{images} is no folder; give the one with a folder for each DICOM series")
    cases: dict[str, dict[str, Path]] = {}
    for folder in sorted(path for path in images.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if n_channels == 1:
            cases.setdefault(folder.name.removesuffix("_0000"), {})["0000"] = folder
        elif match := re.fullmatch(r"(.+)_([0-9]{4})", folder.name):
            cases.setdefault(match[1], {})[match[2]] = folder
        else:
            raise ValueError(f"{folder} is not named CASE_0000, and the networks take {n_channels} channels; rename it")
    if not cases:
        raise ValueError(f"{images} has no folders; give the one with a folder for each DICOM series")
    expected = [f"{channel:04}" for channel in range(n_channels)]
    for case, channels in cases.items():
        if sorted(channels) != expected:
            raise ValueError(
                f"{images / case} has the channels {', '.join(sorted(channels))}, and the networks take "
                f"{', '.join(expected)}; add or remove series"
            )
    return {case: [channels[channel] for channel in expected] for case, channels in cases.items()}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ITK's warnings back: what they are about is said in errors."""
    is_loud = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(is_loud)


def slices_of(series: Path) -> list[str]:
    """The files of the one series in a folder, in the order of the slices.

    Raises:
        ValueError: if there is none, or several, or one of its files is cut off.
    """
    with quiet():
        found = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(series))
    if len(found) != 1:
        raise ValueError(
            f"{series} holds {len(found)} DICOM series, and one is expected; give each a folder of its own"
        )
    files = list(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(series), found[0]))
    # ITK passes over what is cut off, and an end of the volume would be missing unnoticed
    for file in set(series.iterdir()) - set(map(Path, files)):
        if is_dicom(file):
            raise ValueError(f"{file} is no whole slice of the series beside it; copy it again, or move it away")
    return files


def is_dicom(file: Path) -> bool:
    """Whether a file begins as one of DICOM's, and is not the list of a medium's files."""
    if not file.is_file() or file.name == "DICOMDIR":
        return False
    with file.open("rb") as content:
        return content.read(132)[128:] == b"DICM"


def read_series(series: Path) -> SimpleITK.Image:
    """The volume that the slices in a folder are.

    Raises:
        ValueError: if they cannot be read, or are no volume of evenly spaced slices.
    """
    files = slices_of(series)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(files)
    try:
        with quiet():
            volume = reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"{series} cannot be read as a DICOM series; copy it again") from error
    if volume.GetNumberOfComponentsPerPixel() > 1 or volume.GetSize()[2:] != (len(files),):
        raise ValueError(
            f"{series} has colours, or files with several frames; give a series of grey slices, one a file"
        )
    if volume.HasMetaDataKey(UNEVEN):
        raise ValueError(
            f"{series} has slices that are not evenly spaced: one is missing, or two are of one place; export it again"
        )
    return volume


def write_segmentation(labels: SimpleITK.Image, names: Mapping[int, str], series: Path, target: Path) -> None:
    """Write a label map as the DICOM segmentation of the series that it lies on: a segment for each name.

    Raises:
        ValueError: if a slice lacks what a segmentation refers to.
    """
    import highdicom
    from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    array = SimpleITK.GetArrayFromImage(labels)
    made_by = highdicom.AlgorithmIdentificationSequence(OURS, codes.DCM.ArtificialIntelligence, version(OURS))
    segments = [
        SegmentDescription(
            segment_number=number,
            segment_label=name[:64],  # DICOM's longest
            segmented_property_category=codes.SCT.Tissue,  # what a name means is not known
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=made_by,
        )
        for number, name in enumerate(names.values(), start=1)
    ]
    numbers = np.zeros_like(array)
    for number, value in enumerate(names, start=1):
        numbers[array == value] = number
    try:
        segmentation = Segmentation(
            source_images=[dcmread(file, stop_before_pixels=True) for file in slices_of(series)],
            pixel_array=numbers,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=highdicom.UID(),
            series_number=1000,  # after those of the scanner
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=OURS,
            manufacturer_model_name=OURS,
            software_versions=version(OURS),
            device_serial_number="0",
            omit_empty_frames=bool(numbers.any()),
        )
    # highdicom takes the attributes as they come
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{series} lacks what a DICOM segmentation refers to: {error}; export it again") from error
    unfinished = target.with_name(f".{target.name}")
    segmentation.save_as(unfinished)
    os.replace(unfinished, target)

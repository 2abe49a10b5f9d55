"""Check predicted segmentations against their images: what a challenge would refuse, said before it does."""

from __future__ import annotations

import re
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

import nibabel
import numpy as np
import pandas
import SimpleITK
from nibabel.filebasedimages import ImageFileError
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from skimage.io import imread
from tqdm import tqdm

from nnunet_archs.nnunet.images import read_image, read_labels

NIFTI = (".nii", ".nii.gz")
WITHOUT_GEOMETRY = (".png", ".bmp", ".tif", ".tiff")  # nnU-Net writes no spacing into these
TOLERANCE = 1e-4  # of directions, and of spacings in proportion: headers hold float32, or decimals
TOLERANCE_VOXELS = 1e-3  # of origins
N_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """What is wrong with a case's segmentation."""

    case: str
    what: str
    is_empty: bool = False  # it is all background, which a true negative may be
    is_warning: bool = False  # nnU-Net finds nothing wrong, and a challenge may

    def __str__(self) -> str:
        return f"{self.case}: {self.what}"


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie, in the order x, y, z; only their number where the format says no more."""

    size: tuple[int, ...]
    spacing: tuple[float, ...] = ()  # mm
    origin: tuple[float, ...] = ()  # mm
    direction: tuple[float, ...] = ()


def check(
    package: Path,
    cases: Mapping[str, Sequence[Path]],
    dataset_json: Mapping[str, Any],
    reader: BaseReaderWriter,
    *,
    pattern: str = "{case}",
    geometry: str | None = None,
) -> list[Problem]:
    """What is wrong with the segmentations in a folder or zip file; nothing where every case has its own.

    Args:
        package: the folder or zip file.
        cases: the images of every case, as `find_cases` returns them.
        dataset_json: the labels and the file ending.
        reader: nnU-Net's, by which values are read.
        pattern: of the file names.
        geometry: what reads where voxels lie, one of `GEOMETRIES`; by default what the reader uses.

    Raises:
        ValueError: if an image cannot be read.
    """
    ending = dataset_json["file_ending"]
    expected = {file_name(pattern, case, ending): case for case in cases}
    try:
        with opened(package) as (names, path_of):
            problems = list(check_names(names, expected, ending))
            for name in tqdm(sorted(set(names) & expected.keys()), desc="Checking", unit="case", disable=None):
                case = expected[name]
                image = cases[case][0]
                try:
                    file = path_of(name)
                    problems += check_file(case, file, dataset_json, reader)
                except (ValueError, *UNREADABLE):
                    problems.append(Problem(case, f"cannot be read to its end ({name})"))
                    continue
                problems += check_geometry(case, file, image, reader, geometry)
    except UNREADABLE as error:
        problems = [Problem(package.name, f"cannot be read to its end ({error})")]
    return sorted(problems, key=lambda problem: problem.case)


UNREADABLE = (BadZipFile, zlib.error, EOFError, NotImplementedError)


def file_name(pattern: str, case: str, ending: str) -> str:
    """A case's file in the package."""
    return pattern.replace("{case}", case) + ending


def check_pattern(pattern: str) -> None:
    """Check a pattern of file names.

    Raises:
        ValueError: if it does not make a file name of its own for every case.
    """
    if pattern.count("{case}") != 1 or re.search(r"[{}/\\]", pattern.replace("{case}", "")):
        raise ValueError(f"--rename {pattern!r}: give a file name without its ending, with {{case}} in it once")


def find_cases(images: Path, dataset_json: Mapping[str, Any], reader: BaseReaderWriter) -> dict[str, list[Path]]:
    """The files of every case in a folder of images, in the order of the channels.

    Raises:
        ValueError: if there are none, one is not whole, or they do not have the data set's channels.
    """
    cases, names = name_cases(images, dataset_json), list(dataset_json["channel_names"].values())
    for case, files in tqdm(cases.items(), desc="Reading images", unit="case", disable=None):
        check_channels(images / case, files, names, reader)
    return cases


def name_cases(images: Path, dataset_json: Mapping[str, Any]) -> dict[str, list[Path]]:
    """The files of every case in a folder of images, by their names.

    Raises:
        ValueError: if there are none, or others.
    """
    ending = dataset_json["file_ending"]
    if not images.is_dir():
        raise ValueError(f"{images} is not a folder; give the one with the images")
    cases: dict[str, list[Path]] = {}
    for file in sorted(images.iterdir()):
        if match := re.fullmatch(rf"(.+)_[0-9]{{4}}{re.escape(ending)}", file.name):
            cases.setdefault(match[1], []).append(file)
        elif is_image(file):
            raise ValueError(f"{file} is not named CASE_0000{ending}, as nnU-Net has it; rename it, or move it away")
    if not cases:
        raise ValueError(f"{images} has no image CASE_0000{ending}; give the folder with the test images")
    return cases


def is_image(file: Path) -> bool:
    """Whether a file is, by its name, an image that nnU-Net reads."""
    endings = tuple(ending for reader in LIST_OF_IO_CLASSES for ending in reader.supported_file_endings)
    return file.name.endswith(endings) and not file.name.startswith(".")


def check_channels(case: Path, files: Sequence[Path], names: Sequence[str], reader: BaseReaderWriter) -> None:
    """Check that the files of a case hold the data set's channels, on one grid.

    Raises:
        ValueError: if they do not.
    """
    array, _ = read_image(reader, files)
    n_channels = len(array)
    if isinstance(reader, SimpleITKIO) and n_channels > len(files):
        raise ValueError(f"{files[0]} holds several channels, and nnU-Net writes no labels for such; split it")
    numbers = [int(re.findall(r"_(\d{4})\.", file.name)[-1]) for file in files]
    if n_channels != len(names) or numbers != list(range(len(files))):
        have = ", ".join(file.name for file in files)
        raise ValueError(
            f"{case} has {n_channels} channels ({have}), and the networks take {len(names)} ({', '.join(names)}), "
            "numbered from _0000; add or remove files"
        )


@contextmanager
def opened(package: Path) -> Iterator[tuple[list[str], Callable[[str], Path]]]:
    """The names of all files in a folder or zip file, and what makes a path of a name: a copy, for a zip file.

    Raises:
        BadZipFile: for a file that is no whole zip file.
    """
    if package.is_dir():
        yield (
            [file.relative_to(package).as_posix() for file in package.rglob("*") if not file.is_dir()],
            package.joinpath,
        )
        return
    with ZipFile(package) as archive, TemporaryDirectory() as folder:

        def extracted(name: str) -> Path:
            # under a name without folders, over the one before
            target = Path(folder, PurePosixPath(name).name)
            with archive.open(name) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
            return target

        yield [name for name in archive.namelist() if not name.endswith("/")], extracted


def check_names(names: Sequence[str], expected: Mapping[str, str], ending: str) -> Iterator[Problem]:
    """What is wrong with the names of the files in a package, `expected` the case of every name."""
    stems = {name.removesuffix(ending): case for name, case in expected.items()}
    seen: set[str] = set()
    for name, count in Counter(names).items():
        last = PurePosixPath(name).name
        stem = re.sub(r"(\.nii)?\.[^.]*$", "", last)
        case = expected.get(last) or stems.get(stem)
        if case is None:
            yield Problem(name, "belongs to no image")
            continue
        seen.add(case)
        if last != name:
            yield Problem(case, f"is in a sub-folder ({name})")
        elif name not in expected:
            yield Problem(case, f"has another ending than {ending} ({name})")
        if count > 1:
            yield Problem(case, f"is there {count} times ({name})")
    for name, case in expected.items():
        if case not in seen:
            yield Problem(case, f"is missing ({name})")


def check_file(case: str, file: Path, dataset_json: Mapping[str, Any], reader: BaseReaderWriter) -> Iterator[Problem]:
    """What is wrong with the values of a segmentation.

    Raises:
        ValueError: if they are not all there.
    """
    n_values, data_type = stored_as(file, reader)
    if n_values > 1:
        yield Problem(case, f"holds {n_values} values per voxel, and a label map holds one")
        return
    values = pandas.unique(read_labels(reader, file)[0].ravel())
    if data_type.kind not in "iu":
        yield Problem(case, f"has data type {data_type}, and labels are integers")
    allowed = labels_of(dataset_json)
    if unknown := sorted(set(values.tolist()) - allowed)[:N_SHOWN]:
        yield Problem(
            case, f"holds {', '.join(f'{value:g}' for value in unknown)}, and the labels are {sorted(allowed)}"
        )
    if not values.any():
        yield Problem(case, "has no foreground at all", is_empty=True)


def stored_as(file: Path, reader: BaseReaderWriter) -> tuple[int, np.dtype[Any]]:
    """How many values a voxel has in a file, and of which type: nnU-Net's readers make float32 of all.

    Raises:
        ValueError: if it is not an image.
    """
    try:
        if file.name.endswith(NIFTI):
            data = nibabel.load(file).dataobj
            is_scaled = (data.slope, data.inter) != (1, 0)
            return prod(data.shape[3:]), np.dtype(np.float64) if is_scaled else data.dtype
        if file.name.endswith(WITHOUT_GEOMETRY):
            array = imread(file)
            return array.shape[-1] if isinstance(reader, NaturalImage2DIO) and array.ndim > 2 else 1, array.dtype
        header = read_header(file)
        voxel = SimpleITK.Image([1] * header.GetDimension(), header.GetPixelID(), header.GetNumberOfComponents())
        return header.GetNumberOfComponents(), SimpleITK.GetArrayViewFromImage(voxel).dtype
    # Each of these libraries raises what it likes.
    except Exception as error:
        raise ValueError(f"{file} cannot be read as an image; replace it") from error


def check_geometry(
    case: str, file: Path, image: Path, reader: BaseReaderWriter, geometry: str | None
) -> Iterator[Problem]:
    """Where a segmentation's voxels are not its image's.

    Many challenges read NIfTI with SimpleITK; where nnU-Net's reader finds two files equal and SimpleITK does not, that
    is a warning.
    """
    chosen = geometry or own_geometry(reader, file)
    problems = [Problem(case, what) for what in differences(file, image, reader, chosen)]
    yield from problems
    if geometry is None and chosen == "nibabel" and not problems:
        try:
            seen = list(differences(file, image, reader, "SimpleITK"))
        except ValueError:  # what it does not read is not compared by it
            return
        for what in seen:
            yield Problem(case, f"{what}, as SimpleITK reads them; nibabel finds no difference", is_warning=True)


def own_geometry(reader: BaseReaderWriter, file: Path) -> str:
    """What tells where voxels lie as one of nnU-Net's readers does."""
    if file.name.endswith(WITHOUT_GEOMETRY) or not isinstance(reader, (SimpleITKIO, NibabelIO, NibabelIOWithReorient)):
        return "none"
    return "SimpleITK" if isinstance(reader, SimpleITKIO) else "nibabel"


def differences(file: Path, image: Path, reader: BaseReaderWriter, geometry: str) -> Iterator[str]:
    """How a segmentation's grid differs from its image's.

    Raises:
        ValueError: if one of them cannot be read in this way.
    """
    mine, theirs = (GEOMETRIES[geometry](of, reader) for of in (file, image))
    if mine.size != theirs.size:
        yield f"has size {shown(mine.size)}, its image {shown(theirs.size)}"
    if len(mine.size) != len(theirs.size):
        return
    spacing = np.array(theirs.spacing)
    tolerances = {
        "spacing": TOLERANCE * spacing,
        # a header's float32 is coarser than that far from 0
        "origin": TOLERANCE_VOXELS * spacing + 1e-6 * np.abs(theirs.origin),
        "direction": TOLERANCE,
    }
    for name, tolerance in tolerances.items():
        one, other = getattr(mine, name), getattr(theirs, name)
        if not np.all(np.abs(np.subtract(one, other)) <= tolerance):  # NaN is no equal either
            yield f"has {name} {shown(one)}, its image {shown(other)}"


def size_alone(file: Path, reader: BaseReaderWriter) -> Grid:
    """How many voxels nnU-Net reads."""
    _, *size = read_image(reader, [file])[0].shape
    return Grid(tuple(size[::-1][:2] if isinstance(reader, NaturalImage2DIO) else size[::-1]))


def itk_grid(file: Path, reader: BaseReaderWriter) -> Grid:
    """Where SimpleITK sees a file's voxels."""
    try:
        header = read_header(file)
    except RuntimeError as error:
        raise ValueError(f"{file} cannot be read by SimpleITK; give --geometry nibabel, or none") from error
    return Grid(header.GetSize(), header.GetSpacing(), header.GetOrigin(), header.GetDirection())


def nibabel_grid(file: Path, reader: BaseReaderWriter) -> Grid:
    """Where nibabel sees a file's voxels."""
    try:
        image = nibabel.load(file)
        affine = image.affine
    except (ImageFileError, AttributeError) as error:
        raise ValueError(f"{file} cannot be read by nibabel; give --geometry SimpleITK, or none") from error
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = (affine[:3, :3] / spacing).ravel()
    return Grid(image.shape[:3], tuple(spacing.tolist()), tuple(affine[:3, 3].tolist()), tuple(direction.tolist()))


GEOMETRIES = {"SimpleITK": itk_grid, "nibabel": nibabel_grid, "none": size_alone}


def read_header(file: Path) -> SimpleITK.ImageFileReader:
    """A file's header, without its voxels. Raises RuntimeError where SimpleITK does not read it."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    return reader


def labels_of(dataset_json: Mapping[str, Any]) -> set[int]:
    """The labels that a prediction may hold: all but the ignore label."""
    labels = {name: np.ravel(values).tolist() for name, values in dataset_json["labels"].items() if name != "ignore"}
    return {0}.union(*labels.values())


def shown(numbers: Sequence[float]) -> str:
    """Numbers for a person."""
    return f"({', '.join(f'{number + 0.0:.7g}' for number in numbers)})"  # without -0

"""Check predicted segmentations against their images: what a challenge would refuse, said before it does."""

from __future__ import annotations

import re
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt
import pandas
import SimpleITK
from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES
from tqdm import tqdm

INTEGERS = {
    getattr(SimpleITK, f"sitk{sign}Int{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)
}  # of one value per voxel
WITHOUT_GEOMETRY = (".png", ".tif", ".tiff")  # nnU-Net writes no spacing into these
TOLERANCE = 1e-4  # of directions, and of spacings in proportion: headers hold float32, or decimals
TOLERANCE_VOXELS = 1e-3  # of origins
N_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """What is wrong with a case's segmentation."""

    case: str
    what: str
    is_empty: bool = False  # it is all background, which a true negative may be

    def __str__(self) -> str:
        return f"{self.case}: {self.what}"


@dataclass(frozen=True)
class Header:
    """What an image file says of itself; sizes and lengths in the order x, y, z."""

    size: tuple[int, ...]
    spacing: tuple[float, ...]  # mm
    origin: tuple[float, ...]  # mm
    direction: tuple[float, ...]
    n_values: int  # per voxel
    is_integer: bool
    data_type: str


def check(package: Path, images: Path, dataset_json: Mapping[str, Any], *, pattern: str = "{case}") -> list[Problem]:
    """What is wrong with the segmentations in a folder or zip file; nothing where every image has its own.

    Raises:
        ValueError: if the images themselves are not as the data set has them.
    """
    cases, ending = find_cases(images, dataset_json), dataset_json["file_ending"]
    expected = {file_name(pattern, case, ending): case for case in cases}
    try:
        with opened(package) as (names, path_of):
            problems = list(check_names(names, expected, ending))
            for name in tqdm(sorted(set(names) & expected.keys()), desc="Checking", unit="case", disable=None):
                case = expected[name]
                problems += check_file(case, path_of(name), read_header(cases[case][0]), dataset_json)
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


def find_cases(images: Path, dataset_json: Mapping[str, Any]) -> dict[str, list[Path]]:
    """The files of every case in a folder of images, in the order of the channels.

    Raises:
        ValueError: if there are none, or they do not have the data set's channels.
    """
    ending, names = dataset_json["file_ending"], list(dataset_json["channel_names"].values())
    if not images.is_dir():
        raise ValueError(f"{images} is no folder; give the one with the images")
    cases: dict[str, list[Path]] = {}
    for file in sorted(images.iterdir()):
        if match := re.fullmatch(rf"(.+)_[0-9]{{4}}{re.escape(ending)}", file.name):
            cases.setdefault(match[1], []).append(file)
        elif is_image(file):
            raise ValueError(f"{file} is not named CASE_0000{ending}, as nnU-Net has it; rename it, or move it away")
    if not cases:
        raise ValueError(f"{images} has no image CASE_0000{ending}; give the folder with the test images")
    for case, files in cases.items():
        check_channels(images / case, files, names, ending)
    return cases


def is_image(file: Path) -> bool:
    """Whether a file is, by its name, an image that nnU-Net reads."""
    endings = tuple(ending for reader in LIST_OF_IO_CLASSES for ending in reader.supported_file_endings)
    return file.name.endswith(endings) and not file.name.startswith(".")


def check_channels(case: Path, files: Sequence[Path], names: Sequence[str], ending: str) -> None:
    """Check that the files of a case hold the data set's channels, on one grid.

    Raises:
        ValueError: if they do not.
    """
    headers = [read_header(file) for file in files]
    n_channels = sum(header.n_values for header in headers)
    numbered = [f"{case.name}_{channel:04}{ending}" for channel in range(len(files))]
    if n_channels != len(names) or [file.name for file in files] != numbered:
        have = ", ".join(file.name for file in files)
        raise ValueError(
            f"{case} has {n_channels} channels ({have}), and the networks take {len(names)} ({', '.join(names)}), "
            "numbered from _0000; add or remove files"
        )
    for file, header in zip(files, headers, strict=True):
        if (header.size, header.spacing) != (headers[0].size, headers[0].spacing):
            raise ValueError(f"{file} and {files[0].name} differ in size or spacing; resample one to the other")


def read_header(file: Path) -> Header:
    """A file's header, without its voxels.

    Raises:
        ValueError: if it is no image.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(f"{file} cannot be read as an image; replace it") from error
    return Header(
        size=reader.GetSize(),
        spacing=reader.GetSpacing(),
        origin=reader.GetOrigin(),
        direction=reader.GetDirection(),
        n_values=reader.GetNumberOfComponents(),
        is_integer=reader.GetPixelID() in INTEGERS,
        data_type=SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()),
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


def check_file(case: str, file: Path, image: Header, dataset_json: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with a segmentation of an image."""
    try:
        header = read_header(file)
        values = pandas.unique(read_voxels(file).ravel())
    except (ValueError, RuntimeError):
        yield Problem(case, f"cannot be read to its end ({file.name})")
        return
    if header.n_values > 1:
        yield Problem(case, f"holds {header.n_values} values per voxel, and a label map holds one")
    elif not header.is_integer:
        yield Problem(case, f"has data type {header.data_type}, and labels are integers")
    yield from check_grid(case, header, image, has_geometry=dataset_json["file_ending"] not in WITHOUT_GEOMETRY)
    allowed = labels_of(dataset_json)
    if unknown := sorted(set(values.tolist()) - allowed)[:N_SHOWN]:
        yield Problem(
            case, f"holds {', '.join(f'{value:g}' for value in unknown)}, and the labels are {sorted(allowed)}"
        )
    if not values.any():
        yield Problem(case, "has no foreground at all", is_empty=True)


def check_grid(case: str, header: Header, image: Header, *, has_geometry: bool) -> Iterator[Problem]:
    """Where a segmentation's voxels are not its image's."""
    if header.size != image.size:
        yield Problem(case, f"has size {shown(header.size)}, its image {shown(image.size)}")
    if not has_geometry or len(header.size) != len(image.size):
        return
    spacing = np.array(image.spacing)
    tolerances = {
        "spacing": TOLERANCE * spacing,
        # a header's float32 is coarser than that far from 0
        "origin": TOLERANCE_VOXELS * spacing + 1e-6 * np.abs(image.origin),
        "direction": TOLERANCE,
    }
    for name, tolerance in tolerances.items():
        mine, theirs = getattr(header, name), getattr(image, name)
        if not np.all(np.abs(np.subtract(mine, theirs)) <= tolerance):  # NaN is no equal either
            yield Problem(case, f"has {name} {shown(mine)}, its image {shown(theirs)}")


def read_voxels(file: Path) -> npt.NDArray[Any]:
    """An image file's voxels. Raises RuntimeError where they are not all there."""
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))


def labels_of(dataset_json: Mapping[str, Any]) -> set[int]:
    """The labels that a prediction may hold: all but the ignore label."""
    labels = {name: np.ravel(values).tolist() for name, values in dataset_json["labels"].items() if name != "ignore"}
    return {0}.union(*labels.values())


def shown(numbers: Sequence[float]) -> str:
    """Numbers for a person."""
    return f"({', '.join(f'{number + 0.0:.7g}' for number in numbers)})"  # without -0

"""Every way in which a submission goes wrong by hand, and the line that says so."""

from __future__ import annotations

import gzip
import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from skimage.io import imsave

from nnunet_archs.deploy.check import Problem, check_pattern, name_cases
from nnunet_archs.deploy.check import check as check_cases
from nnunet_archs.deploy.check import find_cases as find_cases_with
from nnunet_archs.nnunet.images import reader_for

CASES = ("a", "b")
SHAPE = (5, 6, 7)  # z, y, x
SPACING, ORIGIN = (0.7, 0.8, 2.5), (-12.25, 7.5, 400.125)
TURNED = (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)
DATASET = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "organ": 1, "lesion": [2, 3], "ignore": 4},
    "file_ending": ".nii.gz",
}
Array = npt.NDArray[np.generic]


def find_cases(images: Path, dataset: dict[str, Any], reader: BaseReaderWriter | None = None) -> dict[str, list[Path]]:
    """With the reader that nnU-Net takes for the first image, where none is given."""
    example = next(iter(name_cases(images, dataset).values()))[0]
    return find_cases_with(images, dataset, reader or reader_for(dataset, example))


def check(
    package: Path, images: Path, dataset: dict[str, Any], reader: BaseReaderWriter | None = None, **options: str
) -> list[Problem]:
    cases = find_cases(images, dataset, reader)
    reader = reader or reader_for(dataset, next(iter(cases.values()))[0])
    return check_cases(package, cases, dataset, reader, **options)  # type: ignore[arg-type]


def label_map() -> Array:
    array = np.zeros(SHAPE, np.uint8)
    array[1:3, 2:4, 2:5] = 1
    array[3:4, 2:4, 2:5] = 3
    return array


def write(
    file: Path,
    array: Array,
    *,
    spacing: tuple[float, ...] = SPACING,
    origin: tuple[float, ...] = ORIGIN,
    direction: tuple[float, ...] = TURNED,
    is_vector: bool = False,
) -> None:
    image = SimpleITK.GetImageFromArray(array, isVector=is_vector)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    SimpleITK.WriteImage(image, str(file), useCompression=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for case in CASES:
        for channel in range(2):
            write(folder / f"{case}_{channel:04}.nii.gz", np.random.default_rng(0).normal(size=SHAPE))
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    for case in CASES:
        write(folder / f"{case}.nii.gz", label_map())
    return folder


def zipped(folder: Path) -> Path:
    file = folder.with_suffix(".zip")
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for member in sorted(folder.rglob("*")):
            archive.write(member, member.relative_to(folder))
    return file


def rewritten(**header: tuple[float, ...]) -> Callable[[Path], object]:
    return lambda file: write(file, label_map(), **header)  # type: ignore[arg-type]


def holding(value: float, data_type: type[np.generic] = np.uint8) -> Callable[[Path], None]:
    def corrupt(file: Path) -> None:
        array = label_map().astype(data_type)
        array[0, 0, 0] = value
        write(file, array)

    return corrupt


def cut_off(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def of_another_ending(file: Path) -> None:
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(file)), str(file.with_name("b.mha")))
    file.unlink()


def into_a_folder(file: Path) -> None:
    (file.parent / "labels").mkdir()
    file.rename(file.parent / "labels" / file.name)


def with_nan_in_the_header(file: Path) -> None:
    """The spacing of x, and the x of the origin in both of NIfTI's transforms."""
    content = bytearray(gzip.decompress(file.read_bytes()))
    for offset in (80, 268, 292):
        content[offset : offset + 4] = struct.pack("<f", float("nan"))
    file.write_bytes(gzip.compress(bytes(content)))


def in_place_of_the_image(file: Path) -> None:
    write(file, np.random.default_rng(1).normal(100, 30, SHAPE).astype(np.int16))


# what goes wrong with b.nii.gz, and what is said of it
CORRUPTIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, r"b: is missing \(b.nii.gz\)"),
    "renamed": (lambda file: file.rename(file.with_name("b_seg.nii.gz")), r"b: is missing"),
    "one too many": (lambda file: write(file.with_name("c.nii.gz"), label_map()), r"c.nii.gz: belongs to no image"),
    "a stray file": (lambda file: file.with_name("plans.json").write_text("{}"), r"plans.json: belongs to no image"),
    "sub-folder": (into_a_folder, r"b: is in a sub-folder \(labels/b.nii.gz\)"),
    "ending": (of_another_ending, r"b: has another ending than .nii.gz \(b.mha\)"),
    "origin": (rewritten(origin=(-12.25, 8.0, 400.125)), r"b: has origin \(-12.25, 8, 400.125\), its image \(-12.25"),
    "direction": (rewritten(direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)), r"b: has direction \(1, 0"),
    "flipped": (rewritten(direction=(-0.8, -0.6, 0, -0.6, 0.8, 0, 0, 0, 1)), r"b: has direction \(-0.8"),
    "spacing": (rewritten(spacing=(0.7, 0.8, 2.4)), r"b: has spacing \(0.7, 0.8, 2.4\), its image \(0.7, 0.8, 2.5\)"),
    "spacing order": (rewritten(spacing=SPACING[::-1]), r"b: has spacing \(2.5, 0.8, 0.7\)"),
    "size": (lambda file: write(file, label_map()[:-1]), r"b: has size \(7, 6, 4\), its image \(7, 6, 5\)"),
    "axes": (lambda file: write(file, label_map().transpose()), r"b: has size \(5, 6, 7\), its image \(7, 6, 5\)"),
    "a plane": (lambda file: write(file, label_map()[:, :, 2:3]), r"b: has size \(1, 6, 5\)"),
    "float": (holding(1, np.float32), r"b: has data type float32"),
    "between labels": (holding(0.5, np.float32), r"b: holds 0.5, and the labels are \[0, 1, 2, 3\]"),
    "unknown label": (holding(7), r"b: holds 7, and the labels are \[0, 1, 2, 3\]"),
    "ignore label": (holding(4), r"b: holds 4, and"),
    "negative label": (holding(-1, np.int16), r"b: holds -1, and"),
    "empty": (lambda file: write(file, 0 * label_map()), r"b: has no foreground at all"),
    "vector": (lambda file: write(file, np.stack([label_map()] * 3, -1), is_vector=True), r"b: holds 3 values per v"),
    "truncated": (cut_off, r"b: cannot be read to its end"),
    "no bytes": (lambda file: file.write_bytes(b""), r"b: cannot be read to its end"),
    "NaN header": (with_nan_in_the_header, r"b: (has spacing|has origin|has direction|cannot be read)"),
    "the image": (in_place_of_the_image, r"b: holds -?\d+, "),
}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_nothing_is_wrong(kind: str, images: Path, package: Path) -> None:
    assert check(zipped(package) if kind == "zip" else package, images, DATASET) == []


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_corruption_is_named(name: str, kind: str, images: Path, package: Path) -> None:
    corrupt, said = CORRUPTIONS[name]
    corrupt(package / "b.nii.gz")
    problems = check(zipped(package) if kind == "zip" else package, images, DATASET)
    assert any(re.match(said, str(problem)) for problem in problems), problems
    assert not any(problem.case == "a" for problem in problems)
    assert [problem.is_empty for problem in problems] == [name == "empty"] * len(problems)


def test_twice_in_a_zip(images: Path, package: Path) -> None:
    file = zipped(package)
    with ZipFile(file, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.write(package / "a.nii.gz", "b.nii.gz")
    assert [str(problem) for problem in check(file, images, DATASET)] == ["b: is there 2 times (b.nii.gz)"]


def test_truncated_zip(images: Path, package: Path) -> None:
    file = zipped(package)
    cut_off(file)
    (problem,) = check(file, images, DATASET)
    assert str(problem).startswith("package.zip: cannot be read to its end")


def test_a_flipped_bit_in_a_zip(images: Path, package: Path) -> None:
    file = zipped(package)
    content = bytearray(file.read_bytes())
    content[len(content) // 4] ^= 0xFF
    file.write_bytes(content)
    (problem,) = check(file, images, DATASET)
    assert str(problem) == "a: cannot be read to its end (a.nii.gz)"


def test_pattern(images: Path, package: Path) -> None:
    for case in CASES:
        (package / f"{case}.nii.gz").rename(package / f"{case}_seg.nii.gz")
    assert check(package, images, DATASET, pattern="{case}_seg") == []
    assert {problem.case for problem in check(package, images, DATASET)} >= set(CASES)
    for pattern in ("seg", "{case}{case}", "x/{case}", "{case}_{id}"):
        with pytest.raises(ValueError, match="give a file name without its ending"):
            check_pattern(pattern)


def test_float32_headers_are_equal(images: Path, package: Path) -> None:
    """A NIfTI header holds less than a double."""
    for case in CASES:
        for channel in range(2):
            write(images / f"{case}_{channel:04}.nii.gz", np.zeros(SHAPE), origin=(-123.4567891234, 0.1, 1 / 3))
        write(package / f"{case}.nii.gz", label_map(), origin=(-123.4567891234 + 3e-6, 0.1, 1 / 3))
    assert check(package, images, DATASET) == []


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_natural_images(ending: str, tmp_path: Path) -> None:
    """An RGB image with three channels in one file, and no spacing."""
    dataset = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"a": 1}, "file_ending": ending}
    images, package = tmp_path / "images", tmp_path / "package"
    images.mkdir()
    package.mkdir()
    imsave(images / f"a_0000{ending}", np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8))
    labels = np.eye(8, 9, dtype=np.uint8)
    imsave(package / f"a{ending}", labels, check_contrast=False)
    assert check(package, images, dataset) == []
    imsave(package / f"a{ending}", labels.T, check_contrast=False)
    assert [str(problem) for problem in check(package, images, dataset)] == ["a: has size (8, 9), its image (9, 8)"]
    imsave(package / f"a{ending}", 255 * labels, check_contrast=False)
    assert [str(problem) for problem in check(package, images, dataset)] == ["a: holds 255, and the labels are [0, 1]"]


def test_images_that_are_not_the_data_sets(images: Path) -> None:
    second = images / "b_0001.nii.gz"
    content = second.read_bytes()
    second.unlink()
    with pytest.raises(ValueError, match=r"b has 1 channels \(b_0000.nii.gz\), and the networks take 2 \(T1, T2\)"):
        find_cases(images, DATASET)
    second.with_name("b_0002.nii.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"numbered from _0000"):
        find_cases(images, DATASET)
    second.with_name("b_0002.nii.gz").unlink()
    second.write_bytes(content)
    write(second, np.zeros(SHAPE), spacing=SPACING[::-1])
    with pytest.raises(ValueError, match=r"b_0001.nii.gz and b_0000.nii.gz differ in size or spacing"):
        find_cases(images, DATASET)
    second.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"b_0001.nii.gz cannot be read"):
        find_cases(images, DATASET)
    second.write_bytes(content)
    second.with_name("c.nii.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"c.nii.gz is not named CASE_0000.nii.gz"):
        find_cases(images, DATASET)
    with pytest.raises(ValueError, match=r"has no image CASE_0000\.nrrd"):
        find_cases(images.parent, {**DATASET, "file_ending": ".nrrd"})
    with pytest.raises(ValueError, match="is not a folder"):
        find_cases(images / "none", DATASET)

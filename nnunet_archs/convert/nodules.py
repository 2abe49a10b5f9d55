"""Nodules of the lung: LIDC-IDRI's slices with the readers' contours, and LUNA16's scans."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK
from skimage.draw import polygon_perimeter

from .layout import Layout, Options, found, there
from .pixels import Array, Mask, array_of, filled, in_window, read_volume
from .raw_data import Drawn, Unit
from .splits import FIVE_FOLDS, Split, parts_are_folds

READ_MESSAGE = "LidcReadMessage"  # of CT; the XML files of radiographs have others
SOP_UID, POSITION = "0008|0018", "0020|0032"
LEAST_POINTS = 3  # nodules below 3 mm have one point, and no outline
SHARE = 2  # what at least one reader in two outlines is a nodule

Slices = Callable[["Outline"], int]


@dataclass(frozen=True)
class Outline:
    """What a reader drew on a slice: the pixels (x, y) just outside of a nodule, or round a hole in it."""

    reader: int
    is_inclusion: bool
    z: float  # mm
    image: str  # the DICOM file's UID
    points: Array


@dataclass(frozen=True)
class Reading:
    """An XML file: the outlines of up to four readers."""

    file: Path
    series: str
    n_readers: int
    outlines: tuple[Outline, ...]


@dataclass(frozen=True)
class Ball:
    """A nodule of which the centre (x, y, z) and the diameter are known, in mm."""

    centre: tuple[float, float, float]
    diameter: float


def find_lidc(folder: Path, options: Options) -> list[Unit]:
    """A unit for each series of CT."""
    by_patient: dict[str, list[Path]] = defaultdict(list)
    for file in found(folder, "**/LIDC-IDRI-*/*/*/*.xml", "LIDC-IDRI-0001/<study>/<series>/*.xml"):
        if is_of_ct(file):
            by_patient[file.parents[2].name].append(file)
    units = []
    for patient, files in by_patient.items():
        for number, file in enumerate(files, start=1):
            if not any(file.parent.glob("*.dcm")):
                raise ValueError(f"{file.parent} has no DICOM files (*.dcm), which {file.name} annotates; add them")
            name = f"{patient}_{number}"
            units.append(Unit(name, partial(draw_lidc, name, file, options), group=patient))
    return units


def draw_lidc(name: str, file: Path, options: Options) -> Iterator[Drawn]:
    """The slices with a nodule that at least half of the readers outlined."""
    reading = read_xml(file)
    volume, slices = read_series(file.parent, reading.series)
    values = in_window(hounsfield(array_of(volume)), options.window)

    def slice_of(outline: Outline) -> int:
        if outline.image not in slices:
            raise ValueError(f"{file} annotates the image {outline.image}, which is not beside it; add its file")
        return slices[outline.image]

    nodules = consensus(reading, values.shape, slice_of)
    for index in np.flatnonzero(nodules.any((1, 2))).tolist():
        plane = np.s_[index : index + 1]
        yield Drawn(f"{name}_z{index:03}", values[plane], nodules[plane], volume[:, :, plane])


def find_luna16(folder: Path, options: Options) -> list[Unit]:
    """A unit for each scan."""
    scans = found(folder, "subset*/*.mhd", "subset0/<series>.mhd")
    readings = xml_files(options.annotations) if options.annotations else {}
    balls = {} if options.annotations else read_balls(there(folder / "annotations.csv", scans[0]))
    units = []
    for scan in scans:
        there(scan.with_suffix(".raw"), scan)
        name = f"luna_{scan.stem.rpartition('.')[2]}"
        if not options.annotations:
            draw = partial(draw_balls, name, scan, balls.get(scan.stem, []), options)
        elif scan.stem in readings:
            draw = partial(draw_contours, name, scan, readings[scan.stem], options)
        else:
            raise ValueError(f"{options.annotations} has no XML file of the series {scan.stem}; add it")
        units.append(Unit(name, draw, part=scan.parent.name))
    return units


def draw_balls(name: str, scan: Path, balls: list[Ball], options: Options) -> Iterator[Drawn]:
    """A scan, its nodules as balls of their diameters."""
    volume = read_volume(scan)
    nodules = np.zeros(volume.GetSize()[::-1], dtype=bool)
    for ball in balls:
        add_ball(nodules, ball, volume, scan)
    yield Drawn(name, in_window(array_of(volume), options.window), nodules, volume)


def draw_contours(name: str, scan: Path, file: Path, options: Options) -> Iterator[Drawn]:
    """A scan, its nodules as at least half of LIDC's readers outlined them."""
    volume, reading = read_volume(scan), read_xml(file)
    x, y, _ = volume.GetOrigin()

    def slice_of(outline: Outline) -> int:
        index = round(volume.TransformPhysicalPointToContinuousIndex((x, y, outline.z))[2])
        if not 0 <= index < volume.GetDepth():
            raise ValueError(f"{file} has an outline at z = {outline.z:g} mm, which is outside of {scan}; replace one")
        return index

    nodules = consensus(reading, volume.GetSize()[::-1], slice_of)
    yield Drawn(name, in_window(array_of(volume), options.window), nodules, volume)


def add_ball(nodules: Mask, ball: Ball, volume: SimpleITK.Image, scan: Path) -> None:
    """Mark the voxels whose centres lie in a ball, and the one in its centre."""
    centre = np.array(volume.TransformPhysicalPointToContinuousIndex(ball.centre))[::-1]
    nearest, shape = np.rint(centre).astype(int), np.array(nodules.shape)
    if (nearest < 0).any() or (nearest >= shape).any():
        raise ValueError(f"annotations.csv has a nodule at {ball.centre} mm, which is outside of {scan}; correct it")
    spacing, radius = np.array(volume.GetSpacing())[::-1], ball.diameter / 2
    low = np.maximum(np.floor(centre - radius / spacing), 0).astype(int)
    high = np.minimum(np.ceil(centre + radius / spacing) + 1, shape).astype(int)
    axes = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
    offsets = np.meshgrid(*((axis - c) * mm for axis, c, mm in zip(axes, centre, spacing, strict=True)), indexing="ij")
    nodules[np.ix_(*axes)] |= np.linalg.norm(offsets, axis=0) <= radius
    nodules[tuple(nearest)] = True


def consensus(reading: Reading, shape: tuple[int, ...], slice_of: Slices) -> Mask:
    """What at least half of the readers outlined as nodules, (z, y, x)."""
    votes = np.zeros(shape, dtype=np.uint8)
    by_reader: dict[tuple[int, int], list[Outline]] = defaultdict(list)
    for outline in reading.outlines:
        by_reader[outline.reader, slice_of(outline)].append(outline)
    for (_, index), outlines in by_reader.items():
        votes[index] += drawn_by_one(outlines, shape[1:])
    return (votes > 0) & (votes * SHARE >= reading.n_readers)


def drawn_by_one(outlines: list[Outline], shape: tuple[int, ...]) -> Mask:
    """The nodules of one reader on one slice, without their holes; outlines themselves lie outside of nodules."""
    inside, outside = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for outline in outlines:
        area = filled(outline.points, shape)
        columns, rows = outline.points.T
        edge = polygon_perimeter(rows, columns, shape, clip=True)
        if outline.is_inclusion:
            area[edge] = False
            inside |= area
        else:
            area[edge] = True
            outside |= area
    return inside & ~outside


def read_xml(file: Path) -> Reading:
    """The outlines in an XML file of LIDC-IDRI's. Raises ValueError where it is none."""
    try:
        root = ElementTree.parse(file).getroot()
        series = text_of(root, "SeriesInstanceUid")
        sessions = children(root, "readingSession")
        outlines = [
            outline_of(roi, reader)
            for reader, session in enumerate(sessions)
            for nodule in children(session, "unblindedReadNodule")
            for roi in children(nodule, "roi")
        ]
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise ValueError(f"{file} cannot be read as readings of LIDC-IDRI ({error}); replace it") from error
    large = tuple(outline for outline in outlines if len(outline.points) >= LEAST_POINTS)
    return Reading(file, series, len(sessions), large)


def outline_of(roi: ElementTree.Element, reader: int) -> Outline:
    """An outline on one slice."""
    points = [(int(text_of(edge, "xCoord")), int(text_of(edge, "yCoord"))) for edge in children(roi, "edgeMap")]
    is_inclusion = text_of(roi, "inclusion").upper() == "TRUE"
    z, image = float(text_of(roi, "imageZposition")), text_of(roi, "imageSOP_UID")
    return Outline(reader, is_inclusion, z, image, np.array(points).reshape(-1, 2))


def children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """The children of a name, of whatever namespace."""
    return element.findall(f"{{*}}{name}")


def text_of(element: ElementTree.Element, name: str) -> str:
    """The text of the first element of a name, of whatever namespace. Raises ValueError where there is none."""
    inner = element.find(f".//{{*}}{name}")
    if inner is None or not inner.text:
        raise ValueError(f"it has no {name}")
    return inner.text.strip()


def is_of_ct(file: Path) -> bool:
    """Whether an XML file holds readings of CT. Raises ValueError where it is not an XML file."""
    try:
        with file.open("rb") as stream:
            _, root = next(iter(ElementTree.iterparse(stream, events=("start",))))
    except (ElementTree.ParseError, StopIteration) as error:
        raise ValueError(f"{file} is not an XML file: replace it") from error
    return str(root.tag).rpartition("}")[2] == READ_MESSAGE


def xml_files(folder: Path) -> Mapping[str, Path]:
    """The readings of CT below a folder, by their series."""
    files = [file for file in found(folder, "**/*.xml", "XML files of LIDC-IDRI") if is_of_ct(file)]
    return {read_xml(file).series: file for file in files}


def read_series(folder: Path, series: str) -> tuple[SimpleITK.Image, dict[str, int]]:
    """A series' volume, and the slice of each DICOM file's UID. Raises ValueError where it cannot be read."""
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series)
    if not files:
        raise ValueError(f"{folder} has no DICOM files of the series {series}, of which its XML file is; add them")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        volume = reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"{folder} cannot be read as a series of DICOM files: replace it") from error
    return volume, {reader.GetMetaData(i, SOP_UID).strip("\0 "): i for i in range(len(files))}


def hounsfield(values: Array) -> Array:
    """Values of CT in two bytes, where they are whole numbers."""
    short = values.astype(np.int16)
    return short if (short == values).all() else values.astype(np.float32)


def read_balls(file: Path) -> dict[str, list[Ball]]:
    """LUNA16's nodules by series. Raises ValueError where the file has not its columns."""
    balls: dict[str, list[Ball]] = defaultdict(list)
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                centre = (float(row["coordX"]), float(row["coordY"]), float(row["coordZ"]))
                balls[row["seriesuid"]].append(Ball(centre, float(row["diameter_mm"])))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        columns = "seriesuid, coordX, coordY, coordZ, diameter_mm"
        raise ValueError(f"{file} has not the numbers of LUNA16's annotations ({columns}): replace it") from error
    return balls


def what_nodules_are(options: Options) -> tuple[str, ...]:
    """How nodules come to be, which LUNA16 has no masks of."""
    if options.annotations:
        return (CONSENSUS,)
    return ("nodules are balls of the annotated diameters; --annotations makes them of LIDC-IDRI's contours",)


CONSENSUS = "nodules are what at least half of the readers outlined; those below 3 mm have no outlines"

LAYOUTS = (
    Layout(
        name="luna16",
        title="LUNA16, nodules of the lung",
        form="subset0/*.mhd and *.raw, to subset9/, and annotations.csv",
        marks=("subset*/*.mhd",),
        source="https://luna16.grand-challenge.org",
        licence="CC BY 4.0",
        channels=("CT",),
        labels={"background": 0, "nodule": 1},
        find=find_luna16,
        splits={"subsets": Split("each subset is a fold", parts_are_folds, None)},
        ending=".nii.gz",
        is_flat=False,
        takes=("window", "annotations"),
        notes=what_nodules_are,
    ),
    Layout(
        name="lidc",
        title="LIDC-IDRI, slices with nodules of the lung",
        form="LIDC-IDRI-0001/<study>/<series>/*.dcm and an XML file",
        marks=("LIDC-IDRI-*", "LIDC-IDRI/LIDC-IDRI-*"),
        source="https://www.cancerimagingarchive.net/collection/lidc-idri",
        licence="CC BY 3.0",
        channels=("CT",),
        labels={"background": 0, "nodule": 1},
        find=find_lidc,
        splits={"five-folds": FIVE_FOLDS},
        ending=".nii.gz",
        takes=("window",),
        notes=lambda options: (CONSENSUS,),
    ),
)

"""Data sets of pictures: DSB2018's nuclei, GlaS, ISIC 2018, slices of the liver, and ISBI 2012's membranes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from nnunet_archs.nnunet.whole import check_whole

from .layout import Layout, Options, found, listed, there
from .pixels import (
    HALF,
    Array,
    check_same_shape,
    check_same_size,
    objects,
    read_picture,
    resized_edge,
    resized_mask,
    resized_picture,
)
from .raw_data import Drawn, Unit
from .splits import SEED_41, SELECTED, Split, shares, train_is_a_part

RGB = ("rgb_to_0_1",) * 3  # nnU-Net divides channels of this name by 255, and would standardise "R", "G" and "B"
GREY = ("rgb_to_0_1",)


def find_dsb2018(folder: Path, options: Options) -> list[Unit]:
    """A unit for each picture with its nuclei, a mask each."""
    root = folder / "stage1_train" if (folder / "stage1_train").is_dir() else folder
    units = []
    for images in found(root, "*/images", "<id>/images/<id>.png"):
        case = images.parent
        image = there(images / f"{case.name}.png", images)
        masks = listed(case, "masks/*.png")
        if not masks:
            raise ValueError(f"{case} has no masks/*.png: every picture has a mask for each nucleus; unpack it again")
        units.append(Unit(case.name, partial(draw_dsb2018, case.name, image, masks, options)))
    return units


def draw_dsb2018(name: str, image_file: Path, masks: list[Path], options: Options) -> Iterator[Drawn]:
    """The picture, and all nuclei as one label, or as cores and borders."""
    image = read_picture(image_file, "RGB")
    nuclei = np.zeros(image.shape[:2], dtype=np.uint16)
    for number, file in enumerate(masks, start=1):
        mask = read_picture(file, "L")
        check_same_size(image, mask, image_file, file)
        nuclei[mask > HALF] = number
    drawn = square(name, image, nuclei, options.size)
    yield replace(drawn, label=objects(drawn.label, options.instances))


def find_glas(folder: Path, options: Options) -> list[Unit]:
    """A unit for each picture; with a size it becomes several crops."""
    units = []
    for label in found(folder, "*_anno.bmp", "train_1.bmp and train_1_anno.bmp"):
        name = label.name.removesuffix("_anno.bmp")
        if not (part := re.fullmatch(r"(train|testA|testB)_\d+", name)):
            raise ValueError(f"{label} is none of train_*, testA_* and testB_*: rename or remove it")
        image = there(label.with_name(f"{name}.bmp"), label)
        units.append(Unit(name, partial(draw_glas, name, image, label, options), part=part[1]))
    return units


def draw_glas(name: str, image_file: Path, label_file: Path, options: Options) -> Iterator[Drawn]:
    """The picture and its glands; with a size, square crops of it that cover it, its shorter side being scaled."""
    image, glands = read_picture(image_file, "RGB"), read_picture(label_file)
    check_same_size(image, glands, image_file, label_file)
    if (size := options.size) is None:
        yield Drawn(name, image, objects(glands, options.instances))
        return
    scale = size / min(glands.shape)
    shape = [round(n * scale) for n in glands.shape]
    image, glands = resized_picture(image, shape), resized_mask(glands, shape)
    for number, (top, left) in enumerate(corners(shape, size)):
        crop = np.s_[top : top + size, left : left + size]
        yield Drawn(f"{name}_crop{number}", image[crop], objects(glands[crop], options.instances))


def corners(shape: list[int], size: int) -> list[tuple[int, int]]:
    """Upper left corners of as few squares as cover a picture, evenly spaced."""
    rows, columns = (np.linspace(0, n - size, -(-n // size)).round().astype(int).tolist() for n in shape)
    return [(row, column) for row in rows for column in columns]


def find_isic2018(folder: Path, options: Options) -> list[Unit]:
    """A unit for each photograph."""
    images = folder / "ISIC2018_Task1-2_Training_Input"
    labels = folder / "ISIC2018_Task1_Training_GroundTruth"
    units = []
    for label in found(labels, "*_segmentation.png", "ISIC_*_segmentation.png"):
        name = label.name.removesuffix("_segmentation.png")
        image = there(images / f"{name}.jpg", label)
        units.append(Unit(name, partial(draw_isic2018, name, image, label, options.size)))
    if missing := sorted({file.stem for file in listed(images, "*.jpg")} - {unit.name for unit in units}):
        raise ValueError(f"{images / missing[0]}.jpg has no mask in {labels}; unpack the archive again")
    return units


def draw_isic2018(name: str, image_file: Path, label_file: Path, size: int | None) -> Iterator[Drawn]:
    """The photograph and its lesion, whose edge is interpolated before it is cut at one half."""
    image, mask = read_picture(image_file, "RGB"), read_picture(label_file, "L")
    check_same_size(image, mask, image_file, label_file)
    shape = [size, size] if size else mask.shape
    yield Drawn(name, resized_picture(image, shape), resized_edge(mask > HALF, shape))


def find_liver400(folder: Path, options: Options) -> list[Unit]:
    """A unit for each slice."""
    units = []
    for label in found(folder, "*/*_mask.png", "train/000.png and train/000_mask.png"):
        part = label.parent.name
        if part not in ("train", "val"):
            raise ValueError(f"{label} lies neither in train/ nor in val/: move it there or remove it")
        number = label.name.removesuffix("_mask.png")
        image = there(label.with_name(f"{number}.png"), label)
        name = f"{part}_{number}"
        units.append(Unit(name, partial(draw_liver400, name, image, label, options.size), part=part))
    return units


def draw_liver400(name: str, image_file: Path, label_file: Path, size: int | None) -> Iterator[Drawn]:
    """The slice, of whose colours all are alike, and the liver."""
    colours, mask = read_picture(image_file, "RGB"), read_picture(label_file, "L")
    check_same_size(colours, mask, image_file, label_file)
    if (colours != colours[..., :1]).any():
        raise ValueError(f"{image_file} has colours: slices of CT are grey; replace it")
    yield square(name, colours[..., 0], mask > HALF, size)


def find_isbi2012(folder: Path, options: Options) -> list[Unit]:
    """A unit for each section of the volume."""
    (image_file,) = found(folder, "train-volume.tif", "train-volume.tif")
    label_file = there(folder / "train-labels.tif", image_file)
    images, labels = read_pages(image_file), read_pages(label_file)
    check_same_shape(images.shape, labels.shape, image_file, label_file)
    return [
        Unit(name, partial(draw_isbi2012, name, image, label, options.size))
        for name, image, label in zip(map("section_{:02}".format, range(len(images))), images, labels, strict=True)
    ]


def draw_isbi2012(name: str, image: Array, label: Array, size: int | None) -> Iterator[Drawn]:
    """The section, and the inside of cells."""
    yield square(name, image, label > HALF, size)


def read_pages(file: Path) -> Array:
    """All pages of a TIFF file of bytes (page, y, x). Raises ValueError where it is none, or cut off."""
    check_whole(file)
    try:
        pages = tifffile.imread(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as TIFF ({error}); replace it") from error
    if pages.ndim != 3 or pages.dtype != np.uint8:
        raise ValueError(f"{file} has shape {pages.shape} of {pages.dtype}: it must be grey pages of bytes; replace it")
    return np.asarray(pages)


def square(name: str, image: Array, mask: Array, size: int | None) -> Drawn:
    """A picture and its mask, both made square where a size is asked for."""
    shape = [size, size] if size else mask.shape
    return Drawn(name, resized_picture(image, shape), resized_mask(mask, shape))


def of_masks(name: str) -> dict[str, int | list[int]]:
    """Labels of a set with one class."""
    return {"background": 0, name: 1}


def pictures(
    name: str, find: Callable[[Path, Options], list[Unit]], *, takes: tuple[str, ...] = ("size",), **rest: object
) -> Layout:
    """A layout of pictures, which can be resized."""
    return Layout(name=name, find=find, takes=takes, **rest)  # type: ignore[arg-type]


LAYOUTS = (
    pictures(
        "dsb2018",
        find_dsb2018,
        takes=("size", "instances"),
        title="2018 Data Science Bowl, nuclei",
        form="stage1_train/<id>/images/<id>.png and stage1_train/<id>/masks/*.png, a mask for each nucleus",
        marks=("stage1_train/*/masks", "*/masks/*.png"),
        source="https://bbbc.broadinstitute.org/BBBC038, https://www.kaggle.com/c/data-science-bowl-2018",
        licence="CC0 at BBBC038; Kaggle's copy is under the competition's rules",
        channels=RGB,
        labels=of_masks("nucleus"),
        splits={
            "caggnet": Split("509 to train on and 161 to validate on, as CAggNet", shares(509, 161), warning=SELECTED),
            "focusnet": Split("540 to train on and 130 to validate on, as FocusNet++", shares(540, 130)),
            "unetsharp": Split("four fifths to train on, as pytorch-nested-unet", shares(80, 20), SEED_41),
        },
    ),
    pictures(
        "glas",
        find_glas,
        takes=("size", "instances"),
        title="MICCAI 2015 Gland Segmentation Challenge (Warwick-QU)",
        form="train_1.bmp, train_1_anno.bmp, testA_*, testB_* in one folder",
        marks=("train_*_anno.bmp",),
        source="https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest",
        licence="research only",
        channels=RGB,
        labels=of_masks("gland"),
        splits={
            "official": Split("train to train on, test A and B to validate on", train_is_a_part, None, SELECTED),
        },
    ),
    pictures(
        "isic2018",
        find_isic2018,
        title="ISIC 2018 task 1, skin lesions",
        form="ISIC2018_Task1-2_Training_Input/*.jpg, ISIC2018_Task1_Training_GroundTruth/*_segmentation.png",
        marks=("ISIC2018_Task1_Training_GroundTruth",),
        source="https://challenge.isic-archive.com/data/#2018",
        licence="CC BY-NC 4.0, by a secondary source",
        channels=RGB,
        labels=of_masks("lesion"),
        splits={
            "focusnet": Split(
                "1815 to train on, 259 to validate on, 520 to test on, in file order, as FocusNet++ and BCDU-Net",
                shares(1815, 259, 520, in_order=True),
                None,
            ),
        },
    ),
    pictures(
        "liver400",
        find_liver400,
        title="400 slices of the liver, as u_net_liver has them (of LiTS)",
        form="train/000.png and train/000_mask.png, val/ likewise",
        marks=("train/*_mask.png",),
        source="https://github.com/JavisPeng/u_net_liver",
        licence="that of LiTS: Creative Commons, non-commercial",
        channels=GREY,
        labels=of_masks("liver"),
        splits={"official": Split("train to train on, val to validate on", train_is_a_part, None, SELECTED)},
    ),
    pictures(
        "isbi2012",
        find_isbi2012,
        title="ISBI 2012, membranes in electron microscopy",
        form="train-volume.tif and train-labels.tif, 30 pages each",
        marks=("train-volume.tif",),
        source="https://imagej.net/events/isbi-2012-segmentation-challenge",
        licence="non-commercial research, with citation; check the challenge's page",
        channels=GREY,
        labels=of_masks("cell"),
        splits={
            "improvedskip": Split("24 to train on and 6 to validate on, as UNET-ZOO", shares(24, 6), SEED_41, SELECTED)
        },
    ),
)

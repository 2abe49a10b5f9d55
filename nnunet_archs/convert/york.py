"""York's cardiac MR: volumes over time in MATLAB files, with the contours of the left ventricle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from .layout import Layout, Options, found, there
from .pixels import Array, filled
from .raw_data import Drawn, Unit
from .splits import THREE_FOLDS

IMAGES, CONTOURS = "sol_yxzt", "manual_seg_32points"
N_POINTS = 32  # of a contour: rows 1 to 32 the endocardium, 33 a separator, 34 to 65 the epicardium
NO_CONTOUR = -99999
MYOCARDIUM, CAVE = 1, 2
MOST = np.iinfo(np.uint16).max


def find_york(folder: Path, options: Options) -> list[Unit]:
    """A unit for each subject."""
    units = []
    for image in found(folder, "**/sol_yxzt_pat*.mat", "sol_yxzt_pat1.mat"):
        if not (number := re.fullmatch(r"sol_yxzt_pat(\d+)\.mat", image.name)):
            raise ValueError(f"{image} is not named sol_yxzt_pat<number>.mat: rename or remove it")
        contours = f"manual_seg_32points_pat{number[1]}.mat"
        beside = next(iter(folder.glob(f"**/{contours}")), image.with_name(contours))
        name = f"pat{int(number[1]):02}"
        units.append(Unit(name, partial(draw_york, name, image, there(beside, image))))
    return units


def draw_york(name: str, image_file: Path, contour_file: Path) -> Iterator[Drawn]:
    """The annotated slices of all times, z and t counted from 1 in their names, as MATLAB does."""
    volumes, contours = read_variable(image_file, IMAGES), read_variable(contour_file, CONTOURS)
    if volumes.ndim not in (3, 4) or volumes.dtype == object:
        raise ValueError(f"{image_file} has shape {volumes.shape}: it must be y, x, z and time; replace it")
    volumes = volumes.reshape(*volumes.shape, *[1] * (4 - volumes.ndim))
    if contours.shape != volumes.shape[2:] or contours.dtype != object:
        rule = f"it must have a cell for each of {volumes.shape[2:]} slices and times of {image_file}; replace it"
        raise ValueError(f"{contour_file} has shape {contours.shape}: {rule}")
    if volumes.min() < 0 or volumes.max() > MOST:
        raise ValueError(f"{image_file} has values from {volumes.min()} to {volumes.max()}: 0 to {MOST} can be written")
    for z, t in np.ndindex(contours.shape):
        if is_annotated(contours[z, t]):
            label = draw_contours(np.asarray(contours[z, t]), volumes.shape[:2], contour_file)
            image = np.rint(volumes[:, :, z, t]).astype(np.uint16)
            yield Drawn(f"{name}_z{z + 1:02}_t{t + 1:02}", image, label)


def is_annotated(cell: Array) -> bool:
    """Whether a cell holds contours."""
    return np.size(cell) > 1 and not (np.asarray(cell) == NO_CONTOUR).any()


def draw_contours(points: Array, shape: tuple[int, ...], file: Path) -> Array:
    """The myocardium and, within it, the cave: points are x and y, which MATLAB counts from 1."""
    if points.shape != (2 * N_POINTS + 1, 2):
        raise ValueError(f"{file} has a contour of shape {points.shape}: it must be {2 * N_POINTS + 1} x 2; replace it")
    endocardium, epicardium = points[:N_POINTS] - 1, points[N_POINTS + 1 :] - 1
    label = np.where(filled(epicardium, shape), MYOCARDIUM, 0)
    label[filled(endocardium, shape)] = CAVE
    return label


def read_variable(file: Path, name: str) -> Array:
    """A variable of a MATLAB file. Raises ValueError where it cannot be read."""
    try:
        return np.asarray(loadmat(file, variable_names=[name])[name])
    except KeyError as error:
        raise ValueError(f"{file} holds no {name}: replace it") from error
    # The reader raises what it likes.
    except Exception as error:
        raise ValueError(f"{file} cannot be read as a MATLAB file ({error}); replace it") from error


LAYOUTS = (
    Layout(
        name="york",
        title="York cardiac MR, left ventricle",
        form="sol_yxzt_pat<n>.mat and manual_seg_32points_pat<n>.mat",
        marks=("**/sol_yxzt_pat*.mat",),
        source="https://www.cse.yorku.ca/~mridataset",
        licence="research, with citation (its readme): Andreopoulos and Tsotsos, Med Image Anal 12:335 (2008)",
        channels=("rescale_to_0_1",),
        labels={"background": 0, "epicardium": [MYOCARDIUM, CAVE], "LV cave": CAVE},
        find=find_york,
        splits={"crosslink": THREE_FOLDS},
        notes=lambda options: ("the files have no size of pixels: distances in mm cannot be measured on these images",),
    ),
)

"""Check the files of one case."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_archs.nnunet.images import read_image

Box: TypeAlias = tuple[tuple[int, int], ...]  # from and to, of each axis of a file, x first


@dataclass(frozen=True)
class Case:
    """A case's files: an image a channel (or one with all channels), and the label map."""

    name: str
    images: tuple[Path, ...]
    label: Path
    box: Box | None = None  # what is cut out of them, if anything


@dataclass(frozen=True)
class Contents:
    """What the files of a case hold."""

    values: frozenset[int]  # of the label map
    is_flat: bool  # the image has one plane
    spacing: tuple[float, ...]  # mm


def check_case(case: Case, reader: BaseReaderWriter, n_channels: int) -> Contents:
    """Return what a case holds. Raises ValueError where image and label map do not fit, or hold no proper values."""
    image, spacing = read_image(reader, case.images)
    label, label_spacing = read_image(reader, [case.label])
    name, rule = case.images[0], "both must be equal"
    if len(image) != n_channels:
        raise ValueError(f"{name} makes {len(image)} channels: every case of this data set needs {n_channels}")
    if np.isnan(image).any():
        raise ValueError(f"{name} holds NaN: replace it by a number that makes sense")
    if len(label) != 1:
        raise ValueError(f"{case.label} has {len(label)} channels: a label map has one; convert it")
    if image.shape[1:] != label.shape[1:]:
        shapes = f"{case.label} has shape {label.shape[1:]} and its image {name} {image.shape[1:]}"
        raise ValueError(f"{shapes}: {rule}; resample the labels to the image")
    if len(spacing) != len(label_spacing) or not np.allclose(spacing, label_spacing):
        spacings = f"{case.label} has spacing {list(label_spacing)} mm and its image {name} {list(spacing)} mm"
        raise ValueError(f"{spacings}: {rule}; resample the labels to the image")
    values = np.unique(label)
    if fractions := values[values != np.rint(values)].tolist():
        raise ValueError(f"{case.label} holds the value {fractions[0]}: labels must be whole numbers; round them")
    if values[0] < 0:
        raise ValueError(f"{case.label} holds the value {int(values[0])}: labels start at 0; renumber them")
    return Contents(
        frozenset(int(value) for value in values), is_flat=image.shape[1] == 1, spacing=tuple(map(float, spacing))
    )

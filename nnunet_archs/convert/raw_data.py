"""What is written as an nnU-Net raw data set: files that are there, or cases that are made of other files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import SimpleITK
from batchgenerators.utilities.file_and_folder_operations import save_json
from skimage.io import imread, imsave
from tqdm import tqdm

from nnunet_archs.instances import encode
from nnunet_archs.lengths import Length
from nnunet_archs.nnunet.images import reader_for

from .case_files import Box, Case, check_case
from .cut import cut

N_AXES_4D = 4
SPLITS = "splits_final.json"  # nnU-Net's planners copy it from the raw data to where trainings look for it

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Drawn:
    """A case in memory: a picture (y, x) or (y, x, colour), or a volume (z, y, x) on the grid of another."""

    name: str
    image: Array
    label: Array
    grid: SimpleITK.Image | None = None  # None: a picture


@dataclass(frozen=True)
class Unit:
    """Cases that are made of files of other layouts when they are written, a few at a time."""

    name: str
    draw: Callable[[], Iterable[Drawn]]
    group: str = ""  # what no split divides, as the patient; the name where it is empty
    part: str = ""  # of the data set's own division


Item: TypeAlias = Case | Unit
Fold: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]  # names of items: to train on, and to validate on


@dataclass(frozen=True)
class RawData:
    """Checked cases, and what it takes to write them as an nnU-Net raw data set."""

    dataset_json: dict[str, Any]
    training: tuple[Item, ...]
    test: tuple[Item, ...]
    is_flat: bool  # the images have one plane: nnU-Net plans 2d for them, and nothing else
    may_be_4d: bool = False  # a file may hold a volume for each channel, as the MSD has it: they are split
    drop_alpha: bool = False  # RGBA images
    new_labels: Mapping[int, int] | None = None  # values in the files -> consecutive ones
    border: Length | None = None  # label maps hold ids of instances, which become cores and borders of this width
    notes: tuple[str, ...] = ()  # what the user should know
    folds: tuple[Fold, ...] = ()  # none: nnU-Net makes its own
    more: Mapping[str, Any] = field(default_factory=dict)  # further JSON files, by their names


def write_dataset(data: RawData, folder: Path) -> None:
    """Write `data` as an nnU-Net raw data set into the new folder `folder`; the source is only read.

    Raises:
        ValueError: for a case that cannot be made, or does not fit the data set.
    """
    training = _write_part("Tr", data.training, folder, data)
    _write_part("Ts", data.test, folder, data)
    if not any(training.values()):
        raise ValueError("nothing in these files is annotated: there is no case to train on; add annotated ones")
    dataset_json = {**data.dataset_json, "numTraining": sum(map(len, training.values()))}
    save_json(dataset_json, str(folder / "dataset.json"), sort_keys=False)
    if data.folds:
        folds = [[sorted(case for item in items for case in training[item]) for items in fold] for fold in data.folds]
        if not all(cases for fold in folds for cases in fold):
            raise ValueError("a fold has no case to train on, or to validate on: add annotated cases")
        splits = [{"train": train, "val": val} for train, val in folds]
        save_json(splits, str(folder / SPLITS), sort_keys=False)
    for name, content in data.more.items():
        save_json(content, str(folder / name), sort_keys=False)


def known_values(dataset_json: Mapping[str, Any]) -> set[int]:
    """The values that the labels, regions and ignore label of a dataset.json allow."""
    entries = dataset_json["labels"].values()
    return {value for entry in entries for value in (entry if isinstance(entry, list) else [entry])}


def _write_part(part: str, items: Iterable[Item], folder: Path, data: RawData) -> dict[str, list[str]]:
    """Write `imagesTr` and `labelsTr`, or those of the test; the cases that each item has become."""
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    images.mkdir(parents=True)
    labels.mkdir()
    progress = tqdm(items, desc=f"Writing images{part}", leave=False, disable=None)
    return {item.name: list(_write(item, images, labels, data)) for item in progress}


def _write(item: Item, images: Path, labels: Path, data: RawData) -> Iterator[str]:
    """Write an item's cases; their names."""
    if isinstance(item, Case):
        _write_images(item, images, data)
        _write_label(item, labels, data)
        yield item.name
        return
    for drawn in item.draw():
        _check_written(_write_drawn(drawn, images, labels, data.dataset_json["file_ending"]), data.dataset_json)
        yield drawn.name


def _write_images(case: Case, folder: Path, data: RawData) -> None:
    """Write a case's images as CASE_0000.nii.gz, CASE_0001.nii.gz, ...: copies, or converted for nnU-Net."""
    ending = data.dataset_json["file_ending"]
    targets = (folder / f"{case.name}_{channel:04d}{ending}" for channel in count())
    for image in case.images:
        if data.drop_alpha:
            imsave(next(targets), imread(image)[..., :3], check_contrast=False)
        elif data.may_be_4d and (volumes := SimpleITK.ReadImage(str(image))).GetDimension() == N_AXES_4D:
            for volume in range(volumes.GetSize()[-1]):
                SimpleITK.WriteImage(volumes[..., volume], str(next(targets)), True)
        else:
            _copy(image, next(targets), case.box)


def _write_label(case: Case, folder: Path, data: RawData) -> None:
    """Write a case's label map: a copy, or with consecutive labels, or cores and borders."""
    target = folder / f"{case.name}{data.dataset_json['file_ending']}"
    if data.new_labels is None and data.border is None:
        _copy(case.label, target, case.box)
        return
    reader = reader_for(data.dataset_json, case.label)
    label, properties = reader.read_seg(str(case.label))
    if data.border:
        new = encode(label[0], data.border.length, data.border.units(properties["spacing"]))
    else:
        new = renumbered(label[0], data.new_labels or {})
    reader.write_seg(new, str(target), properties)


def renumbered(label: Array, new_labels: Mapping[int, int]) -> Array:
    """A label map with other labels."""
    old = np.array(sorted(new_labels))
    new = np.array([new_labels[value] for value in old], dtype=np.uint8)
    return new[np.searchsorted(old, label)]


def _copy(file: Path, target: Path, box: Box | None) -> None:
    """Copy a file, or what is in a box of it."""
    if box is None:
        shutil.copyfile(file, target)
    else:
        cut(file, box, target)


def _write_drawn(drawn: Drawn, images: Path, labels: Path, ending: str) -> Case:
    """Write a case that is in memory; its files."""
    case = Case(drawn.name, (images / f"{drawn.name}_0000{ending}",), labels / f"{drawn.name}{ending}")
    label = drawn.label.astype(np.uint8)
    if (label != drawn.label).any():
        raise ValueError(f"{drawn.name} has labels that are not whole numbers from 0 to 255: correct its files")
    for array, file in ((drawn.image, case.images[0]), (label, case.label)):
        if drawn.grid is None:
            imsave(file, array, check_contrast=False)
        else:
            image = SimpleITK.GetImageFromArray(array)
            image.CopyInformation(drawn.grid)
            SimpleITK.WriteImage(image, str(file), True)
    return case


def _check_written(case: Case, dataset_json: Mapping[str, Any]) -> None:
    """Check the files of a case as nnU-Net reads them. Raises ValueError where they do not fit the data set."""
    reader = reader_for(dataset_json, case.images[0])
    contents = check_case(case, reader, len(dataset_json["channel_names"]))
    check_labels(case, contents.values, known_values(dataset_json))


def check_labels(case: Case, values: Iterable[int], known: set[int]) -> None:
    """Check the values of a case's label map. Raises ValueError for one that is not known."""
    if unknown := set(values) - known:
        rule = f"dataset.json knows {sorted(known)}; add it there, or correct the file"
        raise ValueError(f"{case.label} holds the label {min(unknown)}: {rule}")

"""The test cases of a data set, which no fold was trained or validated on: where they are, and that they are whole."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.paths import nnUNet_raw
from nnunetv2.utilities.utils import (
    get_filenames_of_train_images_and_targets,
    get_identifiers_from_splitted_dataset_folder,
)

from nnunet_archs.files import atomic_folder
from nnunet_archs.nnunet.datasets import SPLITS, dataset_json_files, preprocessed, read_dataset_json

from .definition import TestSource

LINKED = "test_images"  # in the data set's preprocessed folder


@dataclass(frozen=True)
class HeldOut:
    """Test cases: a folder of their images, as `nnUNetv2_predict` takes it, and one of their references."""

    images: Path
    references: Path
    cases: tuple[str, ...]

    def channels(self, case: str) -> list[str]:
        """The images of a case, a file a channel."""
        return sorted(str(file) for file in self.images.glob(f"{escape(case)}_[0-9][0-9][0-9][0-9].*"))


def held_out(dataset: str, source: TestSource, folds: Sequence[int]) -> HeldOut:
    """The test cases of a data set, for networks of these folds.

    Raises:
        ValueError: if there are none, or they are not whole, or a fold has seen one of them.
    """
    return images_ts(dataset) if source == "imagesTs" else part_of_splits(dataset, folds)


def images_ts(dataset: str) -> HeldOut:
    """Those of imagesTs and labelsTs."""
    ending = file_ending(dataset)
    images, references = (Path(str(nnUNet_raw), dataset, name) for name in ("imagesTs", "labelsTs"))
    for folder in (images, references):
        if not any(folder.glob(f"*{ending}")):
            raise ValueError(f"{folder} holds no {ending} files; put the test cases there, or leave test out")
    cases = {str(case) for case in get_identifiers_from_splitted_dataset_folder(str(images), ending)}
    labelled = {file.name.removesuffix(ending) for file in references.glob(f"*{ending}")}
    for case in sorted(cases ^ labelled):
        there, lacking = ("imagesTs", "labelsTs") if case in cases else ("labelsTs", "imagesTs")
        raise ValueError(f"{dataset}: {case} is in {there}, but not in {lacking}; add it there, or take it out")
    return HeldOut(images, references, tuple(sorted(cases)))


def part_of_splits(dataset: str, folds: Sequence[int]) -> HeldOut:
    """The training images that splits_final.json lists as `test` in every fold."""
    folder = preprocessed(dataset)
    file = folder / SPLITS
    splits = load_json(str(file)) if file.exists() else []
    of_folds = [splits[fold] for fold in folds if fold < len(splits)]
    cases = of_folds[0].get("test") if of_folds else None
    if not cases:
        raise ValueError(f"{file} lists no test cases; give every fold the same list under test, or leave test out")
    for fold, split in zip(folds, of_folds, strict=False):
        if sorted(split.get("test", [])) != sorted(cases):
            raise ValueError(f"{file}: folds {folds[0]} and {fold} have other test cases; give all folds the same")
        if seen := sorted({*cases} & {*split["train"], *split["val"]}):
            raise ValueError(f"{file}: fold {fold} trains or validates on its test case {seen[0]}; take it out there")
    return HeldOut(folder / LINKED, folder / "gt_segmentations", tuple(sorted(cases)))


def link_images(dataset: str, test_set: HeldOut) -> None:
    """A folder of links to the images of a split's test part: `nnUNetv2_predict` takes whole folders.

    Raises:
        ValueError: if an image is not there.
    """
    ending = file_ending(dataset)
    known = training_images(dataset) or {}
    if missing := [case for case in test_set.cases if case not in known]:
        raise ValueError(f"{dataset} has no image of the test case {missing[0]}; correct {SPLITS}")
    links: dict[str, Path] = {}
    for case in test_set.cases:
        images = [Path(image).resolve() for image in known[case]]
        links |= {f"{case}_{channel:04}{ending}": image for channel, image in enumerate(images)}
        spacing = images[0].with_name(f"{case}.json")  # as nnU-Net has that of a TIFF
        links |= {spacing.name: spacing} if spacing.exists() else {}
    if {file.name: file.resolve() for file in test_set.images.glob("*")} == links:
        return  # another study may be predicting them
    shutil.rmtree(test_set.images, ignore_errors=True)
    with atomic_folder(test_set.images) as folder:
        for name, image in links.items():
            (folder / name).symlink_to(image)


def training_images(dataset: str) -> dict[str, list[str]] | None:
    """The raw images of every training case, a file a channel; None where the raw data is gone."""
    folder = Path(str(nnUNet_raw), dataset)
    if not (folder / "dataset.json").is_file():
        return None
    found = get_filenames_of_train_images_and_targets(str(folder))
    return {case: files["images"] for case, files in found.items()}


def file_ending(dataset: str) -> str:
    """How a data set's images end."""
    return str(read_dataset_json(dataset_json_files(dataset)[0])["file_ending"])

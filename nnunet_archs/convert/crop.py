"""Crop a data set to the region that another model's out-of-fold predictions find: coarse to fine, without a cascade.

Of a case that a model was trained on, its prediction is better than it will be of a new case, and so would the box be.
`fold_*/validation` has each case as the model saw it that was not trained on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nnunet_archs.lengths import Length

from .case_files import Box, Case
from .cut import CANNOT_BE_CUT, read_voxels
from .folders import inspect_folder
from .raw_data import Fold, RawData

BOXES = "boxes.json"


@dataclass(frozen=True)
class Region:
    """A case's box, and what becomes of its labels."""

    box: Box
    shape: tuple[int, ...]
    is_found: bool  # whether anything is predicted: otherwise the box is the whole image
    n_labelled: int  # voxels
    n_lost: int  # labelled voxels outside of the box

    def facts(self) -> dict[str, Any]:
        """For a JSON file: voxels in the file's own order of axes, the upper end excluded."""
        box = {"from": [low for low, _ in self.box], "to": [high for _, high in self.box]}
        return {**box, "of": list(self.shape), "predicted": self.is_found, "labelled_voxels_lost": self.n_lost}


def inspect_crop(folder: Path, predictions: Sequence[Path], margin: Length) -> RawData:
    """Check a raw data set and the predictions of it; what is to be written.

    Raises:
        ValueError: if a training case has no prediction, or one that is not on its grid.
    """
    if not (folder / "dataset.json").is_file():
        raise ValueError(f"{folder} has no dataset.json: --crop-to needs an nnU-Net raw data set; convert it first")
    data = inspect_folder(folder, hold_out=False)
    ending = data.dataset_json["file_ending"]
    if ending.lower() in CANNOT_BE_CUT:
        raise ValueError(f"{folder} has {ending} files, which --crop-to cannot cut: convert them to .nii.gz or .png")
    by_fold, others = predictions_in(predictions, ending)
    out_of_fold = {case: file for files in by_fold.values() for case, file in files.items()}
    files = {**others, **out_of_fold}
    training = [item for item in data.training if isinstance(item, Case)]
    test = [item for item in data.test if isinstance(item, Case)]
    if missing := [case.name for case in training if case.name not in files]:
        places = ", ".join(map(str, predictions))
        rule = "train and validate all folds, or give a folder with predictions of these cases too"
        raise ValueError(f"{places}: no prediction of {missing[0]} ({len(missing)} of {len(training)} missing): {rule}")
    predicted_test = [case for case in test if case.name in files]
    ignored = data.dataset_json["labels"].get("ignore")
    progress = tqdm([*training, *predicted_test], desc="Finding regions", unit="case", leave=False, disable=None)
    regions = {case.name: region_of(case, files[case.name], margin, ignored) for case in progress}
    left_out = [case.name for case in test if case.name not in files]
    seen = [case.name for case in training if case.name not in out_of_fold]
    cropped_to = {"predictions": [str(place) for place in predictions], "margin": str(margin)}
    return replace(
        data,
        dataset_json={**data.dataset_json, "cropped_to": cropped_to},
        training=tuple(replace(case, box=regions[case.name].box) for case in training),
        test=tuple(replace(case, box=regions[case.name].box) for case in predicted_test),
        may_be_4d=False,
        folds=() if seen else folds_of(by_fold, [case.name for case in training]),
        notes=(*data.notes, *notes_of(regions, left_out, seen)),
        more={BOXES: {name: region.facts() for name, region in regions.items()}},
    )


def predictions_in(places: Sequence[Path], ending: str) -> tuple[dict[str, dict[str, Path]], dict[str, Path]]:
    """Files by fold and case, of models' folders; and files by case, of folders of predictions."""
    by_fold: dict[str, dict[str, Path]] = {}
    others: dict[str, Path] = {}
    for place in places:
        if not place.is_dir():
            raise ValueError(f"--crop-to {place} is not a folder: give a trained model's, or one of predictions")
        folds = sorted(place.glob("fold_[0-9]*/validation"))
        for validation in folds:
            by_fold[str(validation.parent)] = files_in(validation, ending)
        if not folds:
            others |= files_in(place, ending)
    if not by_fold and not others:
        raise ValueError(f"{', '.join(map(str, places))}: no fold_*/validation and no {ending} files; give a model's")
    return by_fold, others


def files_in(folder: Path, ending: str) -> dict[str, Path]:
    """A folder's files, by their cases."""
    return {file.name.removesuffix(ending): file for file in sorted(folder.glob(f"[!.]*{ending}"))}


def region_of(case: Case, prediction: Path, margin: Length, ignored: int | None) -> Region:
    """The box round all that is predicted. Raises ValueError where the prediction is of another size than the case."""
    predicted, spacing = read_voxels(prediction)
    labels, _ = read_voxels(case.label)
    if predicted.shape != labels.shape:
        sizes = f"{prediction} has {predicted.shape} voxels and {case.label} {labels.shape}"
        raise ValueError(f"{sizes}: they must be of one case; predict it again")
    labelled = (labels > 0) if ignored is None else (labels > 0) & (labels != ignored)
    box = box_round(predicted > 0, margin.voxels(spacing))
    inside = labelled[tuple(slice(*ends) for ends in box)]
    n_labelled = int(labelled.sum())
    return Region(box, labels.shape, bool(predicted.any()), n_labelled, n_labelled - int(inside.sum()))


def box_round(mask: Any, margins: Sequence[int]) -> Box:
    """First and last voxel, the latter excluded, of each axis; all of it where nothing is marked."""
    if not mask.any():
        return tuple((0, n) for n in mask.shape)
    ends = []
    for axis, (n, margin) in enumerate(zip(mask.shape, margins, strict=True)):
        marked = np.flatnonzero(mask.any(tuple(other for other in range(mask.ndim) if other != axis)))
        ends.append((max(int(marked[0]) - margin, 0), min(int(marked[-1]) + 1 + margin, n)))
    return tuple(ends)


def folds_of(by_fold: Mapping[str, Mapping[str, Path]], training: Sequence[str]) -> tuple[Fold, ...]:
    """The model's folds, so that no case is trained on in one of them whose box it was validated for; () if partial."""
    validated = [tuple(case for case in training if case in files) for files in by_fold.values()]
    if len(validated) < 2 or sorted(case for cases in validated for case in cases) != sorted(training):
        return ()
    return tuple((tuple(case for case in training if case not in cases), cases) for cases in validated)


def notes_of(regions: Mapping[str, Region], left_out: Sequence[str], seen: Sequence[str]) -> list[str]:
    """What a user should know of the boxes."""
    kept = [np.prod([b - a for a, b in region.box]) / np.prod(region.shape) for region in regions.values()]
    notes = [f"boxes hold {np.mean(kept):.0%} of the voxels, on the average of {len(kept)} cases"]
    if empty := [name for name, region in regions.items() if not region.is_found]:
        notes.append(f"nothing is predicted in {len(empty)} cases, which stay whole: {', '.join(empty[:5])}")
    if losing := [region for region in regions.values() if region.n_lost]:
        share = sum(region.n_lost for region in losing) / sum(region.n_labelled for region in regions.values())
        notes.append(f"boxes of {len(losing)} cases leave out labelled voxels, {share:.2%} of all; {BOXES} tells which")
    if left_out:
        notes.append(f"{len(left_out)} test cases without a prediction are left out: {', '.join(left_out[:5])}")
    if seen:
        notes.append(f"boxes of {len(seen)} training cases are not of out-of-fold predictions, and may be too good")
    return notes

"""Dice of networks on the cases that a model's folds did not train on, as nnU-Net's own validation has it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from torch import Tensor

from nnunet_archs.nnunet.datasets import open_preprocessed

from .model import PrunableModel

Label = int | tuple[int, ...]
CaseDice = dict[Label, float]


@dataclass(frozen=True)
class Validation:
    """Preprocessed cases, the truth at original resolution, and which cases each fold did not train on."""

    dataset: nnUNetBaseDataset
    truth: Path
    cases: dict[str, list[str]]


def find_validation(model: PrunableModel) -> Validation:
    """The cases that a model's folds were validated on.

    Raises:
        ValueError: if some of them, or their truth, are missing.
    """
    if not nnUNet_preprocessed.get():
        raise not_measurable("nnUNet_preprocessed is not set, where the validation cases are")
    root = Path(nnUNet_preprocessed, model.plans.dataset_name)
    cases = validation_cases(model, root / "splits_final.json")
    data, truth, previous = root / model.configuration.data_identifier, root / "gt_segmentations", previous_stage(model)
    for folder in filter(None, (data, truth, previous)):
        if not folder.is_dir() or not any(folder.iterdir()):
            raise not_measurable(f"{folder} is missing or empty")
    dataset = open_preprocessed(data, previous)
    needed = {case for fold in cases.values() for case in fold}
    truths = {file.name.removesuffix(model.dataset_json["file_ending"]) for file in truth.iterdir()}
    present = {data: set(dataset.identifiers), truth: truths}
    if previous is not None:
        present[previous] = {file.stem for file in previous.iterdir()}
    for folder, there in present.items():
        if missing := sorted(needed - there):
            raise not_measurable(f"{folder} lacks {len(missing)} of {len(needed)} validation cases ({missing[0]}, ...)")
    return Validation(dataset, truth, cases)


def validation_cases(model: PrunableModel, splits_file: Path) -> dict[str, list[str]]:
    """The validation cases of every fold; "all" has none that it did not train on.

    Raises:
        ValueError: if there is no such fold, or nnU-Net's splits do not have it.
    """
    folds = [fold for fold in model.folds if fold != "all"]
    if not folds:
        raise not_measurable("fold_all was trained on every case, and no other fold is there to validate")
    if not splits_file.is_file():
        raise not_measurable(f"{splits_file} is missing")
    splits = dict(enumerate(load_json(str(splits_file))))
    if unknown := [fold for fold in folds if int(fold) not in splits]:
        raise not_measurable(f"{splits_file} has {len(splits)} folds, and no fold {unknown[0]}")
    return {fold: splits[int(fold)]["val"] for fold in folds}


def previous_stage(model: PrunableModel) -> Path | None:
    """The folder of a cascade's first predictions, which the second stage sees."""
    previous = model.configuration.previous_stage_name
    if previous is None:
        return None
    first = "__".join([*model.folder.name.split("__")[:2], previous])
    return model.folder.with_name(first) / "predicted_next_stage" / model.configuration_name


def not_measurable(what: str) -> ValueError:
    """What is missing, and how to do without."""
    return ValueError(f"{what}; put that right, or give --no-validation, which makes the folder without measuring")


def load_case(model: PrunableModel, validation: Validation, case: str) -> tuple[Tensor, dict[str, Any]]:
    """A preprocessed image `(C, *spatial)`, the previous stage's labels on top, and its properties."""
    data, _, previous, properties = validation.dataset.load_case(case)
    data = np.array(data[:])
    if previous is not None:
        labels = model.labels.foreground_labels
        data = np.vstack((data, convert_labelmap_to_one_hot(previous[:], labels, output_dtype=data.dtype)))
    return torch.from_numpy(data), properties


def case_dice(
    model: PrunableModel, logits: Tensor, properties: dict[str, Any], truth: Path, folder: Path, case: str
) -> CaseDice:
    """Dice of every label or region of a case, from logits `(C, *spatial)`, written and read as nnU-Net does."""
    labels = model.labels
    export_prediction_from_logits(
        logits,
        properties,
        model.configuration,
        model.plans,
        model.dataset_json,
        str(folder / case),
        num_threads_torch=torch.get_num_threads(),
    )
    file = f"{case}{model.dataset_json['file_ending']}"
    compared = labels.foreground_regions if labels.has_regions else labels.foreground_labels
    reader = model.plans.image_reader_writer_class()
    metrics = compute_metrics(str(truth / file), str(folder / file), reader, compared, labels.ignore_label)["metrics"]
    return {label: float(values["Dice"]) for label, values in metrics.items()}


def mean_foreground(cases: Iterable[CaseDice]) -> float:
    """nnU-Net's foreground mean: over the labels, of the mean over the cases that have the label."""
    table = [list(case.values()) for case in cases]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a label that no case has
        return float(np.nanmean(table, axis=0).mean())

"""nnU-Net's data sets: their names, IDs and folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw, nnUNet_results
from nnunetv2.training.dataloading.nnunet_dataset import file_ending_dataset_mapping, nnUNetBaseDataset
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

from nnunet_archs.files import read_json

FOLDERS = {"nnUNet_raw": nnUNet_raw, "nnUNet_preprocessed": nnUNet_preprocessed, "nnUNet_results": nnUNet_results}

SPLITS = "splits_final.json"
IGNORE = "ignore"  # nnU-Net's word for what is not learnt


def check_folders(*variables: str) -> None:
    """Check that nnU-Net's folders are known.

    Raises:
        ValueError: for one that is not set.
    """
    for variable in variables:
        if not FOLDERS[variable].get():
            raise ValueError(f"{variable} is not set; export {variable}=FOLDER")


def dataset_name(given: str | int) -> str:
    """A data set's name, of its name or ID.

    Raises:
        ValueError: if nnU-Net's folders do not have it.
    """
    try:
        return str(maybe_convert_to_dataset_name(given))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"nnU-Net finds no data set {given}, or several of its ID; correct it") from error


def dataset_id(name: str) -> str:
    """A data set's ID, as nnU-Net's commands take it."""
    return str(int(name.removeprefix("Dataset")[:3]))


def preprocessed(dataset: str) -> Path:
    """nnU-Net's folder of a data set's plans, splits and preprocessed data."""
    return Path(str(nnUNet_preprocessed), dataset)


def dataset_json_files(dataset: str) -> list[Path]:
    """The files that tell a data set's channels and labels: of the raw data, and of the preprocessed."""
    folders = [Path(folder.get(), dataset) for folder in (nnUNet_raw, nnUNet_preprocessed) if folder.get()]
    return [file for folder in folders if (file := folder / "dataset.json").is_file()]


def read_dataset_json(file: Path) -> dict[str, Any]:
    """A dataset.json in its normal form.

    Raises:
        ValueError: if it is none.
    """
    return normal_form(read_json(file))


def normal_form(dataset_json: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset.json as nnU-Net documents it: `channel_names` in place of `modality`, and no reader that is null."""
    normal = dict(dataset_json)
    modality = normal.pop("modality", None)
    if modality is not None:
        normal.setdefault("channel_names", modality)
    if normal.get("overwrite_image_reader_writer") in (None, "None"):
        normal.pop("overwrite_image_reader_writer", None)
    return normal


def label_names(labels: Mapping[str, int | list[int]]) -> dict[int, str]:
    """A name for each value of a label map: that of the smallest region which holds it."""
    regions = {name: entry if isinstance(entry, list) else [entry] for name, entry in labels.items()}
    by_size = sorted(regions.items(), key=lambda item: len(item[1]), reverse=True)
    return {value: name for name, values in by_size for value in values}


def segment_names(labels: Mapping[str, int | list[int]]) -> dict[int, str]:
    """A name for each value that a prediction may have, but for background."""
    learnt = {name: entry for name, entry in labels.items() if name != IGNORE}
    return {value: name for value, name in sorted(label_names(learnt).items()) if value}


def count_cases(dataset: str) -> int:
    """How many training cases the raw data has; 0 where it is gone. `numTraining` may be missing, or wrong."""
    file = Path(str(nnUNet_raw), dataset, "dataset.json")
    if not file.is_file():
        return 0
    dataset_json = read_json(file)
    listed = dataset_json.get("dataset")
    return len(listed or list((file.parent / "labelsTr").glob(f"*{dataset_json['file_ending']}")))


def open_preprocessed(folder: Path, previous_stage: Path | None = None) -> nnUNetBaseDataset:
    """Preprocessed cases. nnU-Net's own choice of their class fails where any other file lies among them.

    Args:
        folder: of a configuration's data.
        previous_stage: the folder of a cascade's first predictions.

    Raises:
        ValueError: if there are none.
    """
    # the newer format, where both are there
    for ending, dataset in reversed(file_ending_dataset_mapping.items()):
        if any(folder.glob(f"[!.]*.{ending}")):
            cases = [case for case in dataset.get_identifiers(str(folder)) if not case.startswith(".")]
            return dataset(str(folder), cases, previous_stage and str(previous_stage))
    raise ValueError(f"{folder} holds no preprocessed cases; run nnUNetv2_preprocess")

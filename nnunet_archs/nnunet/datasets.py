"""nnU-Net's data sets: their names, IDs and folders."""

from __future__ import annotations

from pathlib import Path

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw, nnUNet_results
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

FOLDERS = {"nnUNet_raw": nnUNet_raw, "nnUNet_preprocessed": nnUNet_preprocessed, "nnUNet_results": nnUNet_results}


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


def dataset_json_files(dataset: str) -> list[Path]:
    """The files that tell a data set's channels and labels: of the raw data, and of the preprocessed."""
    folders = [Path(folder.get(), dataset) for folder in (nnUNet_raw, nnUNet_preprocessed) if folder.get()]
    return [file for folder in folders if (file := folder / "dataset.json").is_file()]

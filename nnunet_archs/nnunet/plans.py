"""Plans files beside nnU-Net's, and the preprocessed data that they share."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from batchgenerators.utilities.file_and_folder_operations import load_json, save_json
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

STOCK = "nnUNetPlans"
# what decides preprocessed data: of all configurations, and of one
OF_PLANS = ("transpose_forward", "foreground_intensity_properties_per_channel", "image_reader_writer")
OF_CONFIGURATION = (
    "spacing",
    "preprocessor_name",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)


def plans_file(dataset: str, name: str) -> Path:
    """Where nnU-Net keeps plans."""
    return Path(str(nnUNet_preprocessed), dataset, f"{name}.json")


def share_data(plans: dict[str, Any]) -> None:
    """Name the preprocessed data of every configuration: that of plans that preprocess alike, else one of its own.

    Its own is a name that no plans have and no folder: what is there already may be of another spacing.
    """
    folder = plans_file(plans["dataset_name"], "").parent
    others = plans_in(folder)
    taken = {own.get("data_identifier") for other in others for own in other.plans["configurations"].values()}
    for name, planned in plans["configurations"].items():
        if "inherits_from" in planned:
            continue
        alike = (other.get_configuration(name).data_identifier for other in others if agree(plans, other, name))
        own = f"{plans['plans_name']}_{name}"
        new = (own if n == 1 else f"{own}_{n}" for n in count(1))
        planned["data_identifier"] = next(alike, None) or next(
            name for name in new if name not in taken and not (folder / name).exists()
        )


def plans_in(folder: Path) -> list[PlansManager]:
    """All plans in a folder, nnU-Net's own first; other files are passed over, broken ones too."""
    found = []
    for file in sorted(folder.glob("*.json"), key=lambda file: (file.stem != STOCK, file.stem)):
        try:
            content = load_json(str(file))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and {"plans_name", "configurations"} <= content.keys():
            found.append(PlansManager(content))
    return found


def agree(plans: dict[str, Any], other: PlansManager, name: str) -> bool:
    """Whether other plans preprocess the data of a configuration in the same way."""
    if name not in other.available_configurations:
        return False
    planned, theirs = plans["configurations"][name], other.get_configuration(name).configuration
    return all(plans.get(key) == other.plans.get(key) for key in OF_PLANS) and all(
        planned.get(key) == theirs.get(key) for key in OF_CONFIGURATION
    )


def not_preprocessed(plans: dict[str, Any], n_cases: int) -> list[str]:
    """Configurations whose preprocessed data is not there."""
    folder = plans_file(plans["dataset_name"], "").parent
    return [
        name
        for name, planned in plans["configurations"].items()
        if "data_identifier" in planned and len(list((folder / planned["data_identifier"]).glob("*.pkl"))) < n_cases
    ]


def write_plans(plans: dict[str, Any]) -> Path:
    """Write plans at once or not at all; configurations of the file that they do not have stay, as nnU-Net has it."""
    file = plans_file(plans["dataset_name"], plans["plans_name"])
    for old in plans_in(file.parent):
        if old.plans["plans_name"] == plans["plans_name"]:
            plans = {**plans, "configurations": {**old.plans["configurations"], **plans["configurations"]}}
    unfinished = file.with_name(f".{file.name}.unfinished")
    save_json(plans, str(unfinished), sort_keys=False)
    unfinished.replace(file)
    return file

"""Plans files beside nnU-Net's, and the preprocessed data that they share."""

from __future__ import annotations

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
    """Name the preprocessed data of every configuration: other plans' where it is the same, else its own."""
    files = sorted(plans_file(plans["dataset_name"], "").parent.glob("*.json"), key=lambda file: file.stem != STOCK)
    others = [PlansManager(other) for other in map(load_json, map(str, files)) if "configurations" in other]
    for name, planned in plans["configurations"].items():
        if "inherits_from" in planned:
            continue
        found = (other.get_configuration(name) for other in others if agree(plans, other, name))
        planned["data_identifier"] = next((o.data_identifier for o in found), f"{plans['plans_name']}_{name}")


def agree(plans: dict[str, Any], other: PlansManager, name: str) -> bool:
    """Whether other plans preprocess the data of a configuration in the same way."""
    if other.plans["plans_name"] == plans["plans_name"] or name not in other.available_configurations:
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
    if file.exists():
        plans = {**plans, "configurations": {**load_json(str(file))["configurations"], **plans["configurations"]}}
    unfinished = file.with_name(f".{file.name}.unfinished")
    save_json(plans, str(unfinished), sort_keys=False)
    unfinished.replace(file)
    return file

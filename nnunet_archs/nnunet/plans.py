"""Plans files beside nnU-Net's, and the preprocessed data that they share."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from batchgenerators.utilities.file_and_folder_operations import load_json, save_json
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

STOCK = "nnUNetPlans"
DEFAULT_MEMORY = 8.0  # GB, nnU-Net's
BUDGET = "nnunet_archs_budget"  # in a configuration: for what it was planned; nnU-Net carries it along
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


def budget(
    trainer: str,
    *,
    gpu_memory: float | None,
    base_width: int | None,
    match: str | None = None,
    by: str | None = None,
    published: str | None = None,
) -> dict[str, Any]:
    """For what a configuration is planned: trainer, GPU in GB and width, and the plans whose memory or size it has.

    A width of None is the network's own. Of matched plans, memory and width are those of the plans that they match.
    Plans of what a paper prints name the row of its table, and no memory.
    """
    sizes = {"gpu_memory": gpu_memory, "base_width": base_width, "match": match, "by": by}
    return {"trainer": trainer, **sizes, **({"published": published} if published else {})}


def budget_of(plans: dict[str, Any], configuration: str) -> dict[str, Any] | None:
    """For what a configuration was planned; None where its plans do not say, as nnU-Net's do not."""
    found: dict[str, Any] | None = PlansManager(plans).get_configuration(configuration).configuration.get(BUDGET)
    return found


def describe_budget(budget: Mapping[str, Any] | None) -> str:
    """For what a configuration was planned, in words."""
    if budget is None:
        return "not recorded"
    if budget.get("published"):
        return f"as published ({budget['published']}), {budget['trainer']}"
    gpu = "a GPU of unknown memory" if budget["gpu_memory"] is None else f"{budget['gpu_memory']:g} GB"
    width = "" if budget["base_width"] is None else f", width {budget['base_width']}"
    much = "as many parameters as" if budget["by"] == "parameters" else "as much memory as"
    matched = f"{much} {budget['match']}, " if budget["match"] else ""
    return f"{matched}{gpu}{width}, {budget['trainer']}"


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


def agree(plans: dict[str, Any], other: PlansManager, name: str, their_name: str | None = None) -> bool:
    """Whether other plans preprocess the data of a configuration (or of their own, of another name) in the same way."""
    if (their_name or name) not in other.available_configurations:
        return False
    planned = PlansManager(plans).get_configuration(name).configuration
    theirs = other.get_configuration(their_name or name).configuration
    return all(plans.get(key) == other.plans.get(key) for key in OF_PLANS) and all(
        planned.get(key) == theirs.get(key) for key in OF_CONFIGURATION
    )


def check_data(plans: dict[str, Any], configuration: str) -> None:
    """Check that the preprocessed data that plans name is as they want it, where it is that of other plans.

    `nnUNetv2_move_plans_between_datasets` leaves the name of the data as it was: in the other data set that may be the
    name of data of another spacing.

    Raises:
        ValueError: if the plans that this data belongs to preprocess it otherwise.
    """
    name, data = plans["plans_name"], PlansManager(plans).get_configuration(configuration).data_identifier
    others = [other for other in plans_in(plans_file(plans["dataset_name"], "").parent) if of_plans(data, other)]
    owner = max(others, key=lambda other: len(other.plans_name), default=None)  # a_b's data begins with a, too
    if owner is None or owner.plans_name == name:
        return
    for theirs in owner.available_configurations:
        found = owner.get_configuration(theirs)
        if found.data_identifier == data and not agree(plans, owner, configuration, theirs):
            raise ValueError(
                f"{name}/{configuration} of {plans['dataset_name']} names the data {data}, which {owner.plans_name} "
                f"preprocesses otherwise (spacing {found.spacing}, or how it resamples or normalises); move the plans "
                "under another name (nnUNetv2_move_plans_between_datasets -tp NAME), and preprocess for that name"
            )


def of_plans(data: str, plans: PlansManager) -> bool:
    """Whether preprocessed data belongs to plans, by its name: nnU-Net and we begin it with that of the plans."""
    return data.startswith(f"{plans.plans_name}_")


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

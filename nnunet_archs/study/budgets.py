"""Whether the plans of a study are for one budget: the GPU's memory and the width that it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.nnunet.plans import DEFAULT_MEMORY, budget_of, describe_budget, plans_file

from .definition import Planning, Study

Size = tuple[float | None, int | None]  # memory in GB, and width


def unlike(study: Study, dataset: str, names: Mapping[str, str | None]) -> dict[str, str]:
    """Plans that are there for another budget than the study asks for, or than what they match has, and why.

    `names` has the plans that they match. A study that says nothing about planning takes plans as they are, if all are
    alike: those that are missing will be made for the default.
    """
    asked: Size = (study.planning.gpu_memory or DEFAULT_MEMORY, study.planning.base_width)
    there = {name: load_json(str(file)) for name in names if (file := plans_file(dataset, name)).exists()}
    own = {name: sizes(study, there[name]) if name in there else {asked} for name, given in names.items() if not given}
    alike = len(set().union(*own.values())) <= 1
    found = {
        name: f"{made_for(study, there[name])}, and the study asks for {words(asked)}"
        for name, have in own.items()
        if have != {asked} and not (alike and study.planning == Planning())
    }
    for name, given in names.items():
        if given and name in there and (given in found or not matches(study, dataset, there[name], given, asked)):
            found[name] = f"{made_for(study, there[name])}, and {given} is another now"
    return found


def sizes(study: Study, plans: dict[str, Any]) -> set[Size | None]:
    """For which memory and width the study's configurations were planned; None where the plans do not say."""
    budgets = [budget_of(plans, name) for name in study.configurations if name in plans["configurations"]]
    return {(made["gpu_memory"], made["base_width"]) if made else None for made in budgets}


def matches(study: Study, dataset: str, plans: dict[str, Any], given: str, asked: Size) -> bool:
    """Whether plans have the budget, and patch and batch, of the plans that they match as these are now."""
    file = plans_file(dataset, given)
    if not file.exists():
        return sizes(study, plans) == {asked}
    theirs = load_json(str(file))
    # nnU-Net's plans do not say for which GPU they are; nor does what matches them
    if {size or (None, None) for size in sizes(study, plans)} != {
        size or (None, None) for size in sizes(study, theirs)
    }:
        return False
    mine, others = PlansManager(plans), PlansManager(theirs)
    both = [name for name in study.configurations if name in mine.available_configurations]
    return all(
        getattr(mine.get_configuration(name), key) == getattr(others.get_configuration(name), key)
        for name in both
        if name in others.available_configurations
        for key in ("patch_size", "batch_size")
    )


def made_for(study: Study, plans: dict[str, Any]) -> str:
    """For what plans were made, in words."""
    budgets = [budget_of(plans, name) for name in study.configurations if name in plans["configurations"]]
    told = dict.fromkeys(map(describe_budget, filter(None, budgets)))
    return f"was made for {' or '.join(told)}" if told else "does not say for what it was made"


def words(size: Size) -> str:
    """A budget, as a study asks for it."""
    memory, width = size
    return f"{memory:g} GB" + ("" if width is None else f", width {width}")

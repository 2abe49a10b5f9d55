"""Make plans for data sets and trainers, and say what comes next.

Plans are written beside nnU-Net's, as <Network>Plans.json, when all that was asked for is planned. Preprocessed data is
shared with other plans where it is the same; none is made or deleted here.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.configuration import default_num_processes
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tqdm import tqdm

from nnunet_archs.measure.memory import GIB
from nnunet_archs.networks.parts.contract import check_choice
from nnunet_archs.nnunet.datasets import check_folders, count_cases, dataset_id, dataset_name, read_dataset_json
from nnunet_archs.nnunet.plans import DEFAULT_MEMORY, not_preprocessed, plans_file, share_data, write_plans
from nnunet_archs.tables import markdown_table
from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.names import plans_name
from nnunet_archs.trainers.registry import resolve_paper

from .matching import match, parameters, peak_memory, trainer_of
from .planner import CONFIGURATIONS, Limits, NetworkPlanner, planner_class
from .published import PublishedPlanner, published_rows

Row: TypeAlias = tuple[str, ...]

FINGERPRINT = "dataset_fingerprint.json"


@dataclass(frozen=True)
class Task:
    """A data set and a trainer to plan for, and the name of the plans."""

    dataset: str
    trainer_name: str
    name: str

    @property
    def number(self) -> str:
        """The data set's ID."""
        return dataset_id(self.dataset)

    @property
    def trainer(self) -> type[PaperTrainer]:
        """The trainer: another process finds it again by its name, which a class made here has not."""
        return resolve_paper(self.trainer_name)


def plan(args: argparse.Namespace) -> tuple[str, list[str]]:
    """Plan everything that the command's arguments ask for, then write it; a table, and the commands that come next.

    Raises:
        ValueError: if one of the plans cannot be made; then none is written.
    """
    check_arguments(args)
    tasks = [task for dataset in find_datasets(args.datasets) for task in find_tasks(dataset, args)]
    made = list(tqdm(make_all(tasks, args), desc="Planning", unit="plan", total=len(tasks), disable=None))
    for plans, _ in made:
        share_data(plans)
        write_plans(plans)
    table = markdown_table(HEADER_MATCHED if args.match else HEADER, [row for _, rows in made for row in rows])
    return table, list(what_now(tasks, [plans for plans, _ in made]))


def make_all(tasks: Sequence[Task], args: argparse.Namespace) -> Iterator[tuple[dict[str, Any], list[Row]]]:
    """The plans of all tasks and their rows of the table, in as many processes as nnU-Net may have and cores are."""
    processes = min(len(tasks), default_num_processes, os.cpu_count() or 1)
    if processes == 1:
        yield from (make(task, args) for task in tasks)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        try:
            yield from pool.map(partial(make, args=args), tasks)
        finally:
            pool.shutdown(cancel_futures=True)


def check_arguments(args: argparse.Namespace) -> None:
    """Check options that do not go together.

    Raises:
        ValueError: for such.
    """
    sizes = (args.gpu_memory, args.base_width)
    if args.match and sizes != (None, None):
        raise ValueError("--match has patch, batch and budget from its plans; leave out --gpu-memory and --base-width")
    if args.published is not None and any(given is not None for given in (args.match, *sizes)):
        raise ValueError("--published has all sizes from a paper; leave out --match, --gpu-memory and --base-width")
    if args.by and not args.match:
        raise ValueError("--by says what --match compares; give --match PLANS, or leave it out")
    if args.gpu_memory is not None and not 0 < args.gpu_memory < math.inf:
        raise ValueError(f"--gpu-memory {args.gpu_memory:g}: give the GB that the GPU has")
    if args.base_width is not None and args.base_width < 1:
        raise ValueError(f"--base-width {args.base_width}: a network needs at least 1 feature")
    for name in args.configurations or ():
        if not args.match:
            check_choice("-c", name, CONFIGURATIONS)


def find_datasets(names: Sequence[str]) -> list[str]:
    """Names of data sets that can be planned for.

    Raises:
        ValueError: for one that is unknown or has no fingerprint, or if nnU-Net's folders are not set.
    """
    check_folders("nnUNet_raw", "nnUNet_preprocessed")
    found = []
    for name in dict.fromkeys(names):
        dataset = dataset_name(name)
        if not Path(str(nnUNet_raw), dataset, "dataset.json").is_file():
            raise ValueError(f"-d {name}: {nnUNet_raw}/{dataset} has no dataset.json; planning needs the raw data")
        if not Path(str(nnUNet_preprocessed), dataset, FINGERPRINT).is_file():
            raise ValueError(f"-d {name}: {dataset} has no fingerprint; run nnUNetv2_extract_fingerprint -d {name}")
        found.append(dataset)
    return list(dict.fromkeys(found))


def find_tasks(dataset: str, args: argparse.Namespace) -> Iterator[Task]:
    """What is to be planned for a data set.

    Raises:
        ValueError: for an unknown trainer, and for plans that two trainers share or that are there already.
    """
    taken: dict[str, str] = {}
    for name in dict.fromkeys(args.trainers):
        trainer = resolve_paper(name)
        if getattr(trainer, "pruned_to", None) is not None:
            raise ValueError(f"-tr {name}: a pruned network is cut out of a trained one; plan for that one")
        plans = plans_name(trainer, args.published)
        if args.match:
            plans = f"{plans.removesuffix('Plans')}_{args.by or 'memory'}_of_{args.match}"
        if plans in taken:
            raise ValueError(f"-tr {name}: its plans are those of {taken[plans]}, {plans}; name one of them")
        taken[plans] = name
        if plans_file(dataset, plans).exists() and not args.overwrite:
            raise ValueError(f"{plans_file(dataset, plans)} exists; give --overwrite to replace it")
        yield Task(dataset, name, plans)


def make(task: Task, args: argparse.Namespace) -> tuple[dict[str, Any], list[Row]]:
    """The plans of a task, and a row of the table for every configuration.

    Raises:
        ValueError: if they cannot be made.
    """
    if args.match:
        given = load_plans(task.dataset, args.match)
        given["configurations"] = wanted(given["configurations"], args.configurations)
        plans = match(given, task.trainer, load_dataset_json(task), args.by or "memory")
        limits: dict[str, Limits] = {}
    else:
        try:
            planner = planner_of(task, args)
            plans, limits = planner.plan(), planner.limits
        except (OSError, AssertionError, StopIteration) as error:
            raise ValueError(f"nnU-Net cannot read {task.dataset}'s raw data ({error!r}); put it back") from error
    plans["plans_name"] = task.name
    for name in args.configurations or ():
        if name not in plans["configurations"]:
            known = ", ".join(plans["configurations"])
            raise ValueError(f"-c {name}: {task.dataset} has {known or 'none of these'}; name some of them, or none")
    for name, planned in plans["configurations"].items():
        if planned.get("next_stage") not in plans["configurations"]:
            planned.pop("next_stage", None)  # nnU-Net's validation would look for it
        task.trainer.check_plans(plans, name, load_dataset_json(task))
    return plans, list(describe(task, plans, limits, args))


def planner_of(task: Task, args: argparse.Namespace) -> NetworkPlanner:
    """What plans for a trainer: by the GPU's memory, or by what a paper prints.

    Raises:
        ValueError: if no paper prints it.
    """
    configurations = args.configurations
    if args.published is not None:
        rows = published_rows(task.trainer, args.published)
        return PublishedPlanner(task.dataset, task.trainer, rows, configurations=configurations)
    gpu_memory = args.gpu_memory or DEFAULT_MEMORY
    planner = planner_class(task.trainer, gpu_memory)
    return planner(
        task.dataset,
        task.trainer,
        gpu_memory=gpu_memory,
        base_width=args.base_width,
        configurations=configurations,
    )


def wanted(configurations: dict[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    """The configurations of these names, with those that they inherit from or begin with."""
    needed = list(configurations if names is None else names)
    for name in needed:
        links = (configurations.get(name, {}).get(key) for key in ("inherits_from", "previous_stage"))
        needed += [link for link in links if link and link not in needed]
    return {name: planned for name, planned in configurations.items() if name in needed}


def load_plans(dataset: str, name: str) -> dict[str, Any]:
    """Plans of a data set.

    Raises:
        ValueError: if there are none of that name.
    """
    try:
        plans: dict[str, Any] = load_json(str(plans_file(dataset, name)))
    except (OSError, ValueError) as error:
        known = ", ".join(sorted(file.stem for file in plans_file(dataset, "").parent.glob("*Plans*.json")))
        raise ValueError(f"--match {name}: {dataset} has {known or 'no plans'}; name these, or plan first") from error
    if "configurations" not in plans:
        raise ValueError(f"--match {name}: that file holds no plans; name nnU-Net's, as nnUNetPlans")
    return plans


def load_dataset_json(task: Task) -> dict[str, Any]:
    """The data set's channels and labels."""
    return read_dataset_json(Path(str(nnUNet_raw), task.dataset, "dataset.json"))


HEADER = (
    "plans",
    "configuration",
    "patch",
    "batch",
    "stages",
    "width",
    "parameters",
    "memory, GiB",
    "of the GPU",
    "patch limited by",
    "batch limited by",
)
HEADER_MATCHED = (*HEADER[:8], "of the plans'", "parameters, of the plans'")


def describe(task: Task, plans: dict[str, Any], limits: dict[str, Limits], args: argparse.Namespace) -> Iterator[Row]:
    """A row of the table for every configuration."""
    manager, dataset_json = PlansManager(plans), load_dataset_json(task)
    for name, own in plans["configurations"].items():
        configuration = manager.get_configuration(name)
        features = configuration.network_arch_init_kwargs["features_per_stage"]
        count = parameters(manager, dataset_json, task.trainer, configuration)
        peak = peak_memory(manager, dataset_json, task.trainer, configuration)
        row = (
            task.name,
            name,
            " x ".join(map(str, configuration.patch_size)),
            str(configuration.batch_size),
            str(len(features)),
            str(features[0]),
            f"{count:,}",
            f"{peak / GIB:.2f}",
        )
        if args.match:
            given = PlansManager(load_plans(task.dataset, args.match)).get_configuration(name)
            reference = trainer_of(given.configuration)
            costs = (cost(manager, dataset_json, reference, given) for cost in (peak_memory, parameters))
            yield (*row, *(f"{mine / theirs:.0%}" for mine, theirs in zip((peak, count), costs, strict=True)))
        else:
            share = peak / GIB / (args.gpu_memory or DEFAULT_MEMORY)
            limit = limits[own.get("inherits_from", name)]
            yield (*row, f"{share:.0%}" if args.published is None else "", limit.patch, limit.batch)


def what_now(tasks: Sequence[Task], made: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The commands that come next: preprocess what no plans have preprocessed, each once, and train."""
    seen: set[tuple[str, str]] = set()
    for task, plans in zip(tasks, made, strict=True):
        missing = {
            (task.dataset, plans["configurations"][name]["data_identifier"]): name
            for name in not_preprocessed(plans, count_cases(task.dataset))
        }
        if new := [name for data, name in missing.items() if data not in seen]:
            yield f"nnUNetv2_preprocess -d {task.number} -plans_name {task.name} -c {' '.join(new)}"
        seen |= missing.keys()
    for task, plans in zip(tasks, made, strict=True):
        # the cascade needs 3d_lowres' predictions first
        configuration = [name for name, planned in plans["configurations"].items() if "previous_stage" not in planned][
            -1
        ]
        yield f"nnUNetv2_train {task.number} {configuration} 0 -tr {task.trainer.__name__} -p {task.name}"

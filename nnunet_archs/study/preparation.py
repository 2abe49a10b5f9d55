"""What has to be there before a study's trainings: plans, preprocessed data, splits; and results that fit them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.configuration import default_num_processes
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.files import write_whole
from nnunet_archs.nnunet.commands import begin, end, last_line, nnunet_command, variables
from nnunet_archs.nnunet.datasets import SPLITS, count_cases, dataset_id, preprocessed
from nnunet_archs.nnunet.plans import BUDGET, STOCK, check_data, not_preprocessed, plans_file
from nnunet_archs.trainers.names import plans_name
from nnunet_archs.trainers.registry import resolve_paper

from .budgets import unlike
from .definition import N_FOLDS, Network, Study
from .held_out import held_out, link_images
from .job import Job
from .jobs import Training, first_stage, jobs_of, trainings_of
from .locks import holding

MATCHED = re.compile(r"(?P<own>.+)_(?P<by>memory|parameters)_of_(?P<given>.+)")
SEED = 12345  # nnU-Net's own, for its folds
FINGERPRINT = "dataset_fingerprint.json"


def prepare(study: Study, *, replan: bool = False) -> None:
    """Make what is missing, with nnU-Net's commands and ours, a data set at a time and one study at a time.

    With `replan`, plans for another budget than the study's are made again too.

    Raises:
        ValueError: if a command fails, or what is there is not what the study asks for.
    """
    check(study, replan=replan)
    for dataset in study.datasets:
        lock = preprocessed(dataset) / ".study.lock"
        with holding(lock, f"preparation of {dataset}"):
            for title, command in plan_commands(study, dataset, replan=replan):
                run_command(study, title, command)
            check(study)
            for name in dict.fromkeys(network.plans for network in study.networks):
                if missing := preprocess_command(study, dataset, name):
                    run_command(study, f"preprocess {dataset} as {name} has it", missing)
            write_splits(study, dataset)
            if study.test == "splits":
                link_images(dataset, held_out(dataset, study.test, study.folds))
    check(study)


def check(study: Study, *, replan: bool = False) -> None:
    """Check what is there already, and that what is not can be made; with `replan`, not for which budget plans are.

    Raises:
        ValueError: if it is not what the study asks for.
    """
    for dataset in study.datasets:
        list(plan_commands(study, dataset, replan=replan))
        for name, why in unlike(study, dataset, planned_by_us(study)).items():
            check_budget(study, dataset, name, why, replan=replan)
        for network in study.networks:
            check_configurations(study, dataset, network)
        check_folds(study, dataset)
        check_test_set(study, dataset)
    for job in jobs_of(study):
        check_results(job)


def check_budget(study: Study, dataset: str, name: str, why: str, *, replan: bool) -> None:
    """Refuse plans that were made for another budget, unless they may be made again.

    Raises:
        ValueError: if they may not, or a network was trained with them.
    """
    if not replan:
        remedy = "give --replan to make these plans again, or ask for their budget in planning"
        raise ValueError(f"{study.file}: {name} of {dataset}: {why}; {remedy}")
    theirs = [job for job in trainings_of(study) if (job.dataset, job.network.plans) == (dataset, name)]
    for job in filter(has_begun, theirs):
        raise ValueError(f"{job.title} was trained with the {name} that --replan would replace; move {job.folder} away")


def planned_by_us(study: Study) -> dict[str, str | None]:
    """The plans that `nnunet-archs plan` makes for a study, with the plans that they match."""
    found: dict[str, str | None] = {}
    for network in study.networks:
        for name in plans_needed(network):
            matched = MATCHED.fullmatch(name)
            if matched or (name != STOCK and trainer_for(name, network)):
                found[name] = matched["given"] if matched else None
    return found


def plan_commands(study: Study, dataset: str, *, replan: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Titles and commands that make a data set's fingerprint and the plans that are missing.

    With `replan` also those that are there for another budget.
    """
    number = dataset_id(dataset)
    if not (preprocessed(dataset) / FINGERPRINT).exists():
        command = [nnunet_command("nnUNetv2_extract_fingerprint"), "-d", number, "--verify_dataset_integrity"]
        yield f"fingerprint of {dataset}", [*command, "-np", processes(study)]
    again = unlike(study, dataset, planned_by_us(study)) if replan else {}
    made: set[str] = set()
    for network in study.networks:
        for name in plans_needed(network):
            if name not in made and (name in again or not plans_file(dataset, name).exists()):
                made.add(name)
                overwrite = ["--overwrite"] if name in again else []
                yield f"{name} of {dataset}", [*plan_command(study, dataset, network, name), *overwrite]


def plans_needed(network: Network) -> list[str]:
    """A network's plans, after those that they match."""
    matched = MATCHED.fullmatch(network.plans)
    return [matched["given"], network.plans] if matched else [network.plans]


def plan_command(study: Study, dataset: str, network: Network, name: str) -> list[str]:
    """The command that makes plans of this name.

    Raises:
        ValueError: if the name is of no plans that can be made.
    """
    if name == STOCK:
        return [nnunet_command("nnUNetv2_plan_experiment"), "-d", dataset_id(dataset)]
    command = [nnunet_command("nnunet-archs"), "plan", "-d", dataset_id(dataset)]
    matched = MATCHED.fullmatch(name)
    trainer = trainer_for(matched["own"] + "Plans" if matched else name, network)
    if trainer is None:
        made = f"{STOCK}, CAggNetPlans, CAggNet_memory_of_{STOCK} and their like"
        raise ValueError(f"plans {name} of {network.name} are not there for {dataset}; make them, or name {made}")
    if matched:
        return [*command, "-tr", trainer, "--match", matched["given"], "--by", matched["by"]]
    planning = study.planning
    options = {"--gpu-memory": planning.gpu_memory, "--base-width": planning.base_width}
    return [*command, "-tr", trainer, *(word for key, n in options.items() if n for word in (key, f"{n:g}"))]


def trainer_for(plans: str, network: Network) -> str | None:
    """The trainer for which `nnunet-archs plan` makes plans of this name: the network's own, or another of ours."""
    base, *words = plans.removesuffix("Plans").split("_")
    for name in (network.trainer, "_".join([f"{base}Trainer", *words])):
        try:
            if plans_name(resolve_paper(name)) == plans:
                return name
        except ValueError:
            continue
    return None


def preprocess_command(study: Study, dataset: str, name: str) -> list[str] | None:
    """The command that preprocesses what plans lack; None where they lack nothing."""
    plans = load_json(str(plans_file(dataset, name)))
    manager = PlansManager(plans)
    # what inherits its data is preprocessed with what it inherits from; validation looks at the next stage's data
    wanted = [manager.get_configuration(name) for name in study.configurations]
    wanted += [manager.get_configuration(name) for one in wanted for name in one.next_stage_names or ()]
    data = {configuration.data_identifier for configuration in wanted}
    missing = [
        name
        for name in not_preprocessed(plans, count_cases(dataset))
        if plans["configurations"][name]["data_identifier"] in data
    ]
    if not missing:
        return None
    command = [nnunet_command("nnUNetv2_preprocess"), "-d", dataset_id(dataset), "-plans_name", name]
    return [*command, "-c", *missing, "-np", *[processes(study)] * len(missing)]


def processes(study: Study) -> str:
    """How many processes nnU-Net's commands may have: their own defaults do not look at its variable."""
    return variables(study.device).get("nnUNet_def_n_proc", str(default_num_processes))


def run_command(study: Study, title: str, command: Sequence[str]) -> None:
    """Run a command, its output in a log of the study's.

    Raises:
        ValueError: if it fails, with its last line.
    """
    print(f"{title}: {shlex.join(shown(command))}", flush=True)
    log = study.folder / "logs" / "preparation.log"
    process = begin(command, log, variables(study.device))
    try:
        process.wait()
    finally:
        end(process)
    if process.returncode:
        raise ValueError(f"{title} failed: {last_line(log)} (all of it: {log})")


def shown(command: Sequence[str]) -> list[str]:
    """A command as a person types it."""
    return [Path(command[0]).name, *command[1:]]


def check_configurations(study: Study, dataset: str, network: Network) -> None:
    """Check that a network's plans, where they are there, have what the study asks for."""
    if not (file := plans_file(dataset, network.plans)).exists():
        return
    plans = load_json(str(file))
    planned = plans["configurations"]
    for name in study.configurations:
        if name not in planned:
            known = ", ".join(planned)
            raise ValueError(
                f"{study.file}: {network.plans} of {dataset} has no {name}, but {known}; leave it out, or plan for it"
            )
        check_data(plans, name)
        first = first_stage(file, name)
        if first is not None and first not in study.configurations:
            raise ValueError(f"{study.file}: {name} of {network.plans} needs {first}; name that too in configurations")


def write_splits(study: Study, dataset: str) -> None:
    """The folds, as nnU-Net makes them where there are none: not by the first training, for many begin at once."""
    file = preprocessed(dataset) / SPLITS
    if file.exists():
        return
    plans = PlansManager(load_json(str(plans_file(dataset, study.networks[0].plans))))
    data = str(preprocessed(dataset) / plans.get_configuration(study.configurations[0]).data_identifier)
    cases = list(np.sort(infer_dataset_class(data).get_identifiers(data)))
    if len(cases) < N_FOLDS:
        raise ValueError(f"{dataset} has {len(cases)} training cases, and {N_FOLDS} folds need one each; add some")
    write_whole(file, json.dumps(generate_crossval_split(cases, seed=SEED, n_splits=N_FOLDS), indent=4))


def check_folds(study: Study, dataset: str) -> None:
    """Check that there is a split for every fold, for nnU-Net makes a random one otherwise, and all for a cascade."""
    splits = preprocessed(dataset) / SPLITS
    n_folds = len(load_json(str(splits))) if splits.exists() else N_FOLDS
    if (most := max(study.folds)) >= n_folds:
        there = list(range(n_folds))
        raise ValueError(f"{study.file}: folds: {dataset} has no fold {most}, but {there}; say folds: {there}")
    for network in study.networks:
        plans = plans_file(dataset, network.plans)
        cascaded = plans.exists() and any(first_stage(plans, name) for name in study.configurations)
        if cascaded and len(study.folds) < n_folds:
            raise ValueError(f"{study.file}: folds: a cascade needs all {n_folds} of its first stage; name all of them")


def check_test_set(study: Study, dataset: str) -> None:
    """Check that the test cases are there, where they are to be looked at.

    Raises:
        ValueError: if they are not.
    """
    if study.test:
        try:
            held_out(dataset, study.test, study.folds)
        except ValueError as error:
            raise ValueError(f"{study.file}: test: {error}") from error


def check_results(job: Job) -> None:
    """Check that results that are there were made with the plans, and of the cases, that there are now.

    Raises:
        ValueError: if they were made with others.
    """
    plans, remedy = plans_file(job.dataset, job.network.plans), f"move {job.folder} away"
    if not plans.exists():
        return
    if has_begun(job):
        now, then = (load_json(str(file)) for file in (plans, job.model / "plans.json"))
        if relevant(then, job) != relevant(now, job):
            raise ValueError(
                f"{job.title} was trained with another {job.network.plans}; {remedy}, or name the new plans otherwise"
            )
    if job.is_finished():
        summary = load_json(str(job.predicted / "summary.json"))
        ending = load_json(str(job.model / "dataset.json"))["file_ending"]
        cases = {Path(case["prediction_file"]).name.removesuffix(ending) for case in summary["metric_per_case"]}
        if others := cases ^ set(job.cases()):
            what = "predicted another test set" if job.part == "test" else "was validated on another split"
            raise ValueError(f"{job.title} {what} ({min(others)}); {remedy}")
    if isinstance(job, Training) and job.is_finished():
        n_cases = len(load_json(str(preprocessed(job.dataset) / SPLITS))[job.fold]["train"])
        for n in job.trained_on() - {n_cases}:  # test cases among them, perhaps
            raise ValueError(f"{job.title} was trained on {n} cases, of which its split has {n_cases}; {remedy}")


def has_begun(job: Job) -> bool:
    """Whether a training has left anything to go on from."""
    return any(job.folder.glob("checkpoint_*.pth"))


def relevant(plans: dict[str, Any], job: Job) -> dict[str, Any]:
    """What of plans decides a training."""
    configuration: dict[str, Any] = PlansManager(plans).get_configuration(job.configuration).configuration
    # where preprocessed data lies may change, and nnU-Net notes whether it went on; earlier plans have no budget
    return {key: value for key, value in configuration.items() if key not in ("data_identifier", BUDGET)} | {
        key: plans.get(key) for key in ("transpose_forward", "foreground_intensity_properties_per_channel")
    }

"""What a study came to: every case of validation and test measured, every network's size and time, as tables."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.configuration import default_num_processes
from nnunetv2.evaluation.evaluate_predictions import region_or_label_to_mask
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray
from tqdm import tqdm

from nnunet_archs.files import write_whole
from nnunet_archs.instances import decode, is_encoded, object_scores
from nnunet_archs.measure.coco import COCO_METRICS, HAS_COCO, coco_metrics
from nnunet_archs.measure.counts import count
from nnunet_archs.measure.instances import instance_metrics
from nnunet_archs.measure.memory import GIB
from nnunet_archs.nnunet.commands import last_line
from nnunet_archs.nnunet.images import Array, read_foreground, read_labels
from nnunet_archs.nnunet.plans import BUDGET
from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.memory import expected_memory
from nnunet_archs.trainers.registry import resolve

from .definition import Study
from .job import Job
from .jobs import Training, jobs_of, kind_of
from .metrics import COUNTS, METRICS, OBJECT_METRICS, background_iou, case_metrics
from .preparation import check_results

Mask: TypeAlias = NDArray[np.bool_]

COSTS = ("parameters", "multiply_adds", "memory_gib")
LIBRARIES = ("nnunet-archs", "nnunetv2", "torch", "surface-distance", "scipy", "numpy", "SimpleITK")


def collect(study: Study, command: Sequence[str]) -> list[Job]:
    """Measure what is finished and not measured yet, and write the study's tables; return what is measured.

    Raises:
        ValueError: if nothing is trained, or what is there is not what nnU-Net wrote for these plans and splits.
    """
    jobs = jobs_of(study)
    finished = [job for job in jobs if job.is_finished()]
    if not any(isinstance(job, Training) for job in finished):
        raise ValueError(f"{study.file}: no training has finished; first run: nnunet-archs study run {study.file}")
    for job in finished:
        check_results(job)
        check_files(job)
    todo = [job for job in finished if read_measured(study, job) is None]
    measured_now = measure_all(study, todo)
    for job, measured in tqdm(measured_now, desc="Measuring", unit="job", total=len(todo), disable=None):
        write_whole(measured_file(study, job), json.dumps(measured))
    measured = {job: read_measured(study, job) or {} for job in finished}
    rows = [{**names_of(job), **row} for job in finished for row in measured[job]["cases"]]
    write_whole(study.folder / "cases.csv", pandas.DataFrame(rows).to_csv(index=False))
    write_whole(study.folder / "networks.json", json.dumps(list(describe_networks(study, measured)), indent=1))
    write_whole(study.folder / "study.json", json.dumps(describe_study(study, jobs, command), indent=1))
    return finished


def names_of(job: Job) -> dict[str, Any]:
    """The columns that say what a row is of: which network predicted which part of the data set, by which fold."""
    return {
        "dataset": job.dataset,
        "configuration": job.configuration,
        "network": job.network.name,
        "part": job.part,
        "fold": job.by,
    }


def check_files(job: Job) -> None:
    """Check that a folder has a prediction of every case of its split or test set, and no other.

    Raises:
        ValueError: if it has not.
    """
    ending = load_json(str(job.model / "dataset.json"))["file_ending"]
    folder = job.predicted
    there = {file.name.removesuffix(ending) for file in folder.iterdir() if file.name.endswith(ending)}
    expected = set(job.cases())
    if missing := sorted(expected - there):
        raise ValueError(f"{folder} lacks {len(missing)} of {len(expected)} cases ({missing[0]}, ...); {job.anew}")
    if extra := sorted(there - expected):
        raise ValueError(f"{folder} has {extra[0]}, which is not a case of {job.title}; take it out")


def measured_file(study: Study, job: Job) -> Path:
    """Where what was measured of a job is kept."""
    return study.folder / "measured" / f"{job.name}.json"


def read_measured(study: Study, job: Job) -> dict[str, Any] | None:
    """What was measured of a job; None where it was not, or not of what is there now."""
    try:
        measured: dict[str, Any] = json.loads(measured_file(study, job).read_text())
    except (OSError, ValueError):
        return None
    return measured if measured.get("of") == state_of(job, study.tolerance) else None


def state_of(job: Job, tolerance: float) -> dict[str, Any]:
    """What measurements depend on."""
    dataset_json, cases = load_json(str(job.model / "dataset.json")), set(job.cases())
    ending = dataset_json["file_ending"]
    references = (file for file in job.references.glob("*") if file.name.removesuffix(ending) in cases)
    files = sorted([*job.checkpoints, *job.predicted.iterdir(), *references])
    times = {f"{file.parent.name}/{file.name}": file.stat().st_mtime for file in files}
    library = version("surface-distance")
    # pycocotools may have been installed meanwhile
    objects = [*OBJECT_METRICS, HAS_COCO] if is_encoded(dataset_json) else []
    columns = [*METRICS, *COUNTS, *objects]
    return {"tolerance": tolerance, "library": library, "columns": columns, "files": times}


def measure_all(study: Study, jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
    """What is measured of every job, in as many processes as nnU-Net may have and cores are."""
    processes = min(len(jobs), default_num_processes, os.cpu_count() or 1)
    run = partial(measure, tolerance=study.tolerance)
    if processes <= 1:
        yield from zip(jobs, map(run, jobs), strict=True)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        try:
            yield from zip(jobs, pool.map(run, jobs), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def measure(job: Job, *, tolerance: float) -> dict[str, Any]:
    """Every case's metrics of a job, and how a training went."""
    summary = load_json(str(job.predicted / "summary.json"))
    counted = {Path(case["prediction_file"]).name: case["metrics"] for case in summary["metric_per_case"]}
    return {
        "of": state_of(job, tolerance),
        "cases": [row for case in job.cases() for row in measure_case(job, case, counted, tolerance)],
        "training": read_training(job) if isinstance(job, Training) else None,
    }


def measure_case(job: Job, case: str, counted: Mapping[str, Any], tolerance: float) -> list[dict[str, Any]]:
    """A row for every label or region of a case, of which nnU-Net `counted` the voxels when it evaluated.

    Raises:
        ValueError: if its files cannot be read, do not fit, or are not those that nnU-Net wrote.
    """
    dataset_json = load_json(str(job.model / "dataset.json"))
    plans = PlansManager(load_json(str(job.model / "plans.json")))
    reader, labels = plans.image_reader_writer_class(), plans.get_label_manager(dataset_json)
    file = f"{case}{dataset_json['file_ending']}"
    predicted = job.predicted / file
    reference, _ = read_labels(reader, job.references / file)
    try:
        prediction, spacing = read_labels(reader, predicted)  # nnU-Net writes it complete; the reference may lack it
        ignored = reference == labels.ignore_label if labels.has_ignore_label else None
        entries, rows = compared(dataset_json), []
        for name, label in entries.items():
            masks = masks_of(label, reference, prediction)
            values = case_metrics(*masks, spacing, tolerance=tolerance, ignored=ignored)
            check_counts(name, values, counted[file][str(label)])
            rows.append({"case": case, "label": name, **values})
        if is_encoded(dataset_json):
            likely = read_foreground(job.predicted / f"{case}.npz", prediction) if HAS_COCO else None
            measured = object_metrics(reference, prediction, spacing, tolerance, likely)
            return [{"case": case, "label": "objects", **measured}]
        foreground = masks_of(values_of(entries.values()), reference, prediction)
        background = background_iou(*foreground, ignored)
        return [{**row, "background_iou": background} for row in rows]
    except ValueError as error:
        raise ValueError(f"{predicted}: {error}; {job.anew}") from error


def object_metrics(
    reference: Array, prediction: Array, spacing: Sequence[float], tolerance: float, foreground: Array | None = None
) -> dict[str, float]:
    """The metrics of objects, and those of all of their voxels together, of cores and borders.

    COCO's are NaN without the predicted probability of `foreground`, of which objects have their scores.
    """
    masks = reference > 0, prediction > 0
    truth, found = (decode(labels, spacing) for labels in (reference, prediction))
    scored = dict.fromkeys(COCO_METRICS, math.nan)
    if foreground is not None:
        scored = coco_metrics(truth, found, object_scores(found, foreground))
    return {
        **case_metrics(*masks, spacing, tolerance=tolerance),
        "background_iou": background_iou(*masks, None),
        **instance_metrics(truth, found),
        **scored,
    }


def masks_of(label: int | tuple[int, ...], reference: Array, prediction: Array) -> tuple[Mask, Mask]:
    """Where both have a label or region."""
    return region_or_label_to_mask(reference, label), region_or_label_to_mask(prediction, label)


def values_of(entries: Iterable[int | tuple[int, ...]]) -> tuple[int, ...]:
    """All values of label maps that belong to a label or region."""
    return tuple({value for entry in entries for value in (entry if isinstance(entry, tuple) else (entry,))})


def check_counts(name: str, values: Mapping[str, float], theirs: Mapping[str, float]) -> None:
    """Check that these are the files that nnU-Net evaluated: some readers take half a file for one full of zeros.

    Raises:
        ValueError: if voxels of a label are not as many.
    """
    for whose, key in (("prediction", "n_pred"), ("reference", "n_ref")):
        if values[f"{whose}_voxels"] != theirs[key]:
            raise ValueError(
                f"{name} has {values[f'{whose}_voxels']} voxels in the {whose}, where nnU-Net counted {theirs[key]}"
            )


def compared(dataset_json: Mapping[str, Any]) -> dict[str, int | tuple[int, ...]]:
    """The labels or regions by name, without background and ignore label."""
    entries = {name: entry for name, entry in dataset_json["labels"].items() if name != "ignore"}
    found = {name: tuple(entry) if isinstance(entry, list) else entry for name, entry in entries.items()}
    return {name: entry for name, entry in found.items() if entry not in (0, (0,))}


def read_training(job: Training) -> dict[str, Any]:
    """Seconds, losses and nnU-Net's pseudo Dice of every epoch, from what the checkpoint logged."""
    file = job.folder / "checkpoint_final.pth"
    try:
        log = torch.load(file, map_location="cpu", weights_only=False, mmap=True)["logging"]
    # what a broken file makes torch's reader raise is of any type
    except Exception as error:
        raise ValueError(f"{file} cannot be read ({error}); take the fold's folder away, and train it again") from error
    times = zip(log["epoch_start_timestamps"], log["epoch_end_timestamps"], strict=False)
    curves = {"train_loss": "train_losses", "val_loss": "val_losses", "pseudo_dice": "mean_fg_dice"}
    return {
        "training_seconds": float(sum(end - start for start, end in times)),
        **{name: [float(value) for value in log[key]] for name, key in curves.items()},
    }


def describe_networks(study: Study, measured: Mapping[Job, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What every network of every configuration is, takes and took."""
    groups: dict[object, list[Training]] = {}
    for job in measured:
        if isinstance(job, Training):
            groups.setdefault(kind_of(job), []).append(job)
    for jobs in tqdm(groups.values(), desc="Counting", unit="network", disable=None, leave=False):
        job = jobs[0]
        folds = {job.by: measured[job]["training"] for job in jobs}
        names = {key: value for key, value in names_of(job).items() if key not in ("part", "fold")}
        epochs = max(len(fold["train_loss"]) for fold in folds.values())
        yield {
            **names,
            "trainer": job.network.trainer,
            "plans": job.network.plans,
            **sizes(job),
            "epochs": epochs,
            "folds": folds,
        }


def sizes(job: Job) -> dict[str, Any]:
    """What a network is and takes at its plans."""
    dataset_json = load_json(str(job.model / "dataset.json"))
    plans = PlansManager(load_json(str(job.model / "plans.json")))
    configuration = plans.get_configuration(job.configuration)
    sizes: dict[str, Any] = {
        "patch_size": list(configuration.patch_size),
        "batch_size": configuration.batch_size,
        "features": configuration.network_arch_init_kwargs.get("features_per_stage"),
        "budget": configuration.configuration.get(BUDGET),
    }
    try:
        return sizes | count_costs(job, plans, configuration, dataset_json)
    # a network of somebody else's may not run without values, and fails as it likes
    except Exception as error:
        print(f"{job.network.name} cannot be counted: {error!r}")
        return sizes | dict.fromkeys(COSTS)


def count_costs(
    job: Job, plans: PlansManager, configuration: ConfigurationManager, dataset_json: dict[str, Any]
) -> dict[str, Any]:
    """Parameters, multiply-adds of a patch, and the peak memory of a training step, which is known of our trainers."""
    channels = determine_num_input_channels(plans, configuration, dataset_json)
    heads = plans.get_label_manager(dataset_json).num_segmentation_heads
    trainer = resolve(job.network.trainer)
    build = partial(
        trainer.build_network_architecture, plans, configuration, channels, heads, enable_deep_supervision=False
    )
    try:
        counts = count(build, (1, channels, *configuration.patch_size))
    except ValueError as error:  # what it computes depends on the image
        print(f"{job.network.name}: {error}")
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in build().parameters())
        return dict(zip(COSTS, (size, None, None), strict=True))
    memory = None
    if issubclass(trainer, PaperTrainer):
        half = job.device == "cuda"
        memory = expected_memory(trainer, plans, configuration, dataset_json, half=half).peak / GIB
    return dict(zip(COSTS, (counts.parameters, counts.multiply_adds, memory), strict=True))


def describe_study(study: Study, jobs: Iterable[Job], command: Sequence[str]) -> dict[str, Any]:
    """What was asked for, by which versions it was done, and what is missing."""
    return {
        "name": study.file.stem,
        "baseline": study.baseline,
        "networks": [network.name for network in study.networks],
        "datasets": list(study.datasets),
        "configurations": list(study.configurations),
        "folds": list(study.folds),
        "test": study.test,
        "tolerance_mm": study.tolerance,
        "file": study.text,
        "command": shlex.join(["nnunet-archs", *command]),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"Python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        "machine": machine(study),
        "missing": [{**names_of(job), "why": why_missing(job)} for job in jobs if not job.is_finished()],
    }


def machine(study: Study) -> str:
    """What this is measured on: the GPU, or the processor."""
    if study.device == "cuda" and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {platform.system()}"
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"


def why_missing(job: Job) -> str:
    """Why a job is not in the tables."""
    state = job.state()
    return last_line(job.failure) if state == "failed" else state

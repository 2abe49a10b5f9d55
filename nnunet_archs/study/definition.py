"""The study file: which networks are trained on what, how long, and by what."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch

from nnunet_archs.nnunet.datasets import FOLDERS, check_folders, dataset_json_files, dataset_name
from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.registry import resolve

from .document import Document, Place

Device = Literal["cuda", "cpu", "mps"]
TestSource = Literal["imagesTs", "splits"]
KEYS = (
    "datasets",
    "configurations",
    "trainers",
    "plans",
    "baseline",
    "folds",
    "test",
    "epochs",
    "iterations",
    "planning",
    "tolerance",
    "device",
    "executor",
)
N_FOLDS = 5  # that nnU-Net makes
CLUSTER_JOBS = 20  # queued at once
TOLERANCE = 1.0  # mm


@dataclass(frozen=True)
class Network:
    """What is compared: a trainer with its plans, under a name of its own."""

    name: str
    trainer: str
    plans: str


@dataclass(frozen=True)
class Planning:
    """How plans that are missing are made, as `nnunet-archs plan` takes it; None is its default."""

    gpu_memory: float | None = None
    base_width: int | None = None


@dataclass(frozen=True)
class Executor:
    """What runs the trainings: this machine, one on each of its GPUs (or `jobs` on a CPU), or a cluster by submitit.

    `parameters` are those of submitit's executor.
    """

    kind: Literal["local", "submitit"] = "local"
    gpus: tuple[int, ...] = ()
    jobs: int = 1
    cluster: str = "slurm"
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A study file, checked."""

    file: Path
    text: str
    datasets: tuple[str, ...]
    configurations: tuple[str, ...]
    networks: tuple[Network, ...]
    baseline: str | None
    folds: tuple[int, ...]
    test: TestSource | None  # where the test cases are, if they are to be looked at
    planning: Planning
    tolerance: float
    device: Device
    executor: Executor

    @property
    def folder(self) -> Path:
        """Where logs, tables and the report go: beside the file, under its name."""
        return self.file.with_suffix("")


def read_study(file: Path) -> Study:
    """Read a study file.

    Raises:
        ValueError: for what cannot be run, with the line that says it.
    """
    check_folders(*FOLDERS)
    file = file.resolve()
    if not file.suffix:
        raise ValueError(f"{file}: the study's folder is the file's name without its ending; name it {file.name}.yaml")
    document = Document.read(file)
    content = document.mapping((), KEYS)
    if missing := [key for key in ("datasets", "configurations", "trainers") if content.get(key) is None]:
        raise document.error((), f"{missing[0]} is missing; say it, as in docs/studies.md")
    networks = read_networks(document)
    executor = read_executor(document)
    return Study(
        file=file,
        text=document.text,
        datasets=read_datasets(document),
        configurations=read_configurations(document),
        networks=networks,
        baseline=read_baseline(document, networks),
        folds=read_folds(document),
        test=read_test(document),
        planning=read_planning(document),
        tolerance=document.typed(("tolerance",), float, TOLERANCE),
        device=read_device(document, executor),
        executor=executor,
    )


def read_datasets(document: Document) -> tuple[str, ...]:
    """The names of the data sets, from their IDs or names."""
    found: dict[str, Place] = {}
    for place, value in document.items(("datasets",)):
        name = read_dataset(document, place, value)
        if name in found:
            raise document.error(place, f"{name} is here twice; keep one of them")
        found[name] = place
    return tuple(found)


def read_dataset(document: Document, place: Place, value: Any) -> str:
    """The name of a data set, whose ID nnU-Net's commands take."""
    match = re.fullmatch(r"(?:Dataset)?(\d+)(_.*)?", str(value))
    if not isinstance(value, (int, str)) or match is None:
        raise document.error(place, f"{value!r} is not a data set; give an ID or a name, as Dataset004_Hippocampus")
    try:
        name = dataset_name(int(match[1]))
    except ValueError as error:
        raise document.error(place, str(error)) from error
    if match[2] and name != value:
        raise document.error(place, f"nnU-Net finds no data set {value}, but {name}; correct it")
    if not dataset_json_files(name):
        raise document.error(place, f"{name} has no dataset.json in nnUNet_raw or nnUNet_preprocessed; put it there")
    return name


def read_configurations(document: Document) -> tuple[str, ...]:
    """The configurations, of which the plans tell whether they have them."""
    found = []
    for place, value in document.items(("configurations",)):
        if not isinstance(value, str):
            raise document.error(place, f"{value!r} is not a configuration; name some, as 2d or 3d_fullres")
        check_word(document, place, value)
        found.append(value)
    return tuple(found)


def read_networks(document: Document) -> tuple[Network, ...]:
    """The trainers, with the study's length in their names, and their plans."""
    plans = document.typed(("plans",), str, "nnUNetPlans")
    networks: dict[str, Network] = {}
    for place, value in document.items(("trainers",)):
        if isinstance(value, dict):
            document.mapping(place, ("trainer", "plans", "name"))
            trainer = document.typed((*place, "trainer"), str, "")
            own = document.typed((*place, "plans"), str, plans)
            name = document.typed((*place, "name"), str, short(trainer))
        elif isinstance(value, str):
            trainer, own, name = value, plans, short(value)
        else:
            raise document.error(place, f"a trainer is its name, or trainer, plans and name, and not {value!r}")
        check_word(document, place, own)
        network = Network(name, with_length(document, place, trainer), own)
        if name in networks:
            raise document.error(place, f"two networks are called {name}; give one of them a name of its own")
        if same := [n.name for n in networks.values() if (n.trainer, n.plans) == (network.trainer, network.plans)]:
            raise document.error(place, f"{name} has trainer and plans of {same[0]}; keep one of them")
        networks[name] = network
    return tuple(networks.values())


def short(trainer: str) -> str:
    """The name of a trainer's network: the trainer's without its second word."""
    return trainer.replace("Trainer", "", 1)


def check_word(document: Document, place: Place, word: str) -> None:
    """Check that nnU-Net can take its folder names apart again."""
    if not re.fullmatch(r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*", word):
        raise document.error(place, f"{word}: a name has letters, digits, hyphens and single underscores; change it")


def with_length(document: Document, place: Place, trainer: str) -> str:
    """The trainer's name with the study's epochs and iterations."""
    lengths = {key: document.typed((key,), int, 0) for key in ("epochs", "iterations")}
    name = "_".join([trainer, *(f"{n}{key}" for key, n in lengths.items() if n)])
    try:
        if name != trainer and not issubclass(resolve(trainer), PaperTrainer):
            raise ValueError(
                f"{trainer} takes no epochs or iterations from the study; name one of that length "
                "(nnUNetTrainer_5epochs), and leave both out"
            )
        resolve(name)
    except ValueError as error:
        raise document.error(place, str(error)) from error
    return name


def read_baseline(document: Document, networks: tuple[Network, ...]) -> str | None:
    """The network that others are compared with; None compares all pairs."""
    baseline = document.typed(("baseline",), str, "")
    names = [network.name for network in networks]
    if not baseline:
        return None
    # its name, else its trainer's with or without the length, else without all options
    ways = (
        [network.name for network in networks],
        [network.trainer for network in networks],
        [re.sub(r"(_\d+(epochs|iterations))+$", "", network.trainer) for network in networks],
        [network.trainer.split("_")[0] for network in networks],
    )
    of = next((way for way in ways if baseline in way), [])
    if of.count(baseline) != 1:
        what = f"baseline {baseline} is {'several' if of else 'none'} of the networks"
        raise document.error(("baseline",), f"{what}; name one of {', '.join(names)}")
    return names[of.index(baseline)]


def read_folds(document: Document) -> tuple[int, ...]:
    """The folds, of nnU-Net's five or of the data set's own splits."""
    if document.at(("folds",)) is None:
        return tuple(range(N_FOLDS))
    for place, value in document.items(("folds",)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise document.error(place, f"fold {value} is not a fold; folds are counted from 0")
    return tuple(sorted(value for _, value in document.items(("folds",))))


def read_test(document: Document) -> TestSource | None:
    """Where the held-out test cases are; None, unless asked for: nobody looks at a test set by accident."""
    test = document.typed(("test",), str, "")
    if not test:
        return None
    if test not in get_args(TestSource):
        known = "imagesTs (with labelsTs), splits (the test part of splits_final.json)"
        raise document.error(("test",), f"test {test} is unknown; there are {known}")
    return cast(TestSource, test)


def read_planning(document: Document) -> Planning:
    """How missing plans are made."""
    if document.at(("planning",)) is None:
        return Planning()
    document.mapping(("planning",), ("gpu_memory", "base_width"))
    # None stands for the planner's own choice
    return Planning(
        gpu_memory=document.typed(("planning", "gpu_memory"), float, 0.0) or None,
        base_width=document.typed(("planning", "base_width"), int, 0) or None,
    )


def read_executor(document: Document) -> Executor:
    """What runs the trainings; a word alone is its kind."""
    place: Place = ("executor",)
    value = document.at(place)
    if value is None:
        return Executor()
    kind = value if isinstance(value, str) else document.typed((*place, "kind"), str, "")
    keys = {"local": ("kind", "gpus", "jobs"), "submitit": ("kind", "cluster", "jobs", "parameters")}
    if kind not in keys:
        raise document.error(place, f"executor {kind or value} is unknown; there are {', '.join(keys)}")
    if kind == value == "local":
        return Executor()
    document.mapping(place, keys[kind])
    gpus = [] if value.get("gpus") is None else document.items((*place, "gpus"))
    for where, gpu in gpus:
        if not isinstance(gpu, int) or isinstance(gpu, bool) or gpu < 0:
            raise document.error(where, f"GPU {gpu} is not a GPU; GPUs are counted from 0")
    parameters = document.typed((*place, "parameters"), dict, {})
    cluster = document.typed((*place, "cluster"), str, "slurm")
    if kind == "submitit" and cluster != "local" and "timeout_min" not in parameters:
        what = "parameters need timeout_min, for submitit's own is 5 minutes, and a GPU (gpus_per_node)"
        raise document.error((*place, "parameters"), f"{what}; say both, as docs/studies.md does")
    return Executor(
        kind=cast(Any, kind),
        gpus=tuple(gpu for _, gpu in gpus),
        jobs=document.typed((*place, "jobs"), int, 1 if kind == "local" else CLUSTER_JOBS),
        cluster=cluster,
        parameters=parameters,
    )


def read_device(document: Document, executor: Executor) -> Device:
    """What nnU-Net trains on: CUDA where there is one, or on a cluster, whose front end may have none."""
    there = executor.kind == "submitit" or torch.cuda.is_available()
    device = document.typed(("device",), str, "cuda" if there else "cpu")
    if device not in get_args(Device):
        raise document.error(("device",), f"unknown device {device}; there are {', '.join(get_args(Device))}")
    return cast(Device, device)

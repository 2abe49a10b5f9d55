"""The trainings of a study, and how far each of them is, read from nnU-Net's results folder alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results

from .commands import going_on, is_trained
from .definition import Configuration, Device, Network, Study
from .train import holder

State = Literal["finished", "running", "failed", "cut off", "waiting"]


@dataclass(frozen=True)
class Job:
    """A fold of a network's configuration on a data set."""

    dataset: str
    configuration: Configuration
    network: Network
    fold: int
    device: Device
    log_folder: Path

    @property
    def model(self) -> Path:
        """nnU-Net's results folder of all folds."""
        name = f"{self.network.trainer}__{self.network.plans}__{self.configuration}"
        return Path(str(nnUNet_results), self.dataset, name)

    @property
    def folder(self) -> Path:
        """nnU-Net's results folder of the fold."""
        return self.model / f"fold_{self.fold}"

    @property
    def name(self) -> str:
        """A name for its files: nnU-Net's folder names, joined."""
        return f"{self.dataset}__{self.model.name}__fold_{self.fold}"

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.dataset} {self.configuration} {self.network.name} fold {self.fold}"

    @property
    def lock(self) -> Path:
        """Held while it is trained: beside the results, so that every study and every machine sees it."""
        return self.model / f"fold_{self.fold}.lock"

    @property
    def log(self) -> Path:
        """What the commands printed."""
        return self.log_folder / f"{self.name}.log"

    @property
    def failure(self) -> Path:
        """Why the last try failed; not there where it did not."""
        return self.log.with_suffix(".failed")

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `nnUNetv2_train` is given now."""
        number = str(int(self.dataset.removeprefix("Dataset")[:3]))
        model = ("-tr", self.network.trainer, "-p", self.network.plans, "-device", self.device)
        return (number, self.configuration, str(self.fold), *model, *going_on(self.folder))

    def state(self) -> State:
        """How far it is."""
        if is_trained(self.folder):
            return "finished"
        if holder(self.lock) is not None:
            return "running"
        if self.failure.exists():
            return "failed"
        return "cut off" if any(self.folder.glob("training_log_*.txt")) else "waiting"

    def epoch(self) -> int | None:
        """The epoch that nnU-Net's newest log names."""
        logs = sorted(self.folder.glob("training_log_*.txt"))
        epochs = re.findall(r"Epoch (\d+) *$", logs[-1].read_text(errors="replace"), re.MULTILINE) if logs else []
        return int(epochs[-1]) if epochs else None

    def seconds(self) -> float:
        """How long it was trained and validated so far, in all tries: from nnU-Net's logs, their names and ends."""
        total = 0.0
        for log in self.folder.glob("training_log_*.txt"):
            parts = [int(part) for part in log.stem.removeprefix("training_log_").split("_")]
            begun = datetime(*parts).timestamp()  # type: ignore[arg-type]
            total += max(0.0, log.stat().st_mtime - begun)
        return total

    def needs(self) -> list[Job]:
        """What has to be finished before: all folds of 3d_lowres for a cascade."""
        if self.configuration != "3d_cascade_fullres":
            return []
        n_folds = 5  # nnU-Net predicts every case by the fold that did not see it
        return [replace(self, configuration="3d_lowres", fold=fold) for fold in range(n_folds)]


def jobs_of(study: Study) -> list[Job]:
    """All trainings of a study, in the order in which they are begun: a fold of every network before the next fold."""
    return list(_jobs_of(study))


def _jobs_of(study: Study) -> Iterator[Job]:
    for dataset in study.datasets:
        for configuration in study.configurations:
            for fold in study.folds:
                for network in study.networks:
                    yield Job(dataset, configuration, network, fold, study.device, study.folder / "logs")


def preprocessed(dataset: str) -> Path:
    """nnU-Net's folder of a data set's plans, splits and preprocessed data."""
    return Path(str(nnUNet_preprocessed), dataset)


def seconds_left(jobs: list[Job], states: dict[Job, State], at_once: int) -> float | None:
    """An estimate: what finished jobs of the same network and configuration took, else what all took on average."""
    took: dict[tuple[str, str, Network], list[float]] = {}
    for job in jobs:
        if states[job] == "finished" and (seconds := job.seconds()):
            took.setdefault(kind_of(job), []).append(seconds)
    if not took:
        return None
    everything = [seconds for some in took.values() for seconds in some]
    left = 0.0
    for job in jobs:
        if states[job] == "finished":
            continue
        known = took.get(kind_of(job), everything)
        left += max(0.0, sum(known) / len(known) - (job.seconds() if states[job] == "running" else 0.0))
    return left / at_once


def kind_of(job: Job) -> tuple[str, str, Network]:
    """What jobs that take equally long have in common."""
    return job.dataset, job.configuration, job.network

"""The trainings of a study, and how far each of them is, read from nnU-Net's results folder alone."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Literal

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.nnunet.commands import going_on, is_trained
from nnunet_archs.nnunet.datasets import dataset_id
from nnunet_archs.nnunet.plans import plans_file

from .definition import Device, Network, Study
from .locks import held_since, is_held

SPLITS = "splits_final.json"
TRAINING_LOG = re.compile(r"training_log(_\d+){6}\.txt")
State = Literal["finished", "running", "failed", "cut off", "waiting"]


@dataclass(frozen=True)
class Job:
    """A fold of a network's configuration on a data set."""

    dataset: str
    configuration: str
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
        """What `nnUNetv2_train` is given, but for how it goes on."""
        number = dataset_id(self.dataset)
        model = ("-tr", self.network.trainer, "-p", self.network.plans, "-device", self.device)
        return (number, self.configuration, str(self.fold), *model)

    @property
    def command(self) -> str:
        """What a person would type to go on with it now."""
        return " ".join(["nnUNetv2_train", *self.arguments, *going_on(self.folder)])

    @property
    def training_logs(self) -> list[Path]:
        """nnU-Net's logs of all tries, the newest last."""
        logs = (log for log in self.folder.glob("training_log_*.txt") if TRAINING_LOG.fullmatch(log.name))
        return sorted(logs, key=lambda log: log.stat().st_mtime)

    def state(self) -> State:
        """How far it is."""
        if is_trained(self.folder):
            return "finished"
        if is_held(self.lock):
            return "running"
        if self.failure.exists():
            return "failed"
        return "cut off" if self.training_logs else "waiting"

    def epoch(self) -> int | None:
        """The epoch that nnU-Net's newest log names."""
        logs = self.training_logs
        epochs = re.findall(r"Epoch (\d+) *$", logs[-1].read_text(errors="replace"), re.MULTILINE) if logs else []
        return int(epochs[-1]) if epochs else None

    def seconds(self) -> float:
        """How long all tries took so far: from nnU-Net's logs, their names and ends.

        Of the last of them also its start-up, from when the lock was taken, and all of its validation.
        """
        tries = [(begun(log), log.stat().st_mtime) for log in self.training_logs]
        summary, since = self.folder / "validation" / "summary.json", held_since(self.lock)
        if tries and summary.exists():
            tries[-1] = (tries[-1][0], max(tries[-1][1], summary.stat().st_mtime))
        earlier = max((end for _, end in tries[:-1]), default=0.0)
        if tries and since is not None and earlier <= since < tries[-1][0]:  # not of a try by hand, without the lock
            tries[-1] = (since, tries[-1][1])
        return sum(max(0.0, end - start) for start, end in tries)

    def needs(self) -> list[Job]:
        """What has to be finished before: all folds of what a cascade begins with, for it sees their predictions."""
        first = previous_stage(plans_file(self.dataset, self.network.plans), self.configuration)
        if first is None:
            return []
        n_folds = len(load_json(str(preprocessed(self.dataset) / SPLITS)))
        return [replace(self, configuration=first, fold=fold) for fold in range(n_folds)]


def begun(log: Path) -> float:
    """When a training began, by the name of nnU-Net's log."""
    return datetime.strptime(log.stem, "training_log_%Y_%m_%d_%H_%M_%S").timestamp()


@cache
def previous_stage(plans: Path, configuration: str) -> str | None:
    """The configuration that a cascade's second stage begins with."""
    name: str | None = PlansManager(str(plans)).get_configuration(configuration).previous_stage_name
    return name


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
    """An estimate: what finished jobs of the same network and configuration took, else what all took on average.

    So many at once, each begun when one has ended.
    """
    took: dict[tuple[str, str, Network], list[float]] = {}
    for job in jobs:
        if states[job] == "finished" and (seconds := job.seconds()):
            took.setdefault(kind_of(job), []).append(seconds)
    if not took:
        return None
    everything = [seconds for some in took.values() for seconds in some]
    free = [0.0] * at_once  # when each place is
    for job in sorted(jobs, key=lambda job: states[job] != "running"):
        if states[job] != "finished":
            known = took.get(kind_of(job), everything)
            done = job.seconds() if states[job] == "running" else 0.0
            heapq.heappush(free, heapq.heappop(free) + max(0.0, sum(known) / len(known) - done))
    return max(free)


def kind_of(job: Job) -> tuple[str, str, Network]:
    """What jobs that take equally long have in common."""
    return job.dataset, job.configuration, job.network

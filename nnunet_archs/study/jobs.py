"""What a study runs, trainings and predictions of the test set, and how far each is, read from nnU-Net's results."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.instances import is_encoded
from nnunet_archs.nnunet.commands import going_on, is_evaluated, is_trained, without_workers
from nnunet_archs.nnunet.datasets import SPLITS, dataset_id, dataset_json_files, preprocessed, read_dataset_json
from nnunet_archs.nnunet.plans import plans_file

from .definition import Device, Network, Study, TestSource
from .held_out import HeldOut, held_out, training_images
from .job import Job, Part, State
from .locks import held_since

TRAINING_LOG = re.compile(r"training_log(_\d+){6}\.txt")


@dataclass(frozen=True)
class Training(Job):
    """A fold's training, with its validation."""

    fold: int

    module = "nnunet_archs.study.train"
    part = "validation"

    @property
    def folds(self) -> tuple[int, ...]:
        """Its own."""
        return (self.fold,)

    @property
    def folder(self) -> Path:
        """nnU-Net's results folder of the fold."""
        return self.model / f"fold_{self.fold}"

    @property
    def predicted(self) -> Path:
        """nnU-Net's validation folder."""
        return self.folder / "validation"

    @property
    def references(self) -> Path:
        """nnU-Net's copy of the training labels."""
        return preprocessed(self.dataset) / "gt_segmentations"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `nnUNetv2_train` is given, but for how it goes on."""
        number = dataset_id(self.dataset)
        model = ("-tr", self.network.trainer, "-p", self.network.plans, "-device", self.device)
        scored = ("--npz",) if tells_apart(self.dataset) else ()
        return (number, self.configuration, str(self.fold), *model, *scored)

    @property
    def command(self) -> str:
        """nnU-Net's training, from where it stands."""
        return " ".join(["nnUNetv2_train", *self.arguments, *going_on(self.folder)])

    @property
    def anew(self) -> str:
        """nnU-Net's training, which only validates what is trained."""
        return f"{self.command} predicts it again"

    @property
    def training_logs(self) -> list[Path]:
        """nnU-Net's logs of all tries, the newest last."""
        logs = (log for log in self.folder.glob("training_log_*.txt") if TRAINING_LOG.fullmatch(log.name))
        return sorted(logs, key=lambda log: log.stat().st_mtime)

    def cases(self) -> list[str]:
        """The cases that the fold leaves out."""
        return list(load_json(str(preprocessed(self.dataset) / SPLITS))[self.fold]["val"])

    def trained_on(self) -> set[int]:
        """On how many cases it was trained, as nnU-Net's logs of all tries say it."""
        logs = (log.read_text(errors="replace") for log in self.training_logs)
        return {int(n) for log in logs for n in re.findall(r"This split has (\d+) training", log)}

    def images(self) -> dict[str, list[str]] | None:
        """Those of the raw data's training cases."""
        return training_images(self.dataset)

    def is_finished(self) -> bool:
        """Whether it is trained and validated."""
        return is_trained(self.folder)

    def was_begun(self) -> bool:
        """Whether there is a log of a try."""
        return bool(self.training_logs)

    def progress(self) -> str:
        """Its epoch."""
        epoch = self.epoch()
        return "" if epoch is None else f"epoch {epoch}"

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
        summary, since = self.predicted / "summary.json", held_since(self.lock)
        if tries and summary.exists():
            tries[-1] = (tries[-1][0], max(tries[-1][1], summary.stat().st_mtime))
        earlier = max((end for _, end in tries[:-1]), default=0.0)
        if tries and since is not None and earlier <= since < tries[-1][0]:  # not of a try by hand, without the lock
            tries[-1] = (since, tries[-1][1])
        return sum(max(0.0, end - start) for start, end in tries)

    def needs(self) -> list[Job]:
        """All folds of what a cascade begins with, for it sees their predictions."""
        first = previous_stage(self)
        if first is None:
            return []
        n_folds = len(load_json(str(preprocessed(self.dataset) / SPLITS)))
        return [replace(self, configuration=first, fold=fold) for fold in range(n_folds)]


@dataclass(frozen=True)
class Prediction(Job):
    """The test set, predicted by the network of a fold, or by those of several folds as nnU-Net's ensemble."""

    ensemble: tuple[int, ...]
    source: TestSource

    module = "nnunet_archs.study.predict"
    part = "test"

    @property
    def folds(self) -> tuple[int, ...]:
        """Those of the ensemble."""
        return self.ensemble

    @property
    def folder(self) -> Path:
        """Beside the folds; not called after one, for nnU-Net takes what begins with `fold_` for a training."""
        return self.model / "_".join([self.source, "folds", *map(str, self.folds)])

    @property
    def predicted(self) -> Path:
        """All of the folder."""
        return self.folder

    @property
    def references(self) -> Path:
        """The test set's labels."""
        return self.test_set().references

    @property
    def arguments(self) -> tuple[str, ...]:
        """The references, and what `nnUNetv2_predict` is given."""
        model = ["-d", dataset_id(self.dataset), "-tr", self.network.trainer, "-p", self.network.plans]
        model += ["-c", self.configuration, "-f", *map(str, self.folds)]
        first = [f"{job.folder}" for job in self.needs() if isinstance(job, Prediction)]
        stage = ["-prev_stage_predictions", *first] if first else []
        where = ["-i", str(self.test_set().images), "-o", str(self.folder), "-device", self.device]
        scored = ["--save_probabilities"] if tells_apart(self.dataset) else []
        options = [*without_workers(self.device), *stage, *scored, "--continue_prediction"]
        return (str(self.references), *model, *where, *options)

    @property
    def command(self) -> str:
        """nnU-Net's prediction."""
        return " ".join(["nnUNetv2_predict", *self.arguments[1:]])

    @property
    def anew(self) -> str:
        """The study, where nothing is left of it."""
        return f"move {self.folder} away, and nnunet-archs study run predicts it again"

    def test_set(self) -> HeldOut:
        """The cases, with their images and references."""
        return held_out(self.dataset, self.source, self.folds)

    def cases(self) -> list[str]:
        """All of the test set."""
        return list(self.test_set().cases)

    def images(self) -> dict[str, list[str]] | None:
        """Those of the test set."""
        test_set = self.test_set()
        return {case: test_set.channels(case) for case in test_set.cases}

    def is_finished(self) -> bool:
        """Whether these networks have predicted all, and nnU-Net has evaluated it."""
        if not (is_evaluated(self.folder) and all(is_trained(file.parent) for file in self.checkpoints)):
            return False
        done = (self.folder / "summary.json").stat().st_mtime
        return all(file.stat().st_mtime <= done for file in self.checkpoints)

    def was_begun(self) -> bool:
        """Whether there is a folder."""
        return self.folder.exists()

    def progress(self) -> str:
        """Nothing: it is read from no log."""
        return ""

    def seconds(self) -> float:
        """How long the last try took so far: from when the lock was taken to the newest file."""
        since = held_since(self.lock)
        written = [file.stat().st_mtime for file in self.folder.glob("*")]
        return max(0.0, max(written) - since) if since is not None and written else 0.0

    def needs(self) -> list[Job]:
        """The trainings of its folds, and in a cascade the same folds' predictions of the first stage."""
        of = (self.dataset, self.configuration, self.network, self.device, self.log_folder)
        trainings: list[Job] = [Training(*of, fold) for fold in self.folds]
        first = previous_stage(self)
        return trainings if first is None else [*trainings, replace(self, configuration=first)]


def tells_apart(dataset: str) -> bool:
    """Whether the labels are cores and borders of objects, whose scores need probabilities."""
    return any(is_encoded(read_dataset_json(file)) for file in dataset_json_files(dataset))


def begun(log: Path) -> float:
    """When a training began, by the name of nnU-Net's log."""
    return datetime.strptime(log.stem, "training_log_%Y_%m_%d_%H_%M_%S").timestamp()


def previous_stage(job: Job) -> str | None:
    """The configuration that has to predict before, in a cascade; unknown as long as there are no plans."""
    plans = plans_file(job.dataset, job.network.plans)
    return first_stage(plans, job.configuration) if plans.exists() else None


@cache
def first_stage(plans: Path, configuration: str) -> str | None:
    """The configuration that a cascade's second stage begins with."""
    name: str | None = PlansManager(str(plans)).get_configuration(configuration).previous_stage_name
    return name


def jobs_of(study: Study) -> list[Job]:
    """All of a study, in the order in which it is begun."""
    return [*trainings_of(study), *predictions_of(study)]


def trainings_of(study: Study) -> list[Training]:
    """All trainings: a fold of every network before the next fold."""
    return [
        Training(*of, fold=fold)
        for setting in _settings(study)
        for fold in study.folds
        for of in _networks(study, setting)
    ]


def predictions_of(study: Study) -> list[Prediction]:
    """All predictions of the test set, if it is to be looked at: by each fold, then by all folds together."""
    if study.test is None:
        return []
    ensembles = dict.fromkeys([*((fold,) for fold in study.folds), study.folds])
    return [
        Prediction(*of, ensemble=folds, source=study.test)
        for setting in _settings(study)
        for folds in ensembles
        for of in _networks(study, setting)
    ]


def _settings(study: Study) -> Iterator[tuple[str, str]]:
    for dataset in study.datasets:
        for configuration in study.configurations:
            yield dataset, configuration


def _networks(study: Study, setting: tuple[str, str]) -> Iterator[tuple[str, str, Network, Device, Path]]:
    for network in study.networks:
        yield *setting, network, study.device, study.folder / "logs"


def seconds_left(jobs: list[Job], states: dict[Job, State], at_once: int) -> float | None:
    """An estimate: what finished jobs of the same network and configuration took, else what all took on average.

    So many at once, each begun when one has ended.
    """
    took: dict[object, list[float]] = {}
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


def kind_of(job: Job) -> tuple[str, str, Network, Part, int]:
    """What jobs that take equally long have in common."""
    return job.dataset, job.configuration, job.network, job.part, len(job.folds)

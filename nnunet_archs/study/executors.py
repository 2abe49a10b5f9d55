"""What runs a study's trainings and predictions: processes of this machine, or a cluster's jobs."""

from __future__ import annotations

import base64
import getpass
import os
import pickle
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from nnunet_archs.files import write_whole
from nnunet_archs.nnunet.commands import begin, end, for_training, python_command, variables

from .definition import Study
from .job import Job
from .locks import is_held

RESUBMISSIONS = 30  # after the cluster's time limit


class Run(Protocol):
    """A job that was begun."""

    def exit_code(self) -> int | None:
        """How it ended; None while it goes on."""

    def stop(self) -> None:
        """End what is left of it, where it ends with the study."""


class Executor(Protocol):
    """Begins jobs."""

    at_once: int

    def start(self, job: Job) -> Run | None:
        """Begin a job; None where there is no room."""

    def waits_for(self) -> list[Path]:
        """The locks of others for which there is no room."""

    def describe(self, job: Job) -> str:
        """The command that a person would type."""


def make_executor(study: Study) -> Executor:
    """The executor that a study names.

    Raises:
        ValueError: if it cannot work here.
    """
    return LocalExecutor(study) if study.executor.kind == "local" else ClusterExecutor(study)


class LocalRun:
    """A process of this machine, with the worker processes that it begins."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def exit_code(self) -> int | None:
        """How the process ended."""
        return self.process.poll()

    def stop(self) -> None:
        """End it: no job is left running on its own."""
        end(self.process)


class LocalExecutor:
    """One job on each GPU, or as many on the CPU as the study says."""

    def __init__(self, study: Study) -> None:
        self.device = study.device
        if self.device == "cuda":
            self.places = {f"GPU {name}": {"CUDA_VISIBLE_DEVICES": name} for name in gpu_names(study)}
        else:
            self.places = {f"{self.device} {n}": {} for n in range(study.executor.jobs)}
        self.at_once = len(self.places)
        self.runs: dict[str, LocalRun] = {}

    def start(self, job: Job) -> Run | None:
        """Begin a job at a place where none is: of ours, another study, or one whose study was killed."""
        place = next((place for place in self.not_ours() if not is_held(lock_of(place))), None)
        if place is None:
            return None
        environment = {**variables(self.device), **for_training(self.device), **self.places[place]}
        self.runs[place] = LocalRun(begin(under_locks(job, lock_of(place)), job.log, environment))
        return self.runs[place]

    def not_ours(self) -> list[str]:
        """The places where nothing of this study runs."""
        ours = {place for place, run in self.runs.items() if run.exit_code() is None}
        return [place for place in self.places if place not in ours]

    def waits_for(self) -> list[Path]:
        """The locks of places where others train."""
        return [lock for place in self.not_ours() if is_held(lock := lock_of(place))]

    def describe(self, job: Job) -> str:
        """nnU-Net's command."""
        return job.command


def gpu_names(study: Study) -> list[str]:
    """The GPUs to train on, as CUDA_VISIBLE_DEVICES names them, of those that this process sees.

    Raises:
        ValueError: if there are none, or not those that the study names.
    """
    n = torch.cuda.device_count()
    if not n:
        raise ValueError(f"{study.file}: device cuda: torch finds no GPU here; set device: cpu")
    chosen = study.executor.gpus or range(n)
    if absent := [gpu for gpu in chosen if gpu >= n]:
        raise ValueError(f"{study.file}: gpus: this machine has {n} GPUs, and no GPU {absent[0]}; correct gpus")
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name] or list(map(str, range(n)))
    return [seen[gpu] for gpu in chosen]


def lock_of(place: str) -> Path:
    """Held by what runs at a place of this machine."""
    return Path(tempfile.gettempdir(), f"nnunet-archs-{getpass.getuser()}-{place.replace(' ', '-')}.lock")


def under_locks(job: Job, *locks: Path) -> list[str]:
    """The command of a job that holds its own lock and others."""
    return [*python_command(job.module, str(job.folder), str(job.lock), *map(str, locks)), "--", *job.arguments]


@dataclass
class OnCluster:
    """A job as submitit runs it: begun again from where it stands when the time is up."""

    job: Job
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run to the end; the exit code."""
        if self.job.is_finished():  # queued twice
            return 0
        self.process = begin(under_locks(self.job), self.job.log, {**os.environ, **self.environment})
        # not wait(): submitit's signal handler calls checkpoint(), which could not look at the process then
        while (code := self.process.poll()) is None:
            time.sleep(1)
        return code

    def checkpoint(self) -> Any:
        """What submitit runs next, once the time is up or the job is preempted."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            end(self.process)
        return DelayedSubmission(OnCluster(self.job, self.environment))


class ClusterRun:
    """A job of submitit's."""

    def __init__(self, job: Job, submitted: Any) -> None:
        self.job, self.submitted = job, submitted
        self.code: int | None = None

    def exit_code(self) -> int | None:
        """What it ended with; 1 where the cluster ended it."""
        if self.code is None and self.submitted.done():
            try:
                self.code = self.submitted.result()
            except Exception as error:  # submitit raises what the cluster's side met, of any type
                self.code = 1
                with self.job.log.open("a") as log:
                    log.write(f"{' '.join(str(error).split())}\n")
        return self.code

    def stop(self) -> None:
        """Leave it: it goes on without the study, and the next run finds it."""


class ClusterExecutor:
    """Jobs of a cluster, through submitit; what was queued is noted, so that another run finds it again."""

    def __init__(self, study: Study) -> None:
        try:
            from submitit import AutoExecutor
        except ImportError as error:
            raise ValueError(
                f"{study.file}: executor submitit is not installed; pip install 'nnunet-archs[cluster]'"
            ) from error
        self.study = study
        self.at_once = study.executor.jobs
        self.runs: list[ClusterRun] = []
        self.folder = study.folder / "logs" / "submitit"
        try:
            often = {f"{study.executor.cluster}_max_num_timeout": RESUBMISSIONS}
            self.executor = AutoExecutor(folder=self.folder, cluster=study.executor.cluster, **often)
            self.executor.update_parameters(**study.executor.parameters)
        except (RuntimeError, ValueError, NameError, TypeError, AssertionError) as error:
            raise ValueError(f"{study.file}: executor: submitit does not take that: {error}") from error

    def start(self, job: Job) -> Run | None:
        """Submit a job, unless as many are queued as may be, or as the cluster takes now.

        Raises:
            ValueError: if the cluster takes none.
        """
        from submitit.helpers import clean_env

        self.runs = [run for run in self.runs if run.exit_code() is None]
        if known := self.queued(job):
            self.runs.append(known)
            return known
        if len(self.runs) >= self.at_once:
            return None
        mine = variables(self.study.device) | for_training(self.study.device)
        # the cluster's side has its own environment, but for what is nnU-Net's, and what only a training needs
        environment = {key: value for key, value in mine.items() if key.startswith("nnUNet") or key not in os.environ}
        try:
            with clean_env():  # this may run within a job of the cluster's
                submitted = self.executor.submit(OnCluster(job, environment))
        except RuntimeError as error:  # of which submitit's FailedJobError is one
            if self.runs:
                return None
            raise ValueError(f"{self.study.file}: executor: the cluster takes no job: {error}") from error
        write_whole(self.note(job), base64.b64encode(pickle.dumps(submitted)).decode())
        self.runs.append(ClusterRun(job, submitted))
        return self.runs[-1]

    def note(self, job: Job) -> Path:
        """Where it is noted as what a job was queued."""
        return self.folder / f"{job.name}.queued"

    def queued(self, job: Job) -> ClusterRun | None:
        """The cluster's job that an earlier run of the study queued for one of ours; None where none is left.

        Raises:
            ValueError: if the note cannot be read.
        """
        if not (note := self.note(job)).exists():
            return None
        try:
            submitted = pickle.loads(base64.b64decode(note.read_text()))
        except Exception as error:  # what a pickle of another version makes python raise is of any type
            raise ValueError(f"{note} cannot be read ({error}); remove it, and cancel the job that it is of") from error
        return None if submitted.done() else ClusterRun(job, submitted)

    def waits_for(self) -> list[Path]:
        """Nothing: the cluster gives its machines away."""
        return []

    def describe(self, job: Job) -> str:
        """nnU-Net's command, and what runs it."""
        parameters = " ".join(f"{key}={value}" for key, value in self.study.executor.parameters.items())
        return f"{self.study.executor.cluster} ({parameters}): {job.command}"

"""What runs a study's trainings: processes of this machine, or a cluster's jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from platform import node
from typing import Any, Protocol

import torch

from .commands import for_training, is_trained, variables
from .definition import Study
from .jobs import Job
from .train import holder

RESUBMISSIONS = 100  # after the cluster's time limit


class Run(Protocol):
    """A training that was begun."""

    def exit_code(self) -> int | None:
        """How it ended; None while it goes on."""

    def stop(self) -> None:
        """End it, where it ends with the study."""


class Executor(Protocol):
    """Begins trainings."""

    at_once: int

    def start(self, job: Job, others: Iterable[Job]) -> Run | None:
        """Begin a training; None where there is no room, some of which the study's others may take."""

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
        """End it: no training is left running on its own."""
        end(self.process)


class LocalExecutor:
    """One training on each GPU, or as many on the CPU as the study says."""

    def __init__(self, study: Study) -> None:
        self.device = study.device
        if self.device == "cuda":
            self.places = {f"{node()} GPU {name}": {"CUDA_VISIBLE_DEVICES": name} for name in gpu_names(study)}
        else:
            self.places = {f"{node()} {self.device} {n}": {} for n in range(study.executor.jobs)}
        self.at_once = len(self.places)
        self.runs: dict[str, LocalRun] = {}

    def start(self, job: Job, others: Iterable[Job]) -> Run | None:
        """Begin a training at a place where no other is, nor one that an earlier run of the study left behind."""
        ours = {place for place, run in self.runs.items() if run.exit_code() is None}
        taken = ours | {holder(other.lock) for other in others}
        place = next((place for place in self.places if place not in taken), None)
        if place is None:
            return None
        environment = {**variables(self.device), **for_training(self.device), **self.places[place]}
        self.runs[place] = LocalRun(begin(job, place, environment))
        return self.runs[place]

    def describe(self, job: Job) -> str:
        """nnU-Net's command."""
        return " ".join(["nnUNetv2_train", *job.arguments])


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


def begin(job: Job, place: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Begin nnU-Net's training, under its lock, in a process group of its own."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "nnunet_archs.study.train", str(job.lock), place, *job.arguments]
    with job.log.open("a") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a training and the worker processes that it has begun, which would wait for it for ever."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@dataclass
class Training:
    """A training as submitit runs it: begun again from its checkpoint when the time is up."""

    job: Job
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Train to the end; the exit code."""
        if is_trained(self.job.folder):  # queued twice
            return 0
        self.process = begin(self.job, node(), {**os.environ, **self.environment})
        return self.process.wait()

    def checkpoint(self) -> Any:
        """What submitit runs next, once the time is up or the job is preempted."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            end(self.process)
        return DelayedSubmission(Training(self.job, self.environment))


class ClusterRun:
    """A job of submitit's."""

    def __init__(self, job: Job, submitted: Any) -> None:
        self.job, self.submitted = job, submitted

    def exit_code(self) -> int | None:
        """What the training ended with; 1 where the cluster ended it."""
        if not self.submitted.done():
            return None
        try:
            code: int = self.submitted.result()
        except Exception as error:  # submitit raises what the cluster's side met, of any type
            with self.job.log.open("a") as log:
                log.write(f"{' '.join(str(error).split())}\n")
            return 1
        return code

    def stop(self) -> None:
        """Leave it: it goes on without the study, which finds it again."""


class ClusterExecutor:
    """Jobs of a cluster, through submitit."""

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

    def start(self, job: Job, others: Iterable[Job]) -> Run | None:
        """Submit a training, unless as many are queued as may be."""
        self.runs = [run for run in self.runs if run.exit_code() is None]
        if len(self.runs) >= self.at_once:
            return None
        mine = variables(self.study.device) | for_training(self.study.device)
        environment = {key: value for key, value in mine.items() if key.startswith("nnUNet") or key not in os.environ}
        self.runs.append(ClusterRun(job, self.executor.submit(Training(job, environment))))
        return self.runs[-1]

    def describe(self, job: Job) -> str:
        """nnU-Net's command, and what runs it."""
        parameters = " ".join(f"{key}={value}" for key, value in self.study.executor.parameters.items())
        return f"{self.study.executor.cluster} ({parameters}): nnUNetv2_train {' '.join(job.arguments)}"

"""One run: the parts in their order, each in its share of the time, going on where the last run stopped."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from nnunet_archs.benchmark.run import describe_environment
from nnunet_archs.benchmark.workloads import TOPOLOGIES, Workload, like_nnunet
from nnunet_archs.files import what_is_wrong_with_writing
from nnunet_archs.nnunet.commands import unwound_by_sigterm
from nnunet_archs.nnunet.device import choose_device
from nnunet_archs.trainers.registry import paper_trainers, resolve_paper

from . import fusions, hippocampus, memory, processes, suite, times
from .parts import MAIN, Found, Part
from .record import Record, open_record
from .worker import Worker

TOY = (
    like_nnunet("3d-toy", [4, 8, 8], (16, 16, 16), 2),
    like_nnunet("2d-toy", [4, 8, 8], (32, 32), 2),
)
FULL = (TOPOLOGIES["3d-nnunet"], TOPOLOGIES["2d-nnunet"])
DATA = "msd_task04_hippocampus"
BEGIN = 300.0  # seconds for the first process to begin: on a cold disk torch alone takes a minute


def measure_gpu(args: argparse.Namespace) -> Path:
    """Measure as the command's arguments say; the page."""
    device = choose_device(args.device)
    trainers = chosen_trainers(args.trainers)
    folder = prepared(args)
    started = time.monotonic()
    settings: dict[str, Any] = {"trainers": trainers, "amp": "fp16" if device == "cuda" else None, "compile": False}
    with unwound_by_sigterm(), Worker(folder / "worker.log") as worker:
        answer = worker.run(partial(describe, device), BEGIN)
        if "error" in answer:
            raise ValueError(f"no process can be begun: {answer['error']}; {folder / 'worker.log'} tells more")
        n_devices, environment = answer["result"]["n"], answer["result"]["environment"]
        record = open_record(folder, shlex.join(["nnunet-archs", *args.argv]), settings, environment)
        parts = all_parts(args, trainers, device, n_devices)
        record.save(parts)
        unfinished = [part for part in parts if record.missing(part)]
        shares = list(accumulate(part.minutes for part in unfinished))
        for part, share in zip(unfinished, shares, strict=True):
            measure_part(part, record, worker, started + 60 * args.minutes * share / shares[-1], parts)
        for part in unfinished:  # what is left of the time
            measure_part(part, record, worker, started + 60 * args.minutes, parts)
    return folder / "gpu.md"


def chosen_trainers(names: Sequence[str] | None) -> list[str]:
    """The trainers that are asked for, or all, those of the papers first.

    Raises:
        ValueError: for one that does not exist.
    """
    found = [resolve_paper(name) for name in names] if names else paper_trainers()
    unique = dict.fromkeys(trainer.__name__ for trainer in found)
    return [name for name in MAIN if name in unique] + [name for name in unique if name not in MAIN]


def prepared(args: argparse.Namespace) -> Path:
    """The folder of the two files, made where it is missing.

    Raises:
        ValueError: if nothing can be written there, or for a time that is none.
    """
    if not args.minutes > 0:
        raise ValueError(f"--minutes {args.minutes:g}: give how long it may take, as 25")
    folder: Path = args.output.resolve()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"-o {folder} is a file: give a folder, or a new name")
    folder.mkdir(parents=True, exist_ok=True)
    if problem := what_is_wrong_with_writing(str(folder)):
        raise ValueError(f"-o {folder} cannot be written to ({problem}); give another folder")
    return folder


def describe(device: str) -> Found:
    """The machine: how many GPUs, and what times depend on."""
    n = torch.cuda.device_count() if device == "cuda" else 1
    environment = describe_environment(torch.device(device))
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
        environment |= {"GPUs": n, "memory in GiB": round(memory / 2**30, 1)}
    return {"n": n, "environment": environment}


def all_parts(args: argparse.Namespace, trainers: Sequence[str], device: str, n_devices: int) -> list[Part]:
    """What is measured, the most telling first."""
    workloads: Sequence[Workload] = FULL if device == "cuda" else TOY
    data = args.data
    if data is None and "NNUNET_ARCHS_DATA" in os.environ:
        data = Path(os.environ["NNUNET_ARCHS_DATA"], DATA)
    return [
        memory.part(trainers, workloads, device),
        times.part(trainers, workloads, device),
        fusions.part(trainers, workloads, device),
        suite.part(args.tests and args.tests.resolve()),
        processes.part(trainers, workloads[0], device, n_devices),
        hippocampus.part(trainers, data and data.resolve(), args.output.resolve() / "trainings", device),
    ]


def measure_part(part: Part, record: Record, worker: Worker, last: float, parts: Sequence[Part]) -> None:
    """Measure what is missing of a part until its time is over."""
    for measurement in record.missing(part):
        begun = time.monotonic()
        if begun > last - 1:
            return
        answer = worker.run(measurement.take, min(part.limit, last - begun))
        seconds = time.monotonic() - begun
        record.of(part)[measurement.name] = {"seconds": round(seconds, 2), **answer}
        record.save(parts)
        print(f"{part.name}: {measurement.name}: {answer.get('error', 'done')}, {seconds:.1f} s", flush=True)

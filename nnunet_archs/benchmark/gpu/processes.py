"""A trainer's step under DDP, on one GPU and on more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessRaisedException, start_processes

from nnunet_archs.benchmark.workloads import Workload
from nnunet_archs.measure.time import measure
from nnunet_archs.tables import markdown_table

from .parts import MAIN, Findings, Found, Measurement, Part, gib
from .trainings import batch_of, training

N_TRAINERS = 6  # of the papers' that are measured, in their order
INTRODUCTION = """A trainer's own step as nnU-Net starts it on several GPUs, a process for each, every one with a batch
of its own. In step: all processes have the same weights after three steps. On a CPU nnU-Net knows no DDP, and one
process trains without it."""


def part(trainers: Sequence[str], workload: Workload, device: str, n_devices: int) -> Part:
    """Eager on one GPU, two, four and so on to all of them; compiled on one and on all, as nnU-Net trains."""
    steps = [2**k for k in range(n_devices.bit_length())]
    counts = sorted({min(n, n_devices) for n in [*steps, n_devices]})
    measurements = []
    for name in [name for name in MAIN if name in trainers][:N_TRAINERS]:
        for n in counts:
            for compiled in (False, True) if device == "cuda" and n in (1, n_devices) else (False,):
                take = partial(ddp_step, name, workload, device, n, compiled=compiled)
                title = f"{name}, {n} {'GPU' if n == 1 else 'GPUs'}{', compiled' * compiled}"
                measurements.append(Measurement(title, take, int(compiled)))
    return Part("ddp", f"DDP, {workload.name}", 1.5, 180, measurements, describe)


def ddp_step(name: str, workload: Workload, device: str, n: int, *, compiled: bool) -> Found:
    """The slowest process' seconds, the most memory of one, and whether all have the same weights.

    Raises:
        ValueError: if one of them fails, with its error.
    """
    spread = replace(workload, batch_size=n * workload.batch_size)
    with TemporaryDirectory() as folder:
        arguments = (n, name, spread, device, compiled, folder)
        try:
            if device == "cuda":
                start_processes(one_process, arguments, nprocs=n, start_method="forkserver")
            else:
                one_process(0, *arguments)
        except ProcessRaisedException as error:  # it has the whole traceback
            raise ValueError(str(error).strip().splitlines()[-1]) from error
        found = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(n)]
    peaks = [rank["peak"] for rank in found]
    return {
        "step": max(rank["step"] for rank in found),
        "peak": max(peaks) if all(peaks) else None,
        "equal": len({rank["weights"] for rank in found}) == 1,
    }


def one_process(rank: int, n: int, name: str, workload: Workload, device: str, compiled: bool, folder: str) -> None:
    """Train three steps as one of `n` processes, and write what they took."""
    if device == "cuda":
        torch.cuda.set_device(rank)
        torch.backends.cudnn.benchmark = True
        distributed.init_process_group("nccl", init_method=f"file://{folder}/store", rank=rank, world_size=n)
    torch.manual_seed(rank)
    with training(name, workload, device, compiled=compiled) as trainer:
        step = partial(trainer.train_step, batch_of(trainer))
        for _ in range(2 if device == "cpu" else 1):  # on CUDA the first that is measured is run twice
            step()
        seconds, peak = measure(step, trainer.device)
        weights = sum(float(parameter.detach().double().sum()) for parameter in trainer.network.parameters())
    Path(folder, f"{rank}.json").write_text(json.dumps({"step": seconds, "peak": peak, "weights": weights}))
    if device == "cuda":
        distributed.destroy_process_group()


def describe(findings: Findings) -> str:
    """A row for each."""
    header = ["trainer", "step, s", "peak of a process, GiB", "in step"]
    rows = [
        [name, f"{found['step']:.3g}", gib(found["peak"]), "yes" if found["equal"] else "**no**"]
        for name, found in findings.items()
    ]
    return f"{INTRODUCTION}\n\n{markdown_table(header, rows)}"

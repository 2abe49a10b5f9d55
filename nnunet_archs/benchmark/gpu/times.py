"""Steps and inference of all networks in both forms, eager and compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import product

import torch

from nnunet_archs.benchmark.run import allow_compilations, build, forms_of, trainer_of
from nnunet_archs.benchmark.workloads import Workload
from nnunet_archs.measure.time import Execution, sample
from nnunet_archs.tables import markdown_table

from .parts import Findings, Found, Measurement, Part, gib, rank_of

FORMS = ("textbook", "exact")
INTRODUCTION = """As `nnunet-archs benchmark --amp fp16` takes them (on a CPU in float32), one sample each after a call
that is not timed: a step is forward, the sum of the outputs' mean squares, backward, SGD; inference is a forward pass
of the whole batch, one output. Compiling: the seconds of the whole compiled measurement, most of which torch.compile
takes."""


def part(trainers: Sequence[str], workloads: Sequence[Workload], device: str) -> Part:
    """Every network at every workload of its dimensions; compiled on CUDA alone, as nnU-Net compiles."""
    measurements = []
    for n, workload in enumerate(workloads):
        for name, compiled in product(trainers, (False, True) if device == "cuda" else (False,)):
            if len(workload.patch_size) in trainer_of(name).dimensions():
                for form in forms_of(name, FORMS):
                    take = partial(times_of, name, form, workload, device, compiled=compiled)
                    rank = 2 * rank_of(name) + 2 * compiled + n + (compiled and form == "textbook")
                    measurements.append(Measurement(key(name, form, workload.name, compiled), take, rank))
    return Part("times", "Time of steps and inference", 6, 240, measurements, describe)


def key(name: str, form: str, workload: str, compiled: bool) -> str:
    """A measurement's name."""
    return ", ".join([name, *([form] if form else []), workload, *(["compiled"] if compiled else [])])


def times_of(name: str, form: str, workload: Workload, device: str, *, compiled: bool) -> Found:
    """A sample of a network."""
    execution = Execution(torch.device(device), torch.float16 if device == "cuda" else None, compiled)
    if compiled:
        allow_compilations(8)
    taken = sample(partial(build, workload, name, form), workload.shape, execution)
    return {"network": key(name, form, workload.name, False), "compiled": compiled, **asdict(taken)}


def describe(findings: Findings) -> str:
    """A row for every network in a form, compiled beside eager."""
    by_network: dict[str, dict[bool, Found]] = {}
    for found in findings.values():
        by_network.setdefault(found["network"], {})[found["compiled"]] = found
    header = ["network", *("step, s", "inference, s", "peak, GiB"), *("compiled: step, s", "inference, s", "peak, GiB")]
    rows = [
        [name, *cells(found.get(False)), *cells(found.get(True)), seconds(found.get(True), "took")]
        for name, found in sorted(by_network.items())
    ]
    return f"{INTRODUCTION}\n\n{markdown_table([*header, 'compiling, s'], rows)}"


def cells(found: Found | None) -> list[str]:
    """Step, inference and peak."""
    return [seconds(found, "step"), seconds(found, "inference"), gib(found["peak"] if found else None)]


def seconds(found: Found | None, name: str) -> str:
    """A time; `-` where it was not measured."""
    return "-" if found is None else f"{found[name]:.3g}"

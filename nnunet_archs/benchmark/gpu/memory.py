"""What the planner expects a trainer's step to take of a GPU, beside what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import median

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.benchmark.run import allow_compilations, recomputes
from nnunet_archs.benchmark.workloads import Workload
from nnunet_archs.measure.time import measure
from nnunet_archs.plans.planner import RESERVE, RESERVED_SHARE
from nnunet_archs.tables import markdown_table
from nnunet_archs.trainers.memory import expected_memory
from nnunet_archs.trainers.registry import resolve_paper

from .parts import MAIN, Findings, Found, Measurement, Part, gib, rank_of
from .trainings import CONFIGURATION, DATASET_JSON, batch_of, plans_of, training

INTRODUCTION = """A trainer's own step at nnU-Net's default plan: network, loss, optimiser, mixed precision. Expected:
what the planner measures without a GPU. Measured: `max_memory_allocated` of a second step. Card by the plan: the
smallest on which the planner would plan this; taken: what is gone of the card's memory, CUDA's own and the allocator's
reserve included."""


def part(trainers: Sequence[str], workloads: Sequence[Workload], device: str) -> Part:
    """Every trainer at the first workload that it can take, those of the papers with `_checkpoint` and compiled too."""
    measurements = []
    for name in trainers:
        trainer = resolve_paper(name)
        workload = next(chosen for chosen in workloads if len(chosen.patch_size) in trainer.dimensions())
        variants = [(name, False, rank_of(name))]
        if name in MAIN:
            variants += [(f"{name}_checkpoint", False, 1)] if recomputes(trainer.network_class) else []
            variants += [(name, True, 2)] if device == "cuda" else []
        for variant, compiled, rank in variants:
            take = partial(step_memory, variant, workload, device, compiled=compiled)
            measurements.append(Measurement(f"{variant}, {workload.name}{', compiled' * compiled}", take, rank))
    return Part("memory", "Memory: the planner's prediction", 5, 240, measurements, describe)


def step_memory(name: str, workload: Workload, device: str, *, compiled: bool) -> Found:
    """Bytes that are expected and taken, and the step's seconds; those taken are unknown on a CPU."""
    trainer = resolve_paper(name)
    plans = PlansManager(plans_of(trainer, workload))
    configuration = plans.get_configuration(CONFIGURATION)
    expected = expected_memory(trainer, plans, configuration, DATASET_JSON, half=device == "cuda").peak
    if compiled:
        allow_compilations(8)
    with training(name, workload, device, compiled=compiled) as trained:
        seconds, peak = measure(partial(trained.train_step, batch_of(trained)), trained.device)
    taken = None
    if trained.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        taken = total - free
    needed = (expected + RESERVE) / (1 - RESERVED_SHARE)
    return {"expected": expected, "measured": peak, "needed": needed, "taken": taken, "step": seconds}


def describe(findings: Findings) -> str:
    """The table, and how far off the planner is."""
    header = ["trainer", "expected, GiB", "measured, GiB", "measured / expected", "card by the plan, GiB", "taken, GiB"]
    rows, ratios = [], {}
    for name, found in findings.items():
        if found["measured"]:
            ratios[name] = found["measured"] / found["expected"]
        ratio = f"{ratios[name]:.2f}" if name in ratios else "-"
        sizes = [gib(found[key]) for key in ("expected", "measured", "needed", "taken")]
        rows.append([name, *sizes[:2], ratio, *sizes[2:], f"{found['step']:.3g}"])
    said = [INTRODUCTION, markdown_table([*header, "step, s"], rows)]
    if ratios:
        low, high = min(ratios.values()), max(ratios.values())
        said.append(f"Measured / expected: median {median(ratios.values()):.2f}, {low:.2f} to {high:.2f}.")
        over = [name for name in ratios if findings[name]["taken"] > findings[name]["needed"]]
        said.append(f"More of the card is taken than the planner allows for: {'; '.join(over) or 'none'}.")
    return "\n\n".join(said)

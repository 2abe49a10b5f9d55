"""Measure multiply-adds, memory and time of the networks, in the papers' form and in ours.

Every network stands beside nnU-Net's own two, at one workload after the other. Multiply-adds and the memory kept for
backward are counted without running anything. For the times all networks take turns in every round, so that what
disturbs the machine for a while disturbs all of them. With --json the rounds that are done are kept, and the same
command goes on after them.
"""

from __future__ import annotations

import argparse
import platform
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from nnunet_archs import networks
from nnunet_archs.benchmark.report import markdown
from nnunet_archs.benchmark.result import Result, Row, load
from nnunet_archs.benchmark.workloads import TOPOLOGIES, Workload, from_plans
from nnunet_archs.measure.counts import count
from nnunet_archs.measure.time import Execution, sample
from nnunet_archs.networks import SegmentationNetwork
from nnunet_archs.networks.parts.contract import check_choice
from nnunet_archs.trainers.nnunet import BaselineTrainer, PlainConvUNetTrainer, ResidualEncoderUNetTrainer

from .doctor import what_is_wrong_with_writing
from .prune import choose_device

NETWORKS: dict[str, Any] = {
    name: getattr(networks, name)
    for name in networks.__all__
    if issubclass(getattr(networks, name), SegmentationNetwork) and name != "SegmentationNetwork"
}
# what a paper's network has that is off by default
OPTIONS: dict[str, dict[str, Any]] = {"CrosslinkNet": {"attention": True}}
FORMS: dict[str, dict[str, Any]] = {
    "textbook": {"fusion": "textbook"},
    "exact": {"fusion": "exact"},
    "checkpoint": {"fusion": "exact", "checkpoint": True},
}
YARDSTICKS: dict[str, type[BaselineTrainer]] = {
    trainer.network_class.__name__: trainer for trainer in (PlainConvUNetTrainer, ResidualEncoderUNetTrainer)
}
AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="as UNetSharp; default: all")
    parser.add_argument(
        "--topology",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(TOPOLOGIES)}; default: the papers', or --plans alone",
    )
    parser.add_argument("--plans", type=Path, metavar="FILE", help="nnUNetPlans.json of a data set, for its topology")
    parser.add_argument("--configuration", metavar="NAME", help="one of the plans' configurations, as 3d_fullres")
    parser.add_argument(
        "--forms", nargs="+", metavar="FORM", default=[*FORMS], help=f"of {', '.join(FORMS)}; default: all"
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="timed rounds; 0: counts alone; default: 5")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="where networks are timed; default: a GPU if there")
    parser.add_argument("--threads", type=int, metavar="N", help="threads on the CPU; default: torch's own choice")
    parser.add_argument("--amp", choices=[*AMP], help="mixed precision")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there; go on from what is there")


def run(args: argparse.Namespace) -> int:
    """Count, time and print the tables."""
    chosen, forms = list(dict.fromkeys(args.networks or NETWORKS)), list(dict.fromkeys(args.forms))
    execution = check_arguments(args, chosen, forms)
    workloads = find_workloads(args)
    settings = {
        "networks": chosen,
        "forms": forms,
        "workloads": [workload.as_json() for workload in workloads],
        "repeats": args.repeats,
        "amp": args.amp,
        "compile": args.compile,
    }
    if args.threads:
        torch.set_num_threads(args.threads)
    environment = describe_environment(execution.device)
    if args.json is not None and args.json.exists():
        result = load(args.json, settings, environment)
    else:
        counted = {workload.name: count_rows(workload, chosen, forms) for workload in workloads}
        result = Result(shlex.join(["nnunet-archs", *args.argv]), settings, environment, counted)
        result.save(args.json)
    torch.backends.cudnn.benchmark = True  # as nnU-Net trains
    for workload in workloads:
        rows = result.rows[workload.name]
        if args.compile:
            allow_compilations(2 * len(rows))
        for _ in time_rows(workload, rows, execution, args.repeats):
            result.save(args.json)
    print(markdown(result, workloads))
    return 0


def check_arguments(args: argparse.Namespace, chosen: Sequence[str], forms: Sequence[str]) -> Execution:
    """How the networks are to be run.

    Raises:
        ValueError: for an argument that cannot be met.
    """
    for network in chosen:
        check_choice("NETWORK", network, NETWORKS)
    for form in forms:
        check_choice("--forms", form, FORMS)
    if args.repeats < 0:
        raise ValueError(f"--repeats {args.repeats}: give the number of timed rounds, or 0 for the counts alone")
    if args.threads is not None and args.threads < 1:
        raise ValueError(f"--threads {args.threads}: give 1 or more")
    device = choose_device(args.device)
    if args.amp == "fp16" and device.type == "cpu":
        raise ValueError("--amp fp16 is for CUDA; on a CPU give --amp bf16")
    if args.json is not None and (problem := what_is_wrong_with_writing(str(args.json.parent))):
        raise ValueError(f"--json {args.json} cannot be written ({problem}); give a file in a folder that can")
    return Execution(device, AMP.get(args.amp), args.compile)


def find_workloads(args: argparse.Namespace) -> list[Workload]:
    """The named topologies, then the plan.

    Raises:
        ValueError: for one that does not exist.
    """
    if (args.plans is None) != (args.configuration is None):
        raise ValueError("--plans and --configuration go together: give both, as --configuration 3d_fullres")
    names = args.topology or (["2d-paper", "3d-paper"] if args.plans is None else [])
    for name in names:
        check_choice("--topology", name, TOPOLOGIES)
    planned = [] if args.plans is None else [from_plans(args.plans, args.configuration)]
    return [*(TOPOLOGIES[name] for name in dict.fromkeys(names)), *planned]


def describe_environment(device: torch.device) -> dict[str, Any]:
    """What the times depend on besides the settings."""
    cuda: dict[str, Any] = {}
    if device.type == "cuda":
        tf32 = {"products": torch.backends.cuda.matmul.allow_tf32, "convolutions": torch.backends.cudnn.allow_tf32}
        cuda = {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version(), "TF32": tf32}
    return {
        "device": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "threads": torch.get_num_threads(),
        "nnunet-archs": version("nnunet-archs"),
        "torch": torch.__version__,
        **cuda,
        "Python": platform.python_version(),
    }


def cpu_name() -> str:
    """The CPU's model, and the instructions of it that torch uses; Linux tells the model in a file alone."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE) if info.is_file() else None
    model = found[1] if found else platform.processor() or platform.machine()
    return f"{model} ({torch.backends.cpu.get_cpu_capability()})"


def count_rows(workload: Workload, chosen: Sequence[str], forms: Sequence[str]) -> list[Row]:
    """The rows of a workload, nnU-Net's own networks first, counted and not yet timed."""
    names = [*((network, "") for network in YARDSTICKS), *((network, form) for network in chosen for form in forms)]
    return [
        Row(network, form, count(partial(build, workload, network, form), workload.shape))
        for network, form in tqdm(names, desc=f"counting, {workload.name}", leave=False, disable=None)
    ]


def build(workload: Workload, network: str, form: str) -> nn.Module:
    """A network with its paper's supervision, on torch's default device."""
    arguments = {**workload.arguments, "deep_supervision": True}
    if network in YARDSTICKS:
        trainer: Any = YARDSTICKS[network]
        return trainer.network_class(**arguments, **trainer.blocks(workload.topology.n_stages))
    return NETWORKS[network](**arguments, **OPTIONS.get(network, {}), **FORMS[form], supervision="paper")


def allow_compilations(n: int) -> None:
    """Have torch compile `n` networks: they share their outermost code, of which it compiles 8 variants, silently."""
    torch.compiler.reset()
    torch._dynamo.config.cache_size_limit = n


def time_rows(workload: Workload, rows: Sequence[Row], execution: Execution, repeats: int) -> Iterator[None]:
    """Take the samples that are missing, one of every row in each round; stops after each round."""
    fitting = [row for row in rows if not row.out_of_memory]
    missing = repeats - min((len(row.samples) for row in fitting), default=repeats)
    n_rounds = 1 + missing if missing else 0
    with tqdm(total=n_rounds * len(rows), desc=f"timing, {workload.name}", leave=False, disable=None) as progress:
        for number in range(n_rounds):
            for row in rows:
                if not row.out_of_memory:
                    time_row(workload, row, execution, warm_up=number == 0)
                progress.update()
            yield


def time_row(workload: Workload, row: Row, execution: Execution, *, warm_up: bool) -> None:
    """Take a sample, which is kept unless it is to warm up; or note that there is too little memory for it."""
    try:
        taken = sample(partial(build, workload, row.network, row.form), workload.shape, execution)
    except torch.cuda.OutOfMemoryError:
        row.out_of_memory = True
    else:
        row.samples += [] if warm_up else [taken]

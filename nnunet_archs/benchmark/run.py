"""Count and time networks, in the papers' form and in ours, beside nnU-Net's own two."""

from __future__ import annotations

import argparse
import inspect
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn
from tqdm import tqdm

from nnunet_archs.files import what_is_wrong_with_writing
from nnunet_archs.measure.counts import count
from nnunet_archs.measure.memory import training_memory
from nnunet_archs.measure.time import Execution, Sample, mean_squares, sample
from nnunet_archs.networks.parts.contract import check_choice
from nnunet_archs.nnunet.device import choose_device
from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.registry import paper_trainers, resolve_paper

from .graphs import GraphSample, sample_graph
from .report import markdown
from .result import Result, Row, load
from .workloads import NUM_CLASSES, TOPOLOGIES, Workload, from_plans

FORMS: dict[str, dict[str, Any]] = {
    "textbook": {"fusion": "textbook"},
    "exact": {"fusion": "exact"},
    "checkpoint": {"fusion": "exact", "checkpoint": True},
}
YARDSTICKS = ("PlainConvUNet", "ResidualEncoderUNet")
AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def trainer_of(network: str) -> type[PaperTrainer]:
    """The trainer of a network, as `UNetSharp` or with options `UNetSharp_L3`; a trainer's own name serves too.

    Raises:
        ValueError: if there is none.
    """
    base, *words = network.split("_")
    return resolve_paper(network if "Trainer" in base else "_".join([f"{base}Trainer", *words]))


def all_networks(*, graphs: bool) -> list[str]:
    """Every network that a trainer has, nnU-Net's own apart, or of these the ones that can be exported."""
    names = [trainer.__name__.removesuffix("Trainer") for trainer in paper_trainers()]
    return [name for name in names if name not in YARDSTICKS and (is_graph(name) or not graphs)]


def is_graph(network: str) -> bool:
    """Whether a network computes the same whatever is in an image, and can be exported."""
    return getattr(trainer_of(network).network_class, "is_graph", True)


def benchmark(args: argparse.Namespace) -> str:
    """Count and time as the command's arguments say; the tables."""
    chosen = list(dict.fromkeys(args.networks or all_networks(graphs=args.graph)))
    forms = list(dict.fromkeys(args.forms))
    execution = check_arguments(args, chosen, forms)
    workloads = find_workloads(args)
    settings = {
        "networks": chosen,
        "forms": forms,
        "workloads": [workload.as_json() for workload in workloads],
        "repeats": args.repeats,
        "amp": args.amp,
        "compile": args.compile,
        "graph": args.graph,
    }
    if args.threads:
        torch.set_num_threads(args.threads)
    environment = describe_environment(execution.device)
    if args.json is not None and args.json.exists():
        result = load(args.json, settings, environment)
    else:
        rows_of = partial(count_rows, chosen=chosen, forms=forms, skip=not args.networks, compiled=args.compile)
        counted = {workload.name: rows_of(workload) for workload in workloads}
        result = Result(shlex.join(["nnunet-archs", *args.argv]), settings, environment, counted)
        result.save(args.json)
    torch.backends.cudnn.benchmark = True  # as nnU-Net trains
    for workload in workloads:
        rows = result.rows[workload.name]
        if args.compile:
            allow_compilations(2 * len(rows))
        take = graph_of if args.graph else partial(sample_of, execution)
        for _ in time_rows(rows, partial(take, workload), args.repeats, workload.name, warm_up=not args.graph):
            result.save(args.json)
    return markdown(result, workloads)


def check_arguments(args: argparse.Namespace, chosen: Sequence[str], forms: Sequence[str]) -> Execution:
    """How the networks are to be run.

    Raises:
        ValueError: for an argument that cannot be met.
    """
    for network in chosen:
        if not is_graph(network) and args.graph:
            raise ValueError(f"{network} has no graph, for what it computes depends on what it finds; leave it out")
    for form in forms:
        check_choice("--forms", form, FORMS)
    if args.repeats < 0:
        raise ValueError(f"--repeats {args.repeats}: give the number of timed rounds, or 0 for the counts alone")
    if args.threads is not None and args.threads < 1:
        raise ValueError(f"--threads {args.threads}: give 1 or more")
    if args.graph and (args.compile or args.amp or args.device not in (None, "cpu")):
        raise ValueError("--graph is timed on the CPU, in float32; leave out --compile, --amp and --device")
    device = torch.device("cpu" if args.graph else choose_device(args.device))
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
        raise ValueError("--plans and -c go together: give both, as -c 3d_fullres")
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


def count_rows(
    workload: Workload, chosen: Sequence[str], forms: Sequence[str], *, skip: bool, compiled: bool
) -> list[Row]:
    """The rows of a workload, nnU-Net's own networks first, counted and not yet timed.

    A network that cannot be built for it is an error, or with `skip` is left out, with a line that says why.

    Raises:
        ValueError: for such a network.
    """
    rows = []
    chosen_rows = [(network, form) for network in chosen for form in forms_of(network, forms)]
    names = [*((network, "") for network in YARDSTICKS), *chosen_rows]
    for network, form in tqdm(names, desc=f"counting, {workload.name}", leave=False, disable=None):
        try:
            rows.append(count_row(workload, network, form, compiled=compiled))
        except ValueError as error:
            if not skip:
                raise
            print(f"{workload.name}: {network} is left out: {error}", file=sys.stderr)
    return rows


def count_row(workload: Workload, network: str, form: str, *, compiled: bool) -> Row:
    """A row of a workload, not yet timed.

    Raises:
        ValueError: for a network that cannot be built for it.
    """
    make = partial(build, workload, network, form)
    with torch.device("meta"):
        memory = training_memory(make(), workload.shape, mean_squares, half=True)
    return Row(network, form, count(make, workload.shape, compiled=compiled), memory.peak)


def forms_of(network: str, forms: Sequence[str]) -> list[str]:
    """Those of the forms that a network has, or one without a name."""
    network_class = trainer_of(network).network_class
    if has_fusion(network_class):
        return list(forms)
    return ["", "checkpoint"] if recomputes(network_class) and "checkpoint" in forms else [""]


def has_fusion(network_class: type[nn.Module]) -> bool:
    """Whether a network has the papers' form and ours, a keyword of its constructor or of its base class'."""
    constructors = (vars(base).get("__init__") for base in network_class.__mro__)
    return any("fusion" in inspect.signature(init).parameters for init in constructors if init)


def recomputes(network_class: type[nn.Module]) -> bool:
    """Whether a network is made of the blocks here, which can compute again in backward; it has any topology then."""
    return getattr(network_class, "recomputes", False)


def build(workload: Workload, network: str, form: str) -> nn.Module:
    """A network with its trainer's options and supervision and the workload's features, on torch's default device."""
    trainer = trainer_of(network)
    configuration, network_class = workload.configuration, trainer.network_class
    changes = {key: value for key, value in FORMS.get(form, {}).items() if key != "fusion" or has_fusion(network_class)}
    topology, own = configuration.network_arch_init_kwargs, trainer.missing_in_plans(configuration)
    stated = own | topology if recomputes(network_class) else topology | own
    options = stated | trainer.network_options(configuration) | changes
    requiring_import = configuration.network_arch_init_kwargs_req_import
    built: nn.Module = get_network_from_plans(
        trainer.network_path(), options, requiring_import, workload.input_channels, NUM_CLASSES, deep_supervision=True
    )
    return built


def allow_compilations(n: int) -> None:
    """Have torch compile `n` networks: they share their outermost code, of which it compiles 8 variants, silently.

    Each is compiled in full, whatever an earlier process left on the disk.
    """
    import torch._inductor.config

    torch.compiler.reset()
    torch._dynamo.config.cache_size_limit = n
    torch._inductor.config.force_disable_caches = True


def time_rows(
    rows: Sequence[Row], take: Callable[[Row], Sample | GraphSample], repeats: int, name: str, *, warm_up: bool
) -> Iterator[None]:
    """Take the samples that are missing, one of every row in each round; stops after each round.

    With `warm_up` there is a round before them that is not kept.
    """
    fitting = [row for row in rows if not row.out_of_memory]
    missing = repeats - min((len(row.samples) for row in fitting), default=repeats)
    warm_ups = int(warm_up)
    n_rounds = warm_ups + missing if missing else 0
    with tqdm(total=n_rounds * len(rows), desc=f"timing, {name}", leave=False, disable=None) as progress:
        for number in range(n_rounds):
            for row in rows:
                if not row.out_of_memory:
                    time_row(row, take, warm_up=number < warm_ups)
                progress.update()
            yield


def time_row(row: Row, take: Callable[[Row], Sample | GraphSample], *, warm_up: bool) -> None:
    """Take a sample, which is kept unless it is to warm up; or note that there is too little memory for it."""
    try:
        taken = take(row)
    except torch.cuda.OutOfMemoryError:
        row.out_of_memory = True
        return
    if not warm_up:
        row.samples.append(taken)
    elif isinstance(taken, Sample):
        row.first = taken.step


def sample_of(execution: Execution, workload: Workload, row: Row) -> Sample:
    """A sample of a row in torch."""
    return sample(partial(build, workload, row.network, row.form), workload.shape, execution)


def graph_of(workload: Workload, row: Row) -> GraphSample:
    """A sample of a row's ONNX graph, for one patch, as nnU-Net predicts."""
    patch = (1, *workload.shape[1:])
    return sample_graph(partial(build, workload, row.network, row.form), patch, torch.get_num_threads())

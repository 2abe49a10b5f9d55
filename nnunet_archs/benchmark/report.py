"""A benchmark's tables, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from nnunet_archs.tables import markdown_table

from .result import Result, Row
from .workloads import NUM_CLASSES, Workload

GIB = 2**30
REFERENCE = "PlainConvUNet"

COUNTED = """Multiply-adds: of a forward pass in training, of the whole batch and all supervised outputs, by torch's own
counter; needed: without those on zeros of the operators that upsample. Kept: memory that a forward pass in float32
leaves alive for backward, on the meta device. Checkpoint: the exact form, parts of it computed again in backward. All
networks have the topology's features."""

TIMED = """Step: forward, the sum of the outputs' mean squares, backward, SGD. Inference: forward, one output, without
gradients. Median (least to most) of {} rounds in which all rows take turns, after one that is not counted."""

PEAK = "Peak: the most memory that torch allocates in a step, the network itself included."

# what rows are compared by
COUNTS: dict[str, Callable[[Row], float]] = {
    "needed multiply-adds": lambda row: row.counts.needed,
    "counted": lambda row: row.counts.multiply_adds,
    "kept": lambda row: row.counts.kept_bytes,
}
TIMES: dict[str, Callable[[Row], float]] = {
    "step": lambda row: median(sample.step for sample in row.samples),
    "inference": lambda row: median(sample.inference for sample in row.samples),
}


def markdown(result: Result, workloads: Sequence[Workload]) -> str:
    """The page: what was measured and where, then a section a workload."""
    settings, environment = result.settings, result.environment
    repeats, cuda = settings["repeats"], "CUDA" in environment
    parts = ["# Benchmark", f"`{result.command}`", describe_run(settings, environment), COUNTED]
    if repeats:
        parts.append("\n".join([TIMED.format(repeats), *([PEAK] if cuda else [])]))
    quantities = COUNTS | (TIMES if repeats else {})
    for workload in workloads:
        rows = result.rows[workload.name]
        by_name = {(row.network, row.form): row for row in rows}
        parts += [f"## {workload.name}", describe_workload(workload), table(rows, timed=repeats > 0, cuda=cuda)]
        for of, to in (("textbook", "exact"), ("checkpoint", "exact")):
            if {of, to} <= {*settings["forms"]}:
                parts += [f"{of.capitalize()} / {to}:", form_ratios(by_name, settings["networks"], of, to, quantities)]
        parts += [f"Of {REFERENCE}:", reference_ratios(by_name, settings["networks"], settings["forms"], quantities)]
    return "\n\n".join(parts)


def describe_run(settings: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Device, precision and versions, in a line."""
    precision = f"{settings['amp']} autocast" if settings["amp"] else "float32"
    compiled = ["torch.compile"] if settings["compile"] else []
    versions = [f"{name} {value}" for name, value in environment.items() if name not in ("device", "threads")]
    return ", ".join([environment["device"], f"CPU threads {environment['threads']}", precision, *compiled, *versions])


def describe_workload(workload: Workload) -> str:
    """Input and widths, in a line."""
    patch = " x ".join(map(str, workload.patch_size))
    widths = ", ".join(map(str, workload.topology.features_per_stage))
    return (
        f"Patch {patch}, batch {workload.batch_size}, input channels {workload.input_channels}, classes {NUM_CLASSES}; "
        f"{workload.topology.n_stages} stages of {widths} features."
    )


def table(rows: Sequence[Row], *, timed: bool, cuda: bool) -> str:
    """All rows, nnU-Net's own networks first."""
    header = ["network", "form", "parameters", "multiply-adds, 10⁹", "needed, 10⁹", "kept, GiB"]
    header += ["step, s", "inference, s"] if timed else []
    header += ["peak, GiB"] if timed and cuda else []
    return markdown_table(header, [cells(row, timed=timed, cuda=cuda) for row in rows])


def cells(row: Row, *, timed: bool, cuda: bool) -> list[str]:
    """A row of the table."""
    billions = [f"{n / 1e9:,.2f}" for n in (row.counts.multiply_adds, row.counts.needed)]
    kept = f"{row.counts.kept_bytes / GIB:.3f}"
    counts = [row.network, row.form, f"{row.counts.parameters:,}", *billions, kept]
    if not timed:
        return counts
    if row.out_of_memory:
        return [*counts, "out of memory", "", *([""] if cuda else [])]
    times = [spread([getattr(sample, name) for sample in row.samples]) for name in TIMES]
    peak = [f"{max(sample.peak or 0 for sample in row.samples) / GIB:.3f}"] if cuda else []
    return [*counts, *times, *peak]


def spread(seconds: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{median(seconds):.4g} ({min(seconds):.4g} to {max(seconds):.4g})"


def form_ratios(
    rows: Mapping[tuple[str, str], Row],
    networks: Sequence[str],
    of: str,
    to: str,
    quantities: Mapping[str, Callable[[Row], float]],
) -> str:
    """One form against another, a row for every network that has both."""
    lines = [
        [name, *(ratio(quantity, rows[name, of], rows[name, to]) for quantity in quantities.values())]
        for name in networks
        if {(name, of), (name, to)} <= rows.keys()
    ]
    return markdown_table(["network", *quantities], lines)


def reference_ratios(
    rows: Mapping[tuple[str, str], Row],
    networks: Sequence[str],
    forms: Sequence[str],
    quantities: Mapping[str, Callable[[Row], float]],
) -> str:
    """What is kept, and a step's time where it was taken, of every form against the reference, a row a network."""
    forms = [form for form in ("", *forms) if any((network, form) in rows for network in networks)]
    columns = [(name, form) for name in ("kept", "step") if name in quantities for form in forms]
    lines = [
        [network, *(ratio(quantities[name], rows.get((network, form)), rows[REFERENCE, ""]) for name, form in columns)]
        for network in networks
        if any((network, form) in rows for form in forms)
    ]
    return markdown_table(["network", *(f"{name}, {form}" if form else name for name, form in columns)], lines)


def ratio(quantity: Callable[[Row], float], of: Row | None, to: Row) -> str:
    """One row's quantity by another's; `-` for what is not there: a row, or its times."""
    if of is None:
        return "-"
    if quantity in TIMES.values() and (of.out_of_memory or to.out_of_memory):
        return "-"
    return f"{quantity(of) / quantity(to):.2f}"

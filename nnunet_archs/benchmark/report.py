"""A benchmark's tables, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from nnunet_archs.measure.time import Sample
from nnunet_archs.tables import markdown_table

from .result import Result, Row
from .workloads import NUM_CLASSES, Workload

GIB = 2**30
REFERENCE = "PlainConvUNet"

COUNTED = """Multiply-adds: of a forward pass in training, of the whole batch and all supervised outputs, by torch's own
counter; needed: without those on zeros of the operators that upsample. Kept: memory that a forward pass in float32
leaves alive for backward, on the meta device. Expected peak: the most that a step of training under autocast takes, so
counted: the network, SGD's momentum and what backward computes, but no workspace of convolutions. Checkpoint: the
exact form, parts of it computed again in backward. All networks have the topology's features."""

TIMED = """Step: forward, the sum of the outputs' mean squares, backward, SGD. Inference: forward, one output, without
gradients. Median (least to most) of {} rounds in which all rows take turns, after one that is not counted."""

GRAPH = """Export: to ONNX. Inference: a patch in onnxruntime on the CPU, one output, the second run of a new process.
Memory: of that process at its peak, without that of its imports. Difference: of a logit from torch's, at most, with
random weights and a random patch. Median (least to most) of {} rounds in which all rows take turns."""

COMPILED = """First step: what torch.compile takes, with one step in training; the first row's has in it what inductor
prepares once a process. Eager: the same step, in every round just before the network is compiled. Compiled / eager: the
median of the rounds' ratios."""

KEPT_COMPILED = """Kept compiled: what the graph of torch.compile keeps, as inductor's rules divide it into forward and
backward."""

PEAK = "Peak: the most memory that torch allocates in a step, the network itself included."

# what rows are compared by
COUNTS: dict[str, Callable[[Row], float]] = {
    "needed multiply-adds": lambda row: row.counts.needed,
    "counted": lambda row: row.counts.multiply_adds,
    "kept": lambda row: row.counts.kept_bytes,
    "expected peak": lambda row: row.expected_peak,
}
TIMES: dict[str, Callable[[Row], float]] = {
    "step": lambda row: middle(row, "step"),
    "inference": lambda row: middle(row, "inference"),
}
GRAPH_COSTS: dict[str, Callable[[Row], float]] = {
    "export": lambda row: middle(row, "export"),
    "inference": lambda row: middle(row, "inference"),
    "memory": lambda row: middle(row, "memory"),
}
RATES: dict[str, Callable[[Row], float]] = {
    "inference a multiply-add": lambda row: middle(row, "inference") / row.counts.needed,
}
REFERRED = ("kept", "expected peak", "step", "export", "memory", *RATES)  # of these, against nnU-Net's own network
UNITS = {"memory": ("GiB", GIB), "difference": ("of logits", 1)}  # of what is not in seconds


def markdown(result: Result, workloads: Sequence[Workload]) -> str:
    """The page: what was measured and where, then a section a workload."""
    settings, environment = result.settings, result.environment
    repeats, cuda = settings["repeats"], "CUDA" in environment
    counted = "\n".join([COUNTED, KEPT_COMPILED] if settings["compile"] else [COUNTED])
    parts = ["# Benchmark", f"`{result.command}`", describe_run(settings, environment), counted]
    taken = (GRAPH_COSTS if settings["graph"] else TIMES) if repeats else {}
    if repeats:
        said = [(GRAPH if settings["graph"] else TIMED).format(repeats)]
        parts.append("\n".join([*said, *([COMPILED] if settings["compile"] else []), *([PEAK] if cuda else [])]))
    columns = [*taken, *(["difference"] if settings["graph"] and repeats else [])]
    quantities = COUNTS | taken
    referred = quantities | (RATES if repeats else {})
    for workload in workloads:
        rows = result.rows[workload.name]
        by_name = {(row.network, row.form): row for row in rows}
        parts += [
            f"## {workload.name}",
            describe_workload(workload),
            table(rows, columns, compiled=settings["compile"], cuda=cuda),
        ]
        for of, to in (("textbook", "exact"), ("checkpoint", "exact")):
            if {of, to} <= {*settings["forms"]}:
                parts += [f"{of.capitalize()} / {to}:", form_ratios(by_name, settings["networks"], of, to, quantities)]
        parts += [f"Of {REFERENCE}:", reference_ratios(by_name, settings["networks"], settings["forms"], referred)]
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


def table(rows: Sequence[Row], taken: Sequence[str], *, compiled: bool, cuda: bool) -> str:
    """All rows, nnU-Net's own networks first; `taken` is what the samples are of."""
    header = ["network", "form", "parameters", "multiply-adds, 10⁹", "needed, 10⁹", "kept, GiB"]
    header += ["kept compiled, GiB"] if compiled else []
    header += ["expected peak, GiB"]
    header += [f"{name}, {UNITS.get(name, ('s', 1))[0]}" for name in taken]
    header += ["first step, s", "eager, s", "compiled / eager"] if taken and compiled else []
    header += ["peak, GiB"] if taken and cuda else []
    return markdown_table(header, [cells(row, taken, compiled=compiled, cuda=cuda) for row in rows])


def cells(row: Row, taken: Sequence[str], *, compiled: bool, cuda: bool) -> list[str]:
    """A row of the table."""
    billions = [f"{n / 1e9:,.2f}" for n in (row.counts.multiply_adds, row.counts.needed)]
    kept = [row.counts.kept_bytes, *([row.counts.kept_compiled or 0] if compiled else []), row.expected_peak]
    counts = [row.network, row.form, f"{row.counts.parameters:,}", *billions, *(f"{n / GIB:.3f}" for n in kept)]
    if not taken:
        return counts
    if row.out_of_memory:
        return [*counts, "out of memory", *[""] * (len(taken) - 1 + 3 * compiled + cuda)]
    values = [spread(row, name) for name in taken]
    first = [f"{row.first or 0:.4g}", spread(row, "eager"), against_eager(row)] if compiled else []
    peak = [f"{max(getattr(sample, 'peak', 0) for sample in row.samples) / GIB:.3f}"] if cuda else []
    return [*counts, *values, *first, *peak]


def middle(row: Row, name: str) -> float:
    """The median of what a row's samples say; 0 for what no system here tells."""
    return median(getattr(sample, name) or 0 for sample in row.samples)


def spread(row: Row, name: str) -> str:
    """Median, least and most."""
    values = [(getattr(sample, name) or 0) / UNITS.get(name, ("s", 1))[1] for sample in row.samples]
    return f"{median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def against_eager(row: Row) -> str:
    """The median over the rounds of the compiled step by the eager one; `-` where there is none."""
    ratios = [sample.step / sample.eager for sample in row.samples if isinstance(sample, Sample) and sample.eager]
    return f"{median(ratios):.2f}" if ratios else "-"


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
    """What is kept, and what was taken of `REFERRED`, of every form against the reference, a row a network."""
    forms = [form for form in ("", *forms) if any((network, form) in rows for network in networks)]
    columns = [(name, form) for name in REFERRED if name in quantities for form in forms]
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
    if quantity not in COUNTS.values() and (of.out_of_memory or to.out_of_memory):
        return "-"
    return f"{quantity(of) / quantity(to):.2f}" if quantity(to) else "-"

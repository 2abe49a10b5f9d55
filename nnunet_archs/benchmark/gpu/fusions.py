"""Every source that a network upsamples, in both forms: which is faster, which the rule takes, which it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from nnunet_archs.benchmark.run import build, has_fusion, trainer_of
from nnunet_archs.benchmark.workloads import Workload
from nnunet_archs.measure.time import Execution, measure
from nnunet_archs.networks.parts.fusion import CONTRACTED, MOVED, UPSAMPLED, FusionConv, convolve_joined, is_fused, work
from nnunet_archs.networks.parts.separable import Interpolation, fuse
from nnunet_archs.networks.parts.topology import Axes
from nnunet_archs.tables import markdown_table

from .parts import Findings, Found, Measurement, Part, rank_of

PASSES = 5  # timed together: one alone may take less than a millisecond
INTRODUCTION = """Forward and backward of single sources that the networks have, in mixed precision, the mean of {}
passes: upsampled and convolved, or fused. Difference: the largest of both forms' values, in parts of the largest
value."""


@dataclass(frozen=True)
class Source:
    """Maps `(batch, in_channels, *in_size)` that are brought to `size` and convolved."""

    batch: int
    in_size: Axes
    size: Axes
    weight: Axes
    interpolation: Interpolation

    @property
    def name(self) -> str:
        """All that its time depends on."""
        out_channels, in_channels, *kernel = self.weight
        sizes = [" x ".join(map(str, axes)) for axes in (self.in_size, self.size, kernel)]
        channels = f"{in_channels} to {out_channels} channels"
        return f"{channels}, {sizes[0]} to {sizes[1]}, kernel {sizes[2]}, {self.interpolation}, batch {self.batch}"


def part(trainers: Sequence[str], workloads: Sequence[Workload], device: str) -> Part:
    """The sources of all networks, each once, those of the papers' networks first."""
    ranks: dict[Source, int] = {}
    for n, workload in enumerate(workloads):
        for name in trainers:
            trainer = trainer_of(name)
            if has_fusion(trainer.network_class) and len(workload.patch_size) in trainer.dimensions():
                for source in sources_of(name, workload):
                    ranks[source] = min(ranks.get(source, n + 2), n + 2 * rank_of(name))
    measurements = [Measurement(source.name, partial(both_forms, source, device), n) for source, n in ranks.items()]
    return Part("fusions", "Fusion: which form is faster", 2.5, 60, measurements, describe)


def sources_of(name: str, workload: Workload) -> Iterator[Source]:
    """The sources of a network that could be fused."""
    with torch.device("meta"):
        network, x = build(workload, name, "textbook"), torch.empty(*workload.shape)
    found: list[Source] = []

    def see(conv: FusionConv, args: Any, kwargs: Any, result: Tensor) -> None:
        out_channels, _, *kernel = conv.conv.weight.shape
        for source in args[0]:
            weight = (out_channels, source.shape[1], *kernel)
            size = tuple(source.shape[2:]), tuple(result.shape[2:])
            found.append(Source(source.shape[0], *size, weight, conv.interpolation))

    for module in network.modules():
        if isinstance(module, FusionConv):
            module.register_forward_hook(see, with_kwargs=True)
    with torch.no_grad():
        network(x)
    return (source for source in found if work(source.in_size, source.size, source.weight))


def both_forms(source: Source, device: str) -> Found:
    """Seconds of both forms, and what decides between them."""
    execution = Execution(torch.device(device), torch.float16 if device == "cuda" else None, False)
    torch.manual_seed(0)
    x = torch.randn(source.batch, source.weight[1], *source.in_size, device=device, requires_grad=True)
    fan_in = prod(source.weight[1:])
    weight = (torch.randn(*source.weight, device=device) / fan_in**0.5).requires_grad_()
    size, how = list(source.size), source.interpolation
    forms: dict[str, Callable[[], Tensor]] = {
        "upsampled": lambda: convolve_joined([x], [weight], None, size, how),
        "fused": lambda: fuse([x], [weight], size, how),
    }
    seconds, values = {}, {}
    for form, run in forms.items():
        seconds[form] = measure(partial(passes, run, [x, weight], execution), execution.device)[0] / PASSES
        with torch.no_grad(), execution.autocast():
            values[form] = run().float()
    scale = values["upsampled"].abs().max()
    terms = work(source.in_size, source.size, source.weight)
    return {
        **seconds,
        "rule": is_fused(source.in_size, source.size, weight),
        "difference": float((values["fused"] - values["upsampled"]).abs().max() / scale),
        "terms": [source.batch * n for form in terms or () for n in form],
    }


def passes(run: Callable[[], Tensor], inputs: Sequence[Tensor], execution: Execution) -> None:
    """Some passes forward and backward."""
    for _ in range(PASSES):
        with execution.autocast():
            y = run()
        torch.autograd.grad(y, inputs, torch.ones_like(y))


def describe(findings: Findings) -> str:
    """The table, what each way to choose takes, and the rule's constants as they would be here."""
    rows = []
    for name, found in findings.items():
        faster = "fused" if found["fused"] < found["upsampled"] else "upsampled"
        rule = "fused" if found["rule"] else "upsampled"
        times = [f"{1e3 * found[form]:.3g}" for form in ("upsampled", "fused")]
        marked = faster if faster == rule else f"**{faster}**"
        rows.append([name, *times, marked, rule, f"{found['difference']:.1e}"])
    header = ["source", "upsampled, ms", "fused, ms", "faster", "the rule takes", "difference"]
    return "\n\n".join([INTRODUCTION.format(PASSES), markdown_table(header, rows), summary(list(findings.values()))])


def summary(found: Sequence[Found]) -> str:
    """The total time of all sources by the rule, the other ways to choose, and the rule with fitted constants."""
    terms = np.array([source["terms"] for source in found], dtype=float)
    upsampled, fused = (np.array([source[form] for source in found]) for form in ("upsampled", "fused"))
    constants = fitted(terms, upsampled, fused)
    by_fit = terms[:, :3] @ constants[:3] < terms[:, 3:] @ constants[[0, 3]]
    choices = {
        "the rule": np.array([source["rule"] for source in found]),
        "always fused": np.ones(len(found), dtype=bool),
        "always upsampled": np.zeros(len(found), dtype=bool),
        "the rule with the fitted constants": by_fit,
    }
    best = np.minimum(upsampled, fused).sum()
    said = [f"{way} {np.where(chosen, fused, upsampled).sum() / best:.2f}" for way, chosen in choices.items()]
    now = f"UPSAMPLED, CONTRACTED, MOVED = {UPSAMPLED}, {CONTRACTED}, {MOVED}"
    unit, contracted, moved, per_value = constants
    here = ", ".join(f"{value / unit:.3g}" for value in (per_value, contracted, moved)) if unit else "not determined"
    return f"Times of the faster form of every source: {', '.join(said)}. The rule has {now}; fitted here: {here}."


def fitted(terms: np.ndarray[Any, Any], upsampled: np.ndarray[Any, Any], fused: np.ndarray[Any, Any]) -> Any:
    """Seconds of a multiply-add, of one of a contraction, of a value it adds to and of an upsampled one.

    By least squares of the relative error, none negative, as docs/fusion.md has it.
    """
    none = np.zeros(len(terms))
    products, contracted, moved, convolved, values = terms.T
    of_fused = np.stack([products, contracted, moved, none], axis=1) / fused[:, None]
    of_upsampled = np.stack([convolved, none, none, values], axis=1) / upsampled[:, None]
    rows = np.concatenate([of_fused, of_upsampled])
    scale = rows.max(axis=0).clip(min=np.finfo(float).tiny)  # the columns differ by orders of magnitude
    return nnls(rows / scale, np.ones(len(rows)))[0] / scale

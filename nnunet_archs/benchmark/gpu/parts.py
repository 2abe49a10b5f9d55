"""What a run is made of: parts, each a list of measurements, and what one of them gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Found: TypeAlias = dict[str, Any]  # what a measurement gives, as JSON
Findings: TypeAlias = Mapping[str, Found]  # by the measurements' names

GIB = 2**30
# the networks of the five papers, beside nnU-Net's: measured before all others
MAIN = (
    "PlainConvUNetTrainer",
    "UNetSharpTrainer",
    "UNet3PlusTrainer",
    "CAggNetTrainer",
    "CrosslinkNetTrainer",
    "FocusNetPlusPlusTrainer",
    "ImprovedSkipUNetTrainer",
    "UNetPlusPlusTrainer",
    "VNetSharpTrainer",
    "ResidualEncoderUNetTrainer",
)


@dataclass(frozen=True)
class Measurement:
    """A name, and what is called in another process; of a part the least in `rank` come first."""

    name: str
    take: Callable[[], Found]
    rank: int = 0


@dataclass(frozen=True)
class Part:
    """Measurements of one kind, and the Markdown of what they gave.

    `minutes` is the part's share of 25, `limit` the most seconds that one measurement may take.
    """

    name: str
    title: str
    minutes: float
    limit: float
    measurements: Sequence[Measurement]
    describe: Callable[[Findings], str]
    skipped: str | None = None  # why it cannot be measured here


def rank_of(trainer: str) -> int:
    """0 for the networks of the five papers, 1 for the others."""
    return int(trainer not in MAIN)


def gib(n: float | None) -> str:
    """Bytes in GiB; `-` for what no CPU tells."""
    return "-" if n is None else f"{n / GIB:.2f}"

"""Lengths that a user gives in mm or in voxels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Length:
    """A length, as the margin round a region."""

    length: float
    is_mm: bool

    def __str__(self) -> str:
        return f"{self.length:g}{'mm' if self.is_mm else 'voxels'}"

    def voxels(self, spacing: Sequence[float]) -> list[int]:
        """Whole voxels of each axis that make at least this length."""
        return [int(np.ceil(self.length / size)) for size in self.units(spacing)]

    def units(self, spacing: Sequence[float]) -> tuple[float, ...]:
        """The size of a voxel in the units of this length, along each axis."""
        return tuple(map(float, spacing)) if self.is_mm else (1.0,) * len(spacing)


def length_of(text: str, option: str) -> Length:
    """A length of what the user gives to an option. Raises ValueError where it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(mm|voxels?)", text)
    if not match:
        raise ValueError(f"--{option} {text} is no length: give one as 10mm or 8voxels")
    return Length(float(match[1]), match[2] == "mm")

"""A decoder without a grid: every stage takes what the stage below gives and its skip connection."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Decoder(nn.ModuleList):
    """Stages, the full resolution first, each called with the features below it and its skip connection's."""

    def forward(self, y: Tensor, skips: Sequence[Tensor]) -> list[Tensor]:
        """The deepest features `(B, C, *spatial)` and one skip connection a stage to the features of all stages."""
        decoded: list[Tensor] = []
        for stage, skip in zip(reversed(self), reversed(skips), strict=True):
            y = stage(y, skip)
            decoded.insert(0, y)
        return decoded

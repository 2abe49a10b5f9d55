"""The attention loss of Crosslink-Net (section III.B, Eq. 1).

It asks the maps A_V and A_H of two branches to agree with each other and with the mask M, the truth pooled to their
size. With Z the map minus its mean and divided by its standard deviation, and the mean over a sample's N positions:

    triple    -mean(Z_V Z_H Z_M) / sqrt(N): Eq. 1
    pairwise  -(mean(Z_V Z_M) + mean(Z_H Z_M) + mean(Z_V Z_H)) / 3, the mean of their correlations

Eq. 1 is said to maximise a correlation, but three factors make it a coskewness. It stays the same if both maps are
inverted. Perfect maps of a fraction f of foreground reach -(1 - 2f) / sqrt(N f (1 - f)): nothing at f = 0.5, and a
loss, not a gain, beyond. `pairwise` is what the text describes; at -1 all are equal up to scale.

What the paper leaves open: several classes or regions make one mask, their union. Where the ignore label covers a part
of a position, mask and weight are of the rest. A sample whose mask is constant has no correlation, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import no_autocast
from .target import foreground_and_valid

AttentionMode = Literal["triple", "pairwise"]

# a map of a smaller variance is constant: its mean is exact to 1e-7, and there is no gradient in what rounding leaves
FLAT = 1e-10


class AttentionLoss(nn.Module):
    """Eq. 1, or its pairwise form, of the attention logits of two branches (pairwise: of any number).

    With maps of several `blocks` it is the mean over the blocks. `regions` and `ignore_label` as in `SegmentationLoss`.

    Raises:
        ValueError: for a mode that does not exist.
    """

    def __init__(
        self,
        *,
        mode: AttentionMode = "triple",
        blocks: int = 1,
        regions: bool = False,
        ignore_label: int | None = None,
    ) -> None:
        super().__init__()
        if mode not in get_args(AttentionMode):
            raise ValueError(f"mode={mode!r}: give one of {', '.join(get_args(AttentionMode))}")
        self.mode = mode
        self.blocks = blocks
        self.regions = regions
        self.ignore_label = ignore_label

    def forward(self, attention: Sequence[Tensor], target: Tensor) -> Tensor:
        """Logits, each `(B, 1, *spatial_att)`, and nnU-Net's target at full resolution to a float32 scalar.

        Raises:
            ValueError: for a number of maps that the mode is not defined for.
        """
        branches = len(attention) // self.blocks
        if self.mode == "triple" and branches != 2:
            raise ValueError(f"mode='triple' with {branches} maps: Eq. 1 is for two; give mode='pairwise'")
        with no_autocast(target.device.type):
            foreground, valid = foreground_and_valid(target, regions=self.regions, ignore_label=self.ignore_label)
            blocks = [attention[k : k + branches] for k in range(0, len(attention), branches)]
            return torch.stack([self.of_block(maps, foreground, valid) for maps in blocks]).mean()

    def of_block(self, attention: Sequence[Tensor], foreground: Tensor, valid: Tensor | None) -> Tensor:
        """The loss of one block's maps."""
        mask, weight = pool_truth(foreground, valid, attention[0].shape[2:])
        logits = torch.cat(list(attention), dim=1).float().masked_fill(weight == 0, 0)
        return self.compute(torch.cat([logits.sigmoid(), mask], dim=1).flatten(2), weight.flatten(2))

    def compute(self, maps: Tensor, weight: Tensor) -> Tensor:
        """Maps `(B, branches + 1, N)`, the mask the last, and their weight `(B, 1, N)` to a scalar."""
        # what is ignored altogether weighs 0, and its mean is 0
        total = weight.sum(2, keepdim=True).clamp(min=1e-6)
        centred = maps - (weight * maps).sum(2, keepdim=True) / total
        variance = (weight * centred.square()).sum(2, keepdim=True) / total
        z = (centred / variance.clamp(min=FLAT).sqrt()).unbind(1)
        weight, total = weight[:, 0], total[:, 0, 0]
        if self.mode == "triple":
            score = (weight * z[0] * z[1] * z[2]).sum(1) / (total * total.sqrt())
        else:
            score = torch.stack([(weight * a * b).sum(1) / total for a, b in combinations(z, 2)]).mean(0)
        # samples left out stay in the graph: the head of the attention has a gradient, if zero, as DDP demands
        counts = variance[:, -1, 0] > FLAT
        return -(score * counts).sum() / counts.sum().clamp(min=1)


def pool_truth(foreground: Tensor, valid: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Fraction of foreground in the valid voxels of every position, and of valid in all: `(B, 1, *size)`, float32."""
    pool: Callable[..., Tensor] = F.adaptive_avg_pool3d if foreground.ndim == 5 else F.adaptive_avg_pool2d
    mask = pool(foreground.float(), tuple(size))
    if valid is None:
        return mask, torch.ones_like(mask)
    weight = pool(valid.float(), tuple(size))
    return mask / weight.masked_fill(weight == 0, 1), weight

"""Deep supervision with any pairing of outputs and targets.

nnU-Net's own wrapper zips outputs, targets and weights. Papers that supervise several outputs of one
resolution (the pruning heads of UNet++, arXiv:1807.10165, and UNet#, arXiv:2205.11759, section 2.2) have
more outputs than targets, and zip would drop the surplus without a word.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DeepSupervisionLoss(nn.Module):
    """Weighted sum of a loss over outputs, where output b is compared with `targets[stages[b]]`.

    An output of weight 0 stays in the sum, so that its head has a (zero) gradient, as DDP demands.
    """

    def __init__(self, loss: nn.Module, stages: Sequence[int], weights: Sequence[float]) -> None:
        super().__init__()
        if not stages or len(stages) != len(weights):
            raise ValueError(f"one stage and one weight an output: got {len(stages)} stages, {len(weights)} weights")
        if min(stages) < 0:
            raise ValueError(f"stages count from 0, the full resolution: got {list(stages)}")
        self.loss = loss
        self.stages = tuple(stages)
        self.weights = tuple(weights)

    def forward(self, outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Return the loss of outputs, each `(B, C, *spatial)` on the grid of its target."""
        if len(outputs) != len(self.stages):
            raise ValueError(f"{len(outputs)} outputs, but the loss was built for {len(self.stages)}")
        if len(targets) <= max(self.stages):
            raise ValueError(f"{len(targets)} targets, but the stages {list(self.stages)} need {max(self.stages) + 1}")
        terms = zip(outputs, self.stages, self.weights, strict=True)
        return torch.stack([weight * self.loss(output, targets[stage]) for output, stage, weight in terms]).sum()

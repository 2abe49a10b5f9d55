"""A loss beside the segmentation's, on what a network returns for it alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class AuxiliaryLoss(nn.Module):
    """Segmentation loss of a network's logits, plus `weight` times a loss of what follows them in training.

    The first `n_branches` outputs are logits. Those at the tail (attention maps, classifications) go to `auxiliary`
    with the target of full resolution. In evaluation there is no tail, and the segmentation loss stands alone.
    """

    def __init__(self, segmentation: nn.Module, auxiliary: nn.Module, *, weight: float, n_branches: int) -> None:
        super().__init__()
        self.segmentation = segmentation
        self.auxiliary = auxiliary
        self.weight = weight
        self.n_branches = n_branches

    def forward(self, outputs: Tensor | Sequence[Tensor], targets: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the sum of both; `targets` is a list with deep supervision, as nnU-Net has it."""
        if isinstance(outputs, Tensor):
            return self.segmentation(outputs, targets)
        branches, tail = outputs[: self.n_branches], outputs[self.n_branches :]
        full = targets if isinstance(targets, Tensor) else targets[0]
        loss = self.segmentation(branches[0] if isinstance(targets, Tensor) else branches, targets)
        return loss + self.weight * self.auxiliary(tail, full) if tail else loss

"""What the losses of all papers share: their signature, and float32 under autocast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from .target import Comparison, compare


class LabelKwargs(TypedDict, total=False):
    """What every loss is told of the data set and of the training."""

    regions: bool
    ignore_label: int | None
    batch_dice: bool
    ddp: bool


class SegmentationLoss(nn.Module, ABC):
    """A scalar loss of logits `(B, C, *spatial)` against nnU-Net's target `(B, 1 | R | R + 1, *spatial)`.

    `regions` reads the target as regions, with sigmoid logits. A voxel under the ignore label has no
    influence on value or gradient; a batch in which no voxel is valid gives 0. `batch_dice` takes overlaps
    over the whole batch in place of each sample, and with `ddp` over the batches of all processes.
    """

    def __init__(
        self,
        *,
        regions: bool = False,
        ignore_label: int | None = None,
        batch_dice: bool = False,
        ddp: bool = False,
    ) -> None:
        super().__init__()
        self.regions = regions
        self.ignore_label = ignore_label
        self.batch_dice = batch_dice
        self.ddp = ddp

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a float32 scalar, whatever autocast and the dtype of `logits` say."""
        # half precision overflows at 65504, so that even the voxels of one patch cannot be counted in it
        with no_autocast(logits.device.type):
            return self.compute(compare(logits, target, regions=self.regions, ignore_label=self.ignore_label))

    @abstractmethod
    def compute(self, batch: Comparison) -> Tensor:
        """Return the loss of one batch."""


def no_autocast(device_type: str) -> AbstractContextManager[object]:
    """Autocast switched off on a device."""
    # torch.autocast refuses a device that has none (meta, and mps in older versions), even to switch it off
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type=device_type, enabled=False)

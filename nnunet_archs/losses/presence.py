"""The loss of UNet#'s classification-guided modules (arXiv:2205.11759, section 2.3).

"The classification that is optimized by the BCE loss function": binary cross-entropy of the softmax of two logits is
their cross-entropy. The paper asks whether the image shows its one class; here each foreground class or region is
asked for, in the patch of full resolution, at every branch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .target import truth_and_valid

UNKNOWN = -1


class PresenceLoss(nn.Module):
    """Cross-entropy of answers (absent, present) `(B, K, 2)`, one a branch, for the K channels of the logits.

    The mean over branches, samples and foreground classes or regions; 0 if there is none whose presence is known.
    One that shows nowhere, in a patch with voxels under the ignore label, may be there: it has no influence.
    """

    def __init__(self, *, regions: bool = False, ignore_label: int | None = None) -> None:
        super().__init__()
        self.regions = regions
        self.ignore_label = ignore_label

    def forward(self, answers: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the loss, a float32 scalar, against nnU-Net's target `(B, 1 | R | R + 1, *spatial)`."""
        # half precision may be what the network answers in, but not what a loss is computed in; autocast agrees
        z = torch.stack(list(answers)).float()
        presence = self.presence(target, z.shape[2])
        z = z[:, :, -presence.shape[1] :]  # the background is not asked for
        known = (presence != UNKNOWN).sum() * z.shape[0]
        truth = presence.expand(z.shape[:-1])
        terms = F.cross_entropy(z.flatten(0, 2), truth.flatten(), ignore_index=UNKNOWN, reduction="sum")
        return terms / known.clamp(min=1)

    def presence(self, target: Tensor, n_channels: int) -> Tensor:
        """Whether each sample shows each foreground class or region: 1, 0 or UNKNOWN, `(B, F)`."""
        shape = (target.shape[0], n_channels, *target.shape[2:])
        truth, valid = truth_and_valid(target, shape, regions=self.regions, ignore_label=self.ignore_label)
        present = (truth if self.regions else truth[:, 1:]).flatten(2).any(2)
        if valid is None:
            return present.long()
        hidden = ~valid.flatten(1).all(1, keepdim=True)
        return present.long().masked_fill(~present & hidden, UNKNOWN)

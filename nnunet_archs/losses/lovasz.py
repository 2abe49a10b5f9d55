"""Lovász hinge, after Yu and Blaschko, arXiv:1512.07797, and Berman et al., arXiv:1705.08790, Algorithm 1.

The Jaccard loss is defined on sets of mistaken voxels. Its Lovász extension makes it a function of how
large each mistake is: sort the voxels by falling hinge, and weigh each by what its mistake adds to the
Jaccard loss of those before it. As long as the order stands the extension is linear, and these weights are
its gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .target import Comparison


def lovasz_hinge(batch: Comparison) -> Tensor:
    """Lovász extension of the Jaccard loss, mean over images and foreground, `(B, C, *spatial)` to a scalar.

    The hinge is relu(1 - z (2y - 1)) on the logit z of a class against the rest. A class that is absent from
    truth costs its largest hinge.
    """
    logit, truth = batch.foreground_logit, batch.foreground
    hinge = (1 + torch.where(truth, -logit, logit)).relu()
    if batch.valid is not None:
        # a hinge of 0 sorts behind every mistake and is worth nothing: the voxel is out of the sum
        hinge = hinge.masked_fill(~batch.valid, 0)
    hinge, truth = hinge.flatten(2), truth.flatten(2)
    return (hinge * _jaccard_increase(hinge, truth)).sum(-1).mean()


@torch.no_grad()
def _jaccard_increase(hinge: Tensor, truth: Tensor) -> Tensor:
    """Increase of the Jaccard loss when voxels `(B, F, N)` turn wrong one after another, by falling hinge.

    A wrong voxel leaves the intersection if it is in truth, and enters the union if it is not:

        I/U - (I - 1)/U = 1/U        and        I/U - I/(U + 1) = (I/U)/(U + 1).

    So the increase is known in closed form. No two Jaccard indices of nearly equal value are subtracted,
    which on a 3D patch in float32 would leave little but noise. Counts are integers, exact up to 2^31
    voxels an image.
    """
    order = hinge.argsort(dim=-1, descending=True)
    wrong = truth.gather(-1, order)
    lost = wrong.cumsum(-1, dtype=torch.int32)
    positives = lost[..., -1:]
    rank = torch.arange(1, truth.shape[-1] + 1, dtype=torch.int32, device=truth.device)
    intersection = positives - lost
    union = positives + rank - lost
    # the index before a false positive; 1 before the first of an empty truth: nothing to find, none found
    index = torch.where(union == 1, 1.0, intersection / (union - 1))
    increase = torch.where(wrong, 1.0, index) / union
    return torch.zeros_like(hinge).scatter_(-1, order, increase)

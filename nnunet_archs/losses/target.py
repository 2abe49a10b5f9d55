"""Logits and target of a batch, read alike for label maps, regions and the ignore label.

nnU-Net hands a loss one of three targets:

- a label map `(B, 1, *spatial)`, integer, for softmax logits `(B, K, *spatial)`, channel 0 the background;
- regions `(B, R, *spatial)`, bool, for sigmoid logits `(B, R, *spatial)`, no background channel;
- regions with an ignore label: one more, last channel, bool or float, that marks the ignored voxels.

`compare` turns each of them into a `Comparison`, the vocabulary in which the losses are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Comparison:
    """A batch of logits and their truth, one channel of truth for each logit.

    Under the ignore label logits and truth are constants (0, and False or background): what the network said
    there reaches neither a value nor a gradient, be it infinite.
    """

    logits: Tensor  # (B, C, *spatial), float32
    truth: Tensor  # (B, C, *spatial), bool
    valid: Tensor | None  # (B, 1, *spatial), bool; None where no voxel can be ignored
    regions: bool

    @property
    def foreground(self) -> Tensor:
        """Truth of the foreground classes or regions, `(B, F, *spatial)`, bool."""
        return self.truth if self.regions else self.truth[:, 1:]

    @property
    def foreground_probability(self) -> Tensor:
        """Predicted probability of each foreground class or region, `(B, F, *spatial)`."""
        return self.logits.sigmoid() if self.regions else self.logits.softmax(1)[:, 1:]

    @property
    def foreground_logit(self) -> Tensor:
        """Each foreground class' or region's logit against all that is not it, `(B, F, *spatial)`.

        Its sigmoid is `foreground_probability`. Softmax: z_c - logsumexp_{k != c} z_k, so z_1 - z_0 at K = 2.
        """
        return self.logits if self.regions else _one_vs_rest(self.logits)

    @property
    def is_foreground(self) -> Tensor:
        """Whether the answer to each of a voxel's questions is foreground, bool.

        Softmax asks one question a voxel, `(B, 1, *spatial)`; regions ask one a channel, `(B, R, *spatial)`.
        """
        return self.truth if self.regions else ~self.truth[:, :1]

    @property
    def true_log_probability(self) -> Tensor:
        """Log-probability log p_t of the true answer to each question, in the shape of `is_foreground`."""
        if self.regions:
            return F.logsigmoid(torch.where(self.truth, self.logits, -self.logits))
        return self.logits.log_softmax(1).masked_fill(~self.truth, 0).sum(1, keepdim=True)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of `values` `(B, Q, *spatial)` over the batch's valid voxels and Q; 0 if there are none."""
        if self.valid is None:
            return values.mean()
        return (values * self.valid).sum() / (self.valid.sum() * values.shape[1]).clamp(min=1)


def compare(logits: Tensor, target: Tensor, *, regions: bool = False, ignore_label: int | None = None) -> Comparison:
    """Pair logits `(B, C, *spatial)` with a target of nnU-Net's, in float32.

    With regions, only whether there is an `ignore_label` matters, not its value.
    """
    truth, valid = truth_and_valid(target, logits.shape, regions=regions, ignore_label=ignore_label)
    logits = logits.float()
    return Comparison(logits if valid is None else logits.masked_fill(~valid, 0), truth, valid, regions)


def truth_and_valid(
    target: Tensor, shape: Sequence[int], *, regions: bool, ignore_label: int | None
) -> tuple[Tensor, Tensor | None]:
    """One channel of truth a logit, for logits of shape `(B, C, *spatial)`, and `valid_voxels`, both bool."""
    _check_shapes(shape, target, regions=regions, ignore=ignore_label is not None)
    valid = valid_voxels(target, regions=regions, ignore_label=ignore_label)
    if regions:
        truth = target[:, : shape[1]].bool()
        return truth if valid is None else truth & valid, valid
    labels = target if valid is None else target.masked_fill(~valid, 0)
    # scatter, not a comparison with all labels: a label that has no logit raises instead of being skipped
    return torch.zeros(*shape, dtype=torch.bool, device=target.device).scatter_(1, labels.long(), True), valid


def foreground_and_valid(target: Tensor, *, regions: bool, ignore_label: int | None) -> tuple[Tensor, Tensor | None]:
    """Valid voxels of any foreground class or region, and `valid_voxels`, both `(B, 1, *spatial)`, bool."""
    valid = valid_voxels(target, regions=regions, ignore_label=ignore_label)
    if regions:
        truth = target if valid is None else target[:, :-1]
        foreground = truth.bool().any(1, keepdim=True)
    else:
        foreground = target > 0
    return foreground if valid is None else foreground & valid, valid


def valid_voxels(target: Tensor, *, regions: bool, ignore_label: int | None) -> Tensor | None:
    """Voxels that are not under the ignore label, `(B, 1, *spatial)`, bool; None where none can be."""
    if ignore_label is None:
        return None
    return ~target[:, -1:].bool() if regions else target != ignore_label


def _check_shapes(shape: Sequence[int], target: Tensor, *, regions: bool, ignore: bool) -> None:
    channels = shape[1] + ignore if regions else 1
    expected = (shape[0], channels, *shape[2:])
    if tuple(target.shape) != expected:
        kind = "regions" if regions else "a label map"
        raise ValueError(
            f"target of shape {tuple(target.shape)} does not fit logits of shape {tuple(shape)}: "
            f"{kind} {'with' if ignore else 'without'} an ignore label must be {expected}"
        )


def _one_vs_rest(logits: Tensor) -> Tensor:
    """Return z_c - logsumexp_{k != c} z_k for every c >= 1.

    The rest of c is what stands before it and what stands behind it. Two running log-sum-exps therefore serve
    all classes, with memory linear in K, and never meet log(1 - p), which is -inf for a saturated p.
    """
    channels = logits.unbind(1)
    before = list(accumulate(channels, torch.logaddexp))
    behind = list(accumulate(reversed(channels), torch.logaddexp))[::-1]
    rest = [torch.logaddexp(a, b) for a, b in zip(before[:-2], behind[2:], strict=True)] + before[-2:-1]
    return logits[:, 1:] - torch.stack(rest, 1)

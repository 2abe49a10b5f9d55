"""Dice and Tversky of the whole batch, over processes; both in one start of them, which takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from examples import IGNORE, example
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from nnunet_archs.losses import AdaptiveLogHybridLoss, Comparison, ExponentialLogLoss, HybridLoss, compare

Overlap = Callable[[Comparison], Tensor]


def overlaps(*, ddp: bool) -> dict[str, Overlap]:
    return {
        "Dice": HybridLoss(ignore_label=IGNORE, batch_dice=True, ddp=ddp).dice,
        "exponential logarithmic Dice": ExponentialLogLoss(ignore_label=IGNORE, batch_dice=True, ddp=ddp).dice,
        "Tversky": AdaptiveLogHybridLoss(ignore_label=IGNORE, batch_dice=True, ddp=ddp).tversky,
    }


def value_and_gradient(
    overlap: Callable[[Comparison], Tensor], logits: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = overlap(compare(logits, target, ignore_label=IGNORE))
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def _one_process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    logits, target = example(3, (5, 6), regions=False, ignore=True)
    own = slice(rank, rank + 1)
    results = {k: value_and_gradient(overlap, logits[own], target[own]) for k, overlap in overlaps(ddp=True).items()}
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_overlaps_of_a_batch_span_processes(tmp_path: Path) -> None:
    spawn(_one_process, (str(tmp_path),), nprocs=2)
    logits, target = example(3, (5, 6), regions=False, ignore=True)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, overlap in overlaps(ddp=False).items():
        whole, gradient = value_and_gradient(overlap, logits, target)
        for rank, results in enumerate(found):
            value, own_gradient = results[name]
            torch.testing.assert_close(value, whole)
            # the processes' gradients are averaged later, hence twice that of the whole, as nnU-Net's Dice has it
            torch.testing.assert_close(own_gradient, 2 * gradient[rank : rank + 1])

"""Time of a network, and its memory on CUDA."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .memory import Outputs

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Execution:
    """How a network is run; `amp` is autocast's type, None without it."""

    device: torch.device
    amp: torch.dtype | None
    compiled: bool

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision, or nothing."""
        return nullcontext() if self.amp is None else torch.autocast(self.device.type, self.amp)


@dataclass(frozen=True)
class Sample:
    """Seconds of a training step and of inference; the step's peak of memory on CUDA, in bytes.

    `eager` are the seconds of the step before the network was compiled, None where it was not.
    """

    step: float
    inference: float
    peak: int | None
    eager: float | None = None


def sample(build: Callable[[], Any], shape: Sequence[int], execution: Execution) -> Sample:
    """Time a new network, the only one in memory, on a random input `(B, C, *spatial)`."""
    device = execution.device
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what the network before left is of other sizes
    with device:
        network, x = build(), torch.randn(*shape)
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE)
    training, eager = partial(train, network, optimizer, x, execution), None
    if execution.compiled:
        training()  # both steps then find the memory that they need
        eager, _ = measure(training, device)
        network.compile(dynamic=False)
    step, peak = measure(training, device)
    optimizer.zero_grad()
    network.eval()
    network.decoder.deep_supervision = False
    inference, _ = measure(partial(infer, network, x, execution), device)
    return Sample(step, inference, peak, eager)


def measure(run: Callable[[], None], device: torch.device) -> tuple[float, int | None]:
    """Seconds that a call takes, and the peak of memory on CUDA, in bytes."""
    if device.type != "cuda":
        started = time.perf_counter()
        run()
        return time.perf_counter() - started, None
    run()  # gets the memory from the driver, which in a training happens once
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    started = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started, torch.cuda.max_memory_allocated(device)


def train(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, execution: Execution) -> None:
    """A training step."""
    optimizer.zero_grad()
    with execution.autocast():
        outputs = network(x)
    mean_squares(outputs).backward()
    optimizer.step()


def mean_squares(outputs: Outputs) -> Tensor:
    """The loss of a step that is measured: the sum of the outputs' mean squares."""
    losses = [y.float().square().mean() for y in (outputs if isinstance(outputs, list) else [outputs])]
    return torch.stack(losses).sum()


@torch.no_grad()
def infer(network: nn.Module, x: Tensor, execution: Execution) -> None:
    """A forward pass without gradients."""
    with execution.autocast():
        network(x)

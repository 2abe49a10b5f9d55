"""Optimisers with their rates over the epochs: nnU-Net's, a paper's, and what a trainer's name puts in their place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import nn, optim

Optimiser: TypeAlias = Literal["SGD", "Adam"]
MOMENTS: dict[Optimiser, int] = {"SGD": 1, "Adam": 2}  # tensors kept for every parameter


@dataclass(frozen=True)
class Schedule:
    """The rate of an epoch: `rate(initial rate, epoch from 0, epochs of the training)`."""

    words: str
    rate: Callable[[float, int, int], float]


def cosine(lowest: float = 0.0) -> Schedule:
    """Half a cosine from the initial rate to the lowest, which an epoch after the last would have."""

    def rate(initial: float, epoch: int, epochs: int) -> float:
        return lowest + (initial - lowest) * (1 + math.cos(math.pi * epoch / epochs)) / 2

    return Schedule(f"half a cosine to {lowest:g}", rate)


def steps(*epochs: int) -> Schedule:
    """The initial rate, a tenth of it from the first of these epochs on, a hundredth from the second on."""

    def rate(initial: float, epoch: int, _: int) -> float:
        return initial / 10 ** sum(epoch >= step for step in epochs)

    return Schedule(f"a tenth of it from epochs {', '.join(map(str, epochs))} on", rate)


CONSTANT = Schedule("constant", lambda initial, epoch, epochs: initial)
POLYNOMIAL = Schedule("nnU-Net's", lambda initial, epoch, epochs: initial * (1 - epoch / epochs) ** 0.9)
COSINE = cosine()


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """An optimiser, its initial rate and weight decay, and the rate's schedule."""

    optimiser: Optimiser
    rate: float
    weight_decay: float = 0.0
    schedule: Schedule

    def make(self, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
        """The optimiser of these parameters."""
        if self.optimiser == "SGD":  # momentum as nnU-Net has it
            return optim.SGD(parameters, self.rate, weight_decay=self.weight_decay, momentum=0.99, nesterov=True)
        return optim.Adam(parameters, self.rate, weight_decay=self.weight_decay)


NNUNET = Optimisation(optimiser="SGD", rate=1e-2, weight_decay=3e-5, schedule=POLYNOMIAL)
ADAM = Optimisation(optimiser="Adam", rate=1e-3, schedule=POLYNOMIAL)  # torch's default rate


class EpochRate:
    """What nnU-Net calls its scheduler: it sets the rate of an epoch, and has no state that a checkpoint would need."""

    def __init__(self, optimizer: optim.Optimizer, chosen: Optimisation, epochs: int) -> None:
        self.optimizer = optimizer
        self.chosen = chosen
        self.epochs = epochs

    def step(self, epoch: int) -> None:
        """Set the rate of an epoch."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.chosen.schedule.rate(self.chosen.rate, epoch, self.epochs)

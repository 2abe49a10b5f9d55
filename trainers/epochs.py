"""Epochs in which every case is seen once, and the same ones whenever a run goes on from its checkpoint.

nnU-Net's loader draws cases with replacement, crops them at random, and keeps no state: after an interruption, a run
goes on with other batches than it would have had. Here a batch depends on the run's seed and on its own number alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from math import ceil
from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from typing_extensions import override

Corner = tuple[int, ...]


class EpochLoader(nnUNetDataLoader):
    """Batches whose epochs have every case once, or as many patches of it as cover it where it is larger than one.

    With a seed the cases come in an order that is new in every epoch, each patch at a random place (in 2D of a slice
    that is its own); without one the patches cover each case, in the data set's order. The last batch of an epoch is
    what is left. `rank` of `world_size` processes gets its share of every batch, and at least one patch; `n_workers`
    processes of its own, if any, make its batches by turns.
    """

    def __init__(
        self,
        *loader: Any,
        seed: int | None = None,
        first_epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        n_workers: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(*loader, **options)
        self.seed = seed
        self.first_epoch = first_epoch
        self.rank, self.world_size = rank, world_size
        self.n_workers = n_workers
        self.batch_size: int  # nnU-Net reads it for every batch
        self.whole_batch = self.batch_size  # of all processes, the last batch apart
        self.patches = [
            (case, corner)
            for case in self.indices
            for corner in corners(self._data.load_case(case)[0].shape[1:], self.patch_size)
        ]
        self.n_batches = ceil(len(self.patches) / self.whole_batch)
        self.number: int | None = None
        self.corners: Iterator[Corner] = iter(())

    @override
    def generate_train_batch(self) -> dict[str, Any]:
        self.number = self.thread_id if self.number is None else self.number + max(1, self.n_workers)
        with seeded(self.seed or 0, self.first_epoch * self.n_batches + self.number, self.rank):
            batch: dict[str, Any] = super().generate_train_batch()
        return batch

    @override
    def get_indices(self) -> list[str]:
        assert self.number is not None
        epoch, batch = divmod(self.number, self.n_batches)
        chosen = self.order(self.first_epoch + epoch)[batch * self.whole_batch : (batch + 1) * self.whole_batch]
        mine = np.array_split(chosen, self.world_size)[self.rank]
        cases, found = zip(*(self.patches[i] for i in (mine if len(mine) else chosen[:1])), strict=True)
        self.batch_size, self.corners = len(cases), iter(found)
        return list(cases)

    def order(self, epoch: int) -> np.ndarray:
        """The order of an epoch's patches."""
        if self.seed is None:
            return np.arange(len(self.patches))
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.patches))

    @override
    def get_bbox(
        self, data_shape: Sequence[int], force_fg: bool, class_locations: Any, **options: Any
    ) -> tuple[list[int], list[int]]:
        lower = list(next(self.corners))
        if self.seed is not None:
            random, _ = super().get_bbox(data_shape, force_fg, class_locations, **options)
            # a slice is what a case is in 2D
            lower = [lower[0], *random[1:]] if self.patch_size_was_2d else random
        return lower, [start + length for start, length in zip(lower, self.patch_size, strict=True)]


def corners(shape: Sequence[int], patch: Sequence[int]) -> list[Corner]:
    """Lower corners of as few patches as cover an image, at even distances; a larger patch stands in the middle."""
    axes = []
    for size, length in zip(shape, patch, strict=True):
        most, free = ceil(size / length) - 1, size - length
        axes.append([round(free * i / most) for i in range(most + 1)] if most else [free // 2])
    return list(product(*axes))


@contextmanager
def seeded(*words: int) -> Iterator[None]:
    """Random numbers of numpy and torch that depend on these words alone; outside, all goes on as it would have."""
    state = np.random.get_state()
    first, second = np.random.SeedSequence(words).generate_state(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(first))
        np.random.seed(second)
        try:
            yield
        finally:
            np.random.set_state(state)

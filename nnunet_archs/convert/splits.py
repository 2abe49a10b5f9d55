"""Which cases are trained, validated and tested on: as papers print it, or at random; groups are kept together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .raw_data import Item, RawData, Unit

SEED = 20240229
SEED_41 = 41  # of pytorch-nested-unet's `train_test_split`, which UNet#'s released code names, and of UNET-ZOO's

SELECTED = "the paper selects its model by the cases that it reports: such results are not of unseen cases"

Groups = tuple[str, ...]


@dataclass(frozen=True)
class Division:
    """Groups to train and validate on, a pair for each fold, and groups to test on."""

    folds: tuple[tuple[Groups, Groups], ...]
    test: Groups = ()


@dataclass(frozen=True)
class Split:
    """A way to divide a data set."""

    words: str  # what it is, for the user and dataset.json
    divide: Callable[[dict[str, str], int], Division]  # of groups with their parts, and a seed
    seed: int | None = SEED  # None: nothing is random
    warning: str = ""  # what to bear in mind when results are compared


def shares(train: int, val: int, test: int = 0, *, in_order: bool = False) -> Callable[[dict[str, str], int], Division]:
    """One fold and perhaps a test, in this proportion: exactly these numbers, where there are as many groups."""

    def divide(groups: dict[str, str], seed: int) -> Division:
        total = train + val + test
        n_test, n_val = (-(-len(groups) * n // total) for n in (test, val))
        if n_test + n_val >= len(groups):
            raise ValueError(f"{len(groups)} cases cannot be divided as {train} : {val} : {test}; add cases")
        # Those to test and to validate on come first, as scikit-learn's `train_test_split` has it; last in file order.
        order = tuple(sorted(groups, reverse=True)) if in_order else shuffled(groups, seed)
        tested, validated, trained = order[:n_test], order[n_test : n_test + n_val], order[n_test + n_val :]
        return Division(((trained, validated),), tested)

    return divide


def random_folds(n_folds: int) -> Callable[[dict[str, str], int], Division]:
    """As many folds, of groups at random."""

    def divide(groups: dict[str, str], seed: int) -> Division:
        order = shuffled(groups, seed)
        if len(order) < n_folds:
            raise ValueError(f"{len(order)} cases or subjects do not make {n_folds} folds; add some")
        return Division(tuple(_fold(order, order[i::n_folds]) for i in range(n_folds)))

    return divide


def parts_are_folds(groups: dict[str, str], seed: int) -> Division:
    """A fold for each part of the data set's own division."""
    parts = sorted(set(groups.values()))
    if len(parts) < 2:
        raise ValueError(f"all cases are of the part {', '.join(parts)}; folds need two parts or more: add the others")
    validated = (tuple(name for name, part in groups.items() if part == wanted) for wanted in parts)
    return Division(tuple(_fold(tuple(groups), names) for names in validated))


def train_is_a_part(groups: dict[str, str], seed: int) -> Division:
    """One fold: the part `train` is trained on, all others are validated on."""
    validated = tuple(name for name, part in groups.items() if part != "train")
    if not validated or len(validated) == len(groups):
        raise ValueError("the data set's own division needs cases to train on and others; add what is missing")
    return Division((_fold(tuple(groups), validated),))


FIVE_FOLDS = Split("five folds", random_folds(5))
THREE_FOLDS = Split("three folds", random_folds(3))


def apply(split: Split, seed: int | None, data: RawData) -> RawData:
    """Divide the cases of `data`, which are all to be trained on so far.

    Raises:
        ValueError: for a seed of what is not at random, and for fewer cases than it takes.
    """
    if seed is not None and split.seed is None:
        raise ValueError(f"--seed {seed}: the split is not at random ({split.words}); leave the seed out")
    groups = {group_of(item): part_of(item) for item in data.training}
    used = split.seed if seed is None else seed
    division = split.divide(groups, used or 0)
    words = split.words if used is None else f"{split.words}, at random (seed {used})"
    if len(division.folds) == 1:
        parts = zip(("train", "validate", "test"), (*division.folds[0], division.test), strict=True)
        words += "; here " + ", ".join(f"{len(groups)} to {use} on" for use, groups in parts if groups)
    return replace(
        data,
        dataset_json={**data.dataset_json, "split": words},
        training=tuple(item for item in data.training if group_of(item) not in division.test),
        test=tuple(item for item in data.training if group_of(item) in division.test),
        folds=tuple((_items(data, train), _items(data, val)) for train, val in division.folds),
        notes=(*data.notes, f"split: {words}", *filter(None, [split.warning])),
    )


def group_of(item: Item) -> str:
    """What no split divides: the subject or picture that an item is of."""
    return (item.group if isinstance(item, Unit) else "") or item.name


def part_of(item: Item) -> str:
    """The part of the data set's own division that an item is of."""
    return item.part if isinstance(item, Unit) else ""


def shuffled(groups: Sequence[str] | dict[str, str], seed: int) -> Groups:
    """The groups' names at random, always the same for a seed and a set of names."""
    names = sorted(groups)
    return tuple(names[i] for i in np.random.RandomState(seed).permutation(len(names)))


def _fold(groups: Groups, validated: Groups) -> tuple[Groups, Groups]:
    return tuple(name for name in groups if name not in set(validated)), validated


def _items(data: RawData, groups: Groups) -> tuple[str, ...]:
    wanted = set(groups)
    return tuple(item.name for item in data.training if group_of(item) in wanted)

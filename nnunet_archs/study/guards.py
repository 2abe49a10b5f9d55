"""What forbids a verdict: networks that found nothing, trainings that were too short, budgets that are not alike.

The rules, of one dataset and configuration (docs/studies.md states them for users):

- A network found nothing: it predicted no foreground in any case of a fold where the reference has some.
- A training was too short: it had fewer than `FEWEST` epochs; or its loss did not fall; or it was still falling: its
  mean over the last fifth of the epochs is below that over the fifth before by more than `FALLING` of all that it fell
  by, from the first epoch to that last fifth.
- Budgets differ: the largest is more than `FACTOR` times the smallest, of memory or of width, or more than `LONGER`
  times, of the training's iterations. Width does not count for plans that chose it to match others, memory not for
  those that match by parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .findings import Setting
from .wording import count, listed, number, size

FEWEST = 10  # epochs
FALLING = 0.05
FACTOR = 2.0
LONGER = 1.25
ITERATIONS = 250  # of an epoch, where the trainer's name does not say, as in nnU-Net


def guards(setting: Setting) -> list[str]:
    """Why no verdict can be given, a sentence each; none where one can."""
    return [*found_nothing(setting), *too_short(setting), *differing(setting)]


def found_nothing(setting: Setting) -> Iterator[str]:
    """The networks without any foreground in a fold's predictions."""
    for name in setting.networks:
        own = setting.cases[setting.cases["network"] == name]
        voxels = own.groupby("fold")[["reference_voxels", "prediction_voxels"]].sum()
        empty = voxels.index[(voxels["prediction_voxels"] == 0) & (voxels["reference_voxels"] > 0)]
        if len(empty):
            where = "in any case" if len(empty) == len(voxels) else f"in any case of {folds(empty)}"
            yield f"{name} predicted no foreground {where}; see what its training log says."


def too_short(setting: Setting) -> Iterator[str]:
    """The networks whose loss shows that they were not trained to their end."""
    for name in setting.networks:
        reasons: dict[str, list[str]] = {}
        for fold, trained in setting.entries[name]["folds"].items():
            if why := unfinished(trained["train_loss"]):
                reasons.setdefault(why, []).append(fold)
        for why, which in reasons.items():
            yield f"{name} {why} ({folds(which)})."


def unfinished(losses: Sequence[float]) -> str | None:
    """Why a training was too short, by its loss of every epoch; None where it was not."""
    if len(losses) < FEWEST:
        return f"was trained for fewer than {FEWEST} epochs, too few to tell whether it has converged"
    fifth = len(losses) // 5
    before, last = np.mean(losses[-2 * fifth : -fifth]), np.mean(losses[-fifth:])
    fall = losses[0] - last
    if not fall > 0:  # NaN does not fall, either
        return "did not learn: its training loss did not fall"
    if (before - last) / fall > FALLING:
        return f"had not converged: its training loss fell by {(before - last) / fall:.0%} of its whole fall at the end"
    return None


def differing(setting: Setting) -> Iterator[str]:
    """The budgets that are too unlike to tell networks apart."""
    entries = {name: setting.entries[name] for name in setting.networks}
    by = {name: (entry["budget"] or {}).get("by") for name, entry in entries.items()}
    memory = {name: entry["memory_gib"] for name, entry in entries.items() if by[name] != "parameters"}
    width = {name: first(entry["features"]) for name, entry in entries.items() if by[name] is None}
    iterations = {name: entry["epochs"] * iterations_of(entry["trainer"]) for name, entry in entries.items()}
    yield from unlike("The memory of a training step differs", {n: size(gib) for n, gib in memory.items()}, memory)
    yield from unlike("The width differs", {n: f"{number(w, 0)} features" for n, w in width.items()}, width)
    told = {
        name: f"{count(entry['epochs'], 'epoch')} of {iterations_of(entry['trainer'])} iterations"
        for name, entry in entries.items()
    }
    yield from unlike("The length of training differs", told, iterations, LONGER)


def unlike(
    what: str, told: Mapping[str, str], values: Mapping[str, float | None], most: float = FACTOR
) -> Iterator[str]:
    """A sentence, where the largest of the values that are known is too many times the smallest."""
    known = {name: value for name, value in values.items() if value}
    if known and max(known.values()) > most * min(known.values()):
        yield f"{what} by a factor of {max(known.values()) / min(known.values()):.1f}: " + (
            f"{listed([f'{name} {told[name]}' for name in known])}."
        )


def iterations_of(trainer: str) -> int:
    """The iterations of an epoch, by the trainer's name."""
    match = re.search(r"_(\d+)iterations", trainer)
    return int(match[1]) if match else ITERATIONS


def first(features: Sequence[int] | None) -> float | None:
    """The features at full resolution."""
    return features[0] if features else None


def folds(which: Sequence[object]) -> str:
    """Folds, by their numbers."""
    return f"{'fold' if len(which) == 1 else 'folds'} {listed([str(fold) for fold in which])}"

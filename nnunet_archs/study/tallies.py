"""Scores as papers count them: pooled over all voxels, with background as a class, and by the size of the target.

Per case stays what the statistics are of: a pooled score is one number a network, in which large targets outweigh small
ones, and which no test can compare. `cases` is a table of one data set, configuration and part, a row a network, case
and label, as in `cases.csv`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

COUNTED = ["true_positives", "false_positives", "false_negatives"]
POOLED = ("pooled_iou", "pooled_f1", "pooled_precision", "pooled_recall")
NOTHING = dict.fromkeys(POOLED, math.nan)
# of Crosslink-Net's Fig. 9, which does not print its own: % of the image
EDGES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)


def in_all(cases: pd.DataFrame, networks: Sequence[str]) -> pd.DataFrame:
    """The rows of the cases that all networks have."""
    return cases[cases.groupby("case")["network"].transform("nunique") == len(networks)]


def pooled(cases: pd.DataFrame) -> dict[str, dict[str, float]]:
    """IoU, F1, precision and recall by network, from the voxels of all cases together, as CAggNet's tables have them.

    Of several labels the mean, over those for which it is defined for every network that has any.
    """
    of = cases.groupby(["label", "network"])[COUNTED].sum()
    true, over, under = (of[key] for key in COUNTED)
    scores = {
        "pooled_iou": true / (true + over + under),
        "pooled_f1": 2 * true / (2 * true + over + under),
        "pooled_precision": true / (true + over),
        "pooled_recall": true / (true + under),
    }
    means = {key: by.unstack("network").dropna(axis=1, how="all").dropna().mean() for key, by in scores.items()}
    return {
        name: {key: float(mean.get(name, math.nan)) for key, mean in means.items()}
        for name in cases["network"].unique()
    }


def with_background(cases: pd.DataFrame) -> pd.DataFrame:
    """The cases with background as one more label, which has IoU alone: a mean over labels is one over classes."""
    background = cases.drop_duplicates(["network", "case"]).assign(label="background")
    return pd.concat([cases, background.assign(iou=background["background_iou"])])


def by_size(cases: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean Dice by the target's share of the image, as in Crosslink-Net's Fig. 9: a row a label and stratum.

    A target is a label in a case whose reference has it; strata without one are left out.
    """
    targets = cases[cases["reference_voxels"] > 0]
    share = 100 * targets["reference_voxels"] / targets["image_voxels"]
    bounds, rows = (0.0, *EDGES, 100.0), []
    for label, own in targets.assign(stratum=np.searchsorted(EDGES, share, side="right")).groupby("label", sort=False):
        for i, found in own.groupby("stratum"):
            dice = found.groupby("network")["dice"].mean()
            of = {"from_percent": bounds[i], "to_percent": bounds[i + 1], "targets": int(found["case"].nunique())}
            rows.append({"label": label, **of, "dice": {name: float(mean) for name, mean in dice.items()}})
    return rows

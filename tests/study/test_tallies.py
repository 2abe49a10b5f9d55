"""Scores as papers count them, against numpy on the masks themselves."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from nnunet_archs.study.metrics import background_iou, case_metrics
from nnunet_archs.study.statistics import case_scores
from nnunet_archs.study.tallies import EDGES, by_size, in_all, pooled, with_background

Maps: TypeAlias = NDArray[np.int64]

SHAPE, LABELS, NETWORKS = (40, 50), {"cell": 1, "gland": 2}, ("a", "b")
REFERENCE = "reference"


@pytest.fixture(scope="module")
def maps() -> dict[str, Maps]:
    """Label maps `(case, y, x)` of the reference and two networks; each label is absent somewhere."""
    rng = np.random.default_rng(0)
    reference = np.zeros((12, *SHAPE), int)
    for i, image in enumerate(reference[1:], start=1):
        image[5 : 5 + i, 3:10] = 1
        image[20:24, 10 : 10 + 2 * i] = 2
    found = {REFERENCE: reference}
    for name, wrong in zip(NETWORKS, (0.1, 0.3), strict=True):
        found[name] = np.where(rng.random(reference.shape) < wrong, rng.integers(0, 3, reference.shape), reference)
    found["b"][3] = 0
    return found


@pytest.fixture(scope="module")
def cases(maps: dict[str, Maps]) -> pd.DataFrame:
    rows = []
    for name in NETWORKS:
        for i, (truth, image) in enumerate(zip(maps[REFERENCE], maps[name], strict=True)):
            background = background_iou(truth > 0, image > 0)
            for label, value in LABELS.items():
                values = case_metrics(truth == value, image == value, (1, 1), tolerance=1)
                of = {"network": name, "case": f"c{i:02}", "label": label, "background_iou": background}
                rows.append({**of, **values})
    return pd.DataFrame(rows)


def test_pooled_scores_are_those_of_all_voxels_as_one_image(cases: pd.DataFrame, maps: dict[str, Maps]) -> None:
    found = pooled(cases)
    for name in NETWORKS:
        masks = [(maps[REFERENCE] == value, maps[name] == value) for value in LABELS.values()]
        true, over, under = (
            np.array([np.sum(how(*pair)) for pair in masks])
            for how in (lambda r, p: r & p, lambda r, p: ~r & p, lambda r, p: r & ~p)
        )
        assert found[name] == pytest.approx(
            {
                "pooled_iou": np.mean(true / (true + over + under)),
                "pooled_f1": np.mean(2 * true / (2 * true + over + under)),
                "pooled_precision": np.mean(true / (true + over)),
                "pooled_recall": np.mean(true / (true + under)),
            },
            abs=1e-9,
        )
    # which the mean over cases is not
    assert abs(found["a"]["pooled_iou"] - cases[cases["network"] == "a"]["iou"].mean()) > 0.01


def test_mean_iou_over_the_classes_of_an_image(cases: pd.DataFrame, maps: dict[str, Maps]) -> None:
    found = case_scores(with_background(cases), "iou").mean()
    for name in NETWORKS:
        images = []
        for truth, image in zip(maps[REFERENCE], maps[name], strict=True):
            classes = [(truth == value, image == value) for value in range(3)]
            images.append(np.mean([np.sum(r & p) / np.sum(r | p) for r, p in classes if np.any(r | p)]))
        assert found[name] == pytest.approx(np.mean(images), abs=1e-9)


def test_dice_by_the_size_of_the_target(cases: pd.DataFrame, maps: dict[str, Maps]) -> None:
    rows = by_size(cases)
    assert [row["label"] for row in rows] == sorted(row["label"] for row in rows)
    assert sum(row["targets"] for row in rows) == 2 * 11  # the first image has neither label
    for row in rows:
        value = LABELS[row["label"]]
        share = np.array([100 * np.mean(truth == value) for truth in maps[REFERENCE]])
        chosen = (share > 0) & (share >= row["from_percent"]) & (share < row["to_percent"])
        assert row["targets"] == chosen.sum() > 0
        for name in NETWORKS:
            pairs = [(maps[REFERENCE][i] == value, maps[name][i] == value) for i in np.flatnonzero(chosen)]
            dice = np.mean([2 * np.sum(r & p) / (np.sum(r) + np.sum(p)) for r, p in pairs])
            assert row["dice"][name] == pytest.approx(dice, abs=1e-9)
    # a share of 0.4 % is in the stratum that begins there
    assert {(row["from_percent"], row["to_percent"]) for row in rows} >= {(0.2, 0.4), (0.4, 0.6), (EDGES[-1], 100.0)}


def test_what_one_network_lacks_is_tallied_for_none(cases: pd.DataFrame) -> None:
    less = cases[(cases["network"] == "a") | (cases["case"] != "c05")]
    assert {*in_all(less, NETWORKS)["case"]} == {*cases["case"]} - {"c05"}


def test_a_network_that_finds_nothing_has_no_precision(cases: pd.DataFrame) -> None:
    nothing = cases["network"] == "b"
    empty = cases.assign(
        true_positives=cases["true_positives"].where(~nothing, 0),
        false_positives=cases["false_positives"].where(~nothing, 0),
    )
    found = pooled(empty)
    assert np.isnan(found["b"]["pooled_precision"])
    assert (found["b"]["pooled_recall"], found["b"]["pooled_iou"]) == (0, 0)
    assert found["a"] == pooled(cases)["a"]

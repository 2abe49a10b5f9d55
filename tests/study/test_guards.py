"""What forbids a verdict: networks that found nothing, trainings that were too short, unlike budgets."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up import BASELINE, make_study

from nnunet_archs.nnunet.plans import budget
from nnunet_archs.study.guards import guards, unfinished
from nnunet_archs.study.report import read_cases, read_networks, read_study, settings, write_report

TWO = {BASELINE: 0.0, "CAggNet": 0.02}


def section_of(folder: Path) -> dict[str, Any]:
    write_report(folder)
    section: dict[str, Any] = json.loads((folder / "report.json").read_text())["sections"][0]
    return section


def guards_of(folder: Path) -> list[str]:
    """Those of the only setting."""
    tables = (
        read_cases(folder / "cases.csv"),
        read_networks(folder / "networks.json"),
        read_study(folder / "study.json"),
    )
    (setting,) = settings(*tables)
    return guards(setting)


def made(folder: Path, **options: Any) -> Path:
    return make_study(folder, configurations=("2d",), networks=TWO, **options)


def without_foreground(folder: Path, folds: set[int]) -> None:
    """The baseline's predictions of these folds are background alone."""
    cases = pd.read_csv(folder / "cases.csv")
    none = (cases["network"] == BASELINE) & cases["fold"].isin(folds) & (cases["reference_voxels"] > 0)
    cases.loc[none, ["dice", "iou", "recall", "surface_dice", "prediction_voxels"]] = 0
    cases.loc[none, "precision"] = math.nan
    cases.loc[none, ["hausdorff", "hausdorff95"]] = math.inf
    cases.to_csv(folder / "cases.csv", index=False)


def test_no_network_is_better_than_one_that_found_nothing(tmp_path: Path) -> None:
    """It had said: is better, p = 0.0039; the data set can separate them; a precision of nothing for everybody."""
    made(tmp_path, missing_fold=None)
    without_foreground(tmp_path, {0, 1, 2, 3, 4})
    section = section_of(tmp_path)
    assert section["guards"] == [f"{BASELINE} predicted no foreground in any case; see what its training log says."]
    assert section["verdict"].startswith("No verdict, for the reasons above; as they stand, by Dice in 30 paired cases")
    assert "CAggNet scores higher (+" in section["verdict"]
    page = (tmp_path / "report.html").read_text()
    seen = re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)
    assert not re.search(r"is better[ (]|can separate|>better<|better than|verdict found", seen)
    assert 0 < page.index("These results do not tell which network is better") < page.index("No verdict")
    rows = {row["network"]: row for row in section["summary"]}
    assert (rows[BASELINE]["precision"], rows[BASELINE]["precision_cases"]) == (None, 0)
    assert (rows["CAggNet"]["precision_cases"], rows["CAggNet"]["precision"] > 0.8) == (30, True)


def test_a_fold_that_found_nothing(tmp_path: Path) -> None:
    made(tmp_path, missing_fold=None)
    without_foreground(tmp_path, {1, 3})
    (guard,) = guards_of(tmp_path)
    assert guard.startswith(f"{BASELINE} predicted no foreground in any case of folds 1 and 3;")


EPOCHS = np.arange(100)
LOSSES = {
    "at rest": (np.exp(-EPOCHS / 20) - 0.9, None),
    "at rest, in noise": (np.exp(-EPOCHS / 20) + np.random.default_rng(0).normal(0, 0.02, 100), None),
    "on a line": (1 - EPOCHS / 100, "had not converged: its training loss fell by 2"),
    "slowly": (np.exp(-EPOCHS / 60), "had not converged"),
    "nine epochs": (np.exp(-EPOCHS[:9].astype(float)), "was trained for fewer than 10 epochs"),
    "flat": (np.ones(100), "did not learn"),
    "rising": (EPOCHS / 100, "did not learn"),
    "not a number": (np.full(100, math.nan), "did not learn"),
}


@pytest.mark.parametrize(("losses", "why"), LOSSES.values(), ids=LOSSES)
def test_trainings_that_were_too_short(losses: np.ndarray[Any, Any], why: str | None) -> None:
    found = unfinished(losses.tolist())
    assert found is None if why is None else found is not None and found.startswith(why)


def test_the_folds_whose_loss_still_fell_are_named(tmp_path: Path) -> None:
    def still_falling(entries: list[dict[str, Any]]) -> None:
        for fold in ("0", "2"):
            entries[1]["folds"][fold]["train_loss"] = np.linspace(1, 0, 50).tolist()

    made(tmp_path, missing_fold=None)
    change(tmp_path, still_falling)
    (guard,) = guards_of(tmp_path)
    assert guard == (
        "CAggNet had not converged: its training loss fell by 22% of its whole fall at the end (folds 0 and 2)."
    )


def change(folder: Path, how: Callable[[list[dict[str, Any]]], None]) -> None:
    file = folder / "networks.json"
    entries = json.loads(file.read_text())
    how(entries)
    file.write_text(json.dumps(entries))


def matched(by: str) -> dict[str, Any]:
    return {"budget": budget("CAggNetTrainer", gpu_memory=8, base_width=None, match="nnUNetPlans", by=by)}


MEMORY = "The memory of a training step differs by a factor of 4.0: PlainConvUNet 512 MiB and CAggNet 2.0 GiB."
WIDTH = "The width differs by a factor of 8.0: PlainConvUNet 32 features and CAggNet 4 features."
LENGTH = "The length of training differs by a factor of 2.0: PlainConvUNet {} and CAggNet {}."
UNLIKE: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "memory": ({"memory_gib": 0.5}, {"memory_gib": 2.0}, [MEMORY]),
    "memory, where parameters match": ({"memory_gib": 0.5}, {"memory_gib": 2.0, **matched("parameters")}, []),
    "width": ({}, {"features": [4, 8]}, [WIDTH]),
    "width, where memory matches": ({}, {"features": [4, 8], **matched("memory")}, []),
    "epochs": ({}, {"epochs": 25}, [LENGTH.format("50 epochs of 250 iterations", "25 epochs of 250 iterations")]),
    "iterations": (
        {},
        {"trainer": "CAggNetTrainer_50epochs_125iterations"},
        [LENGTH.format("50 epochs of 250 iterations", "50 epochs of 125 iterations")],
    ),
    "little": ({"memory_gib": 2.0, "epochs": 50}, {"memory_gib": 4.0, "epochs": 45, "features": [64]}, []),
}


@pytest.mark.parametrize(("plain", "other", "expected"), UNLIKE.values(), ids=UNLIKE)
def test_budgets_that_differ_widely(
    plain: dict[str, Any], other: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    made(tmp_path, missing_fold=None)
    change(tmp_path, lambda entries: [entry.update(new) for entry, new in zip(entries, (plain, other), strict=True)])
    assert guards_of(tmp_path) == expected

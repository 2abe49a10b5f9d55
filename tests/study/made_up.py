"""Made-up study folders: tables as a finished study leaves them, the same for the same seed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_archs.nnunet.plans import budget

DATASET = "Dataset004_Hippocampus"
BASELINE = "PlainConvUNet"
# how much better than the baseline in Dice
NETWORKS = {BASELINE: 0.0, "CAggNet": 0.02, "UNetSharp": 0.001, "FocusNet++": -0.015}
TRAINERS = {
    BASELINE: "PlainConvUNetTrainer_50epochs",
    "CAggNet": "CAggNetTrainer_50epochs",
    "UNetSharp": "UNetSharpTrainer_50epochs",
    "FocusNet++": "FocusNetPlusPlusTrainer_50epochs",
}
LABELS = ("anterior", "posterior")
FOLDS = 5
EPOCHS = 50
STUDY_FILE = """name: hippocampus
datasets: [4]
configurations: [2d, 3d_fullres]
folds: [0, 1, 2, 3, 4]
epochs: 50
baseline: PlainConvUNet
networks:
  PlainConvUNet: {trainer: PlainConvUNetTrainer}
  CAggNet: {trainer: CAggNetTrainer, plans: CAggNetPlans}
  UNetSharp: {trainer: UNetSharpTrainer, plans: UNetSharpPlans}
  FocusNet++: {trainer: FocusNetPlusPlusTrainer, plans: FocusNetPlusPlusPlans}
"""


def make_study(
    folder: Path,
    *,
    networks: dict[str, float] = NETWORKS,
    configurations: tuple[str, ...] = ("2d", "3d_fullres"),
    n_cases: int = 30,
    baseline: str | None = BASELINE,
    missing_fold: int | None = 3,
    seed: int = 0,
) -> Path:
    """Write the three tables of a study; the last network lacks a fold of the last configuration."""
    rng = np.random.default_rng(seed)
    cases = [f"hippocampus_{i:03d}" for i in range(n_cases)]
    difficulty = rng.normal(0, 0.03, (n_cases, len(LABELS)))
    first, last = next(iter(networks)), [*networks][-1]
    rows, entries, missing = [], [], []
    for configuration in configurations:
        for name, better in networks.items():
            folds = {i % FOLDS for i in range(n_cases)}
            if missing_fold is not None and (name, configuration) == (last, configurations[-1]):
                folds.discard(missing_fold)
                missing.append(run(configuration, name, missing_fold))
            entries.append(entry(configuration, name, sorted(folds), rng))
            for i, case in enumerate(cases):
                if i % FOLDS in folds:
                    scores = 0.86 + better + difficulty[i] + rng.normal(0, 0.01, len(LABELS))
                    rows += [
                        {"dataset": DATASET, "configuration": configuration, "network": name}
                        | {"part": "validation", "fold": i % FOLDS, "case": case, "label": label}
                        | metrics(min(score, 0.99), i, label, first=name == first)
                        for label, score in zip(LABELS, scores, strict=True)
                    ]
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "cases.csv", index=False)
    (folder / "networks.json").write_text(json.dumps(entries), encoding="utf-8")
    study = {
        "name": "hippocampus",
        "baseline": baseline,
        "networks": [*networks],
        "datasets": [DATASET],
        "configurations": [*configurations],
        "folds": [*range(FOLDS)],
        "test": None,
        "tolerance_mm": 1.0,
        "file": STUDY_FILE,
        "command": "nnunet-archs study report hippocampus.yaml",
        "made": "2026-01-02T03:04:05",
        "versions": {
            "nnunet-archs": "0.1.0",
            "nnunetv2": "2.8.1",
            "torch": "2.15.0",
            "surface-distance": "0.1",
            "scipy": "1.17.1",
        },
        "machine": "a made-up machine",
        "missing": missing,
    }
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
    return folder


def add_test_set(folder: Path, *, n_cases: int = 20, without_ensemble: str | None = None) -> Path:
    """Test cases of the first configuration, by every fold and by the ensemble, which is a little better."""
    rng = np.random.default_rng(1)
    difficulty = rng.normal(0, 0.03, (n_cases, len(LABELS)))
    cases, study = pd.read_csv(folder / "cases.csv"), json.loads((folder / "study.json").read_text())
    place = {"dataset": DATASET, "configuration": study["configurations"][0]}
    rows = []
    for name in cases["network"].unique():
        for by in (*map(str, range(FOLDS)), "ensemble"):
            if (name, by) == (without_ensemble, "ensemble"):
                study["missing"].append({**run(place["configuration"], name, 0), "part": "test", "fold": by})
                continue
            scores = 0.8 + NETWORKS[name] + difficulty + rng.normal(0.02 * (by == "ensemble"), 0.01, difficulty.shape)
            rows += [
                {**place, "network": name, "part": "test", "fold": by, "case": f"unseen_{i:03d}", "label": label}
                | metrics(score, i + 10, label, first=False)
                for i, of_case in enumerate(scores)
                for label, score in zip(LABELS, of_case, strict=True)
            ]
    pd.concat([cases, pd.DataFrame(rows)]).to_csv(folder / "cases.csv", index=False)
    (folder / "study.json").write_text(json.dumps({**study, "test": "imagesTs"}))
    return folder


def metrics(dice: float, i: int, label: str, *, first: bool) -> dict[str, float]:
    """A label's metrics; case 4 has no posterior at all, and case 7 none in the first network's prediction."""
    if label == LABELS[1] and i == 4:
        return {**dict.fromkeys(COLUMNS, np.nan), "specificity": 1.0, **counts(0, 0, 0)}
    if label == LABELS[1] and i == 7 and first:
        return {
            **dict.fromkeys(COLUMNS, 0.0),
            "precision": np.nan,
            "specificity": 1.0,
            "under_segmentation": 1.0,
            "hausdorff": np.inf,
            "hausdorff95": np.inf,
            **counts(1000, 0, 0),
        }
    iou = dice / (2 - dice)
    return {
        "dice": dice,
        "iou": iou,
        "precision": dice + 0.004,
        "recall": dice - 0.004,
        "specificity": 0.999,
        "over_segmentation": (1 - iou) / 2,
        "under_segmentation": (1 - iou) / 2,
        "hausdorff": 25 * (1 - dice),
        "hausdorff95": 12 * (1 - dice),
        "surface_dice": 1 - 0.6 * (1 - dice),
        **counts(1000 + i, 990 + i, round(dice * (995 + i))),
    }


def counts(reference: int, prediction: int, true: int) -> dict[str, float]:
    """Voxels of a label, and of the image around it."""
    return {
        "reference_voxels": reference,
        "prediction_voxels": prediction,
        "true_positives": true,
        "false_positives": prediction - true,
        "false_negatives": reference - true,
        "image_voxels": 64000,
        "background_iou": 0.99,
    }


COLUMNS = [*metrics(0.5, 0, "", first=False)]


def entry(configuration: str, name: str, folds: list[int], rng: np.random.Generator) -> dict[str, Any]:
    """A network's entry of networks.json."""
    epochs = np.arange(EPOCHS)
    decay = np.exp(-epochs / 12)
    return {
        "dataset": DATASET,
        "configuration": configuration,
        "network": name,
        "trainer": TRAINERS.get(name, "PlainConvUNetTrainer_50epochs"),
        "plans": "nnUNetPlans",
        "budget": None if name == BASELINE else budget(f"{name}Trainer", gpu_memory=24, base_width=None),
        "patch_size": [56, 40] if configuration == "2d" else [40, 56, 40],
        "batch_size": 366 if configuration == "2d" else 9,
        "features": [32, 64, 128, 256],
        "parameters": 5_600_000 + 1_234_567 * len(name),
        "multiply_adds": 23_000_000_000,
        "memory_gib": None if name == "CAggNet" else 3.25,
        "epochs": EPOCHS,
        "folds": {
            str(fold): {
                "training_seconds": float(4000 + 300 * fold),
                "train_loss": (decay - 0.9 + rng.normal(0, 0.01, EPOCHS)).tolist(),
                "val_loss": (decay - 0.85 + rng.normal(0, 0.02, EPOCHS)).tolist(),
                "pseudo_dice": (0.9 * (1 - decay) + rng.normal(0, 0.01, EPOCHS)).tolist(),
            }
            for fold in folds
        },
    }


def run(configuration: str, name: str, fold: int) -> dict[str, Any]:
    """A run that is missing."""
    return {
        "dataset": DATASET,
        "configuration": configuration,
        "network": name,
        "part": "validation",
        "fold": fold,
        "why": "CUDA out of memory in epoch 3",
    }

"""Dice, parameters and time of every level of a trained model."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tqdm import tqdm

from nnunet_archs.networks.unet_sharp import GridNetwork

from .model import PrunableModel
from .validation import CaseDice, Validation, case_dice, load_case, mean_foreground

REPEATS = 5  # timed forward passes of each level


def measure(model: PrunableModel, level: int, validation: Validation, device: torch.device) -> dict[str, Any]:
    """Dice, parameters and time of every level."""
    networks = levels_of(model, model.load(next(iter(validation.cases))), device)
    parameters = {known: count_parameters(network) for known, network in networks.items()}
    seconds = time_levels(networks, (1, model.input_channels, *model.configuration.patch_size), device)
    del networks
    dice = validate(model, validation, device)
    whole = model.levels[-1]
    return {
        "model": model.folder.name,
        "dataset": model.plans.dataset_name,
        "cut_out": level,
        "cases": validation.cases,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "patch_size": list(model.configuration.patch_size),
        "repeats": REPEATS,
        "levels": [
            {
                "level": known,
                "parameters": parameters[known],
                "seconds": seconds[known],
                "time_ratio": seconds[known] / seconds[whole],
                **dice_fields(dice[known], dice[whole]),
            }
            for known in model.levels
        ],
    }


def dice_fields(dice: Mapping[str, CaseDice], whole: Mapping[str, CaseDice]) -> dict[str, Any]:
    """The Dice of a level's cases, and what it loses against the whole network."""
    mean = mean_foreground(dice.values())
    return {
        "dice": or_none(mean),
        "dice_lost": or_none(mean_foreground(whole.values()) - mean),
        "dice_per_case": {
            case: {str(label): or_none(value) for label, value in labels.items()} for case, labels in dice.items()
        },
    }


def levels_of(model: PrunableModel, checkpoint: Mapping[str, Any], device: torch.device) -> dict[int, GridNetwork]:
    """A fold's network at every level, from its checkpoint."""
    return {level: model.at_level(checkpoint, level).to(device) for level in model.levels}


def count_parameters(network: GridNetwork) -> int:
    """Numbers that were trained."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.inference_mode()
def time_levels(networks: Mapping[int, GridNetwork], size: Sequence[int], device: torch.device) -> dict[int, float]:
    """Median seconds of a forward pass of a batch `(B, C, *spatial)`, the levels taking turns."""
    x = torch.rand(*size, device=device)
    seconds: dict[int, list[float]] = {level: [] for level in networks}
    # as nnU-Net's predictor has it
    autocast = torch.autocast(device.type) if device.type == "cuda" else nullcontext()
    with autocast:
        for _ in tqdm(range(1 + REPEATS), desc="timing", leave=False, disable=None):
            for level, network in networks.items():
                started = time.perf_counter()
                network(x)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds[level].append(time.perf_counter() - started)
    # the first pass warms up
    return {level: median(times[1:]) for level, times in seconds.items()}


def validate(model: PrunableModel, validation: Validation, device: torch.device) -> dict[int, dict[str, CaseDice]]:
    """Dice of every case and label at every level, each fold's on the cases that it was not trained on."""
    dice: dict[int, dict[str, CaseDice]] = {level: {} for level in model.levels}
    total = len(dice) * sum(map(len, validation.cases.values()))
    with (
        TemporaryDirectory() as folder,
        tqdm(total=total, desc="validating", unit="prediction", leave=False, disable=None) as progress,
    ):
        for fold, cases in validation.cases.items():
            predictors = new_predictors(model, fold, device)
            for case in cases:
                data, properties = load_case(model, validation, case)
                for level, predictor in predictors.items():
                    logits = predictor.predict_sliding_window_return_logits(data).cpu()
                    dice[level][f"fold_{fold}/{case}"] = case_dice(
                        model, logits, properties, validation.truth, Path(folder), case
                    )
                    progress.update()
    return dice


def new_predictors(model: PrunableModel, fold: str, device: torch.device) -> dict[int, nnUNetPredictor]:
    """nnU-Net's predictor for every level of a fold, set as in its own validation."""
    checkpoint = model.load(fold)
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    predictors = {}
    for level, network in levels_of(model, checkpoint, device).items():
        with redirect_stdout(io.StringIO()):  # it prints what it does not do on a CPU
            predictor = nnUNetPredictor(device=device, allow_tqdm=False)
        name = model.trainer.__name__
        predictor.manual_initialization(network, model.plans, model.configuration, None, model.dataset_json, name, axes)
        predictors[level] = predictor
    return predictors


def or_none(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else value


def markdown(result: Mapping[str, Any]) -> str:
    """The measurements as a document."""
    n_cases = sum(map(len, result["cases"].values()))
    patch = "x".join(map(str, result["patch_size"]))
    return f"""# Levels of {result["model"]}

{result["dataset"]}; this folder holds level {result["cut_out"]}.

Dice: mean foreground, as nnU-Net computes it, of the {n_cases} validation cases of fold {", ".join(result["cases"])}.
Time: median of {result["repeats"]} forward passes of one patch of {patch} on {result["device"]}
(torch {result["torch"]}, {result["threads"]} CPU threads).

{table(result)}
"""


def table(result: Mapping[str, Any]) -> str:
    """A row a level, the whole network last, in Markdown with aligned columns."""
    header = ["level", "parameters", "Dice", "Dice lost", "ms a patch", "of the whole"]
    rows = [header, *(cells(row) for row in result["levels"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, [f"{'-' * (width - 1)}:" for width in widths])
    lines = (" | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"| {line} |" for line in lines)


def cells(row: Mapping[str, Any]) -> list[str]:
    """A level's row of the table; `-` where no case has any label."""
    dice = ["-" if row[key] is None else f"{row[key]:.4f}" for key in ("dice", "dice_lost")]
    milliseconds, ratio = f"{1000 * row['seconds']:.1f}", f"{100 * row['time_ratio']:.0f} %"
    return [str(row["level"]), f"{row['parameters']:,}", *dice, milliseconds, ratio]

"""Trainings of a few minutes on real images, at nnU-Net's own plans, through `nnunet-archs demo`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from nnunet_archs.files import read_json
from nnunet_archs.nnunet.commands import last_line, python_command, variables
from nnunet_archs.tables import markdown_table

from .parts import Findings, Found, Measurement, Part

TRAINED = ("PlainConvUNetTrainer", "UNetSharpTrainer")
LENGTH = {"cuda": "_25epochs_100iterations"}  # some ten minutes for both, as estimated: not measured
SHORTEST = "_1epoch_2iterations"
INTRODUCTION = """`nnunet-archs demo`: nnU-Net plans, trains, validates. Dice: the mean of the foreground, of fold 0's
validation cases. Epoch: the median of nnU-Net's own log, without the first. A training that was cut off goes on from
its last checkpoint in the next run."""


def part(trainers: Sequence[str], data: Path | None, folder: Path, device: str) -> Part:
    """Both trainings, one after the other."""
    title = "Trainings on the hippocampus"
    if data is None or not data.is_dir():
        why = f"there is no {data}" if data else "its folder is not known"
        remedy = "give --data, or set NNUNET_ARCHS_DATA to the folder that holds msd_task04_hippocampus"
        return Part("trainings", title, 9, 0, [], describe, skipped=f"{why}: {remedy}")
    length = LENGTH.get(device, SHORTEST)
    measurements = [
        Measurement(name + length, partial(train, name + length, str(data), str(folder), device))
        for name in TRAINED
        if name in trainers
    ]
    return Part("trainings", title, 9, 1500, measurements, describe)


def train(trainer: str, data: str, folder: str, device: str) -> Found:
    """Dice and seconds of an epoch.

    Raises:
        ValueError: if the demo fails, with the last line that it printed.
    """
    log = Path(folder, f"{trainer}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    options = ["--data", data, "-o", folder, "-tr", trainer, "-c", "3d_fullres", "-device", device]
    with log.open("w") as file:
        command = python_command("nnunet_archs.scripts.main", "demo", *options)
        # unbuffered: what is printed stands in the log before the error that follows it
        environment = variables(device)
        run = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if run.returncode:
        raise ValueError(last_line(log))
    (fold,) = Path(folder, "nnUNet_results").glob(f"*/{trainer}__*/fold_0")
    logs = sorted(fold.glob("training_log_*.txt"))
    epochs = [float(s) for log in logs for s in re.findall(r"Epoch time: ([\d.]+) s", log.read_text())]
    dice = read_json(fold / "validation" / "summary.json")["foreground_mean"]["Dice"]
    return {"dice": dice, "epoch": median(epochs[1:] or epochs), "epochs": len(epochs)}


def describe(findings: Findings) -> str:
    """A row for each training."""
    rows = [
        [name, f"{found['dice']:.4f}", str(found["epochs"]), f"{found['epoch']:.3g}", f"{found['took']:.0f}"]
        for name, found in findings.items()
    ]
    return f"{INTRODUCTION}\n\n{markdown_table(['trainer', 'Dice', 'epochs', 'epoch, s', 'all, s'], rows)}"

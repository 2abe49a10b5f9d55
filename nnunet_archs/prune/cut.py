"""Cut a level out of a trained model, into a folder beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from nnunet_archs.deploy.trained import FILES, FINAL
from nnunet_archs.files import atomic_folder

from .levels import markdown, measure, table
from .model import PrunableModel, open_prunable, pruned_name
from .validation import find_validation


def prune(folder: Path, level: int, device: torch.device, *, validate: bool) -> tuple[Path, str]:
    """Write the pruned model's folder beside the whole one, with the measurements of all levels; it and their table.

    Raises:
        ValueError: if the model has no such level, or the folder is there.
    """
    model = open_prunable(folder)
    check_level(model, level)
    name = pruned_name(model.trainer, level)
    target = model.folder.with_name("__".join([name, *model.folder.name.split("__")[1:]]))
    if target.exists():
        raise ValueError(f"{target} exists; move it away, or give another --level")
    validation = find_validation(model) if validate else None
    measured = ""
    with atomic_folder(target) as unfinished:
        copy_files(model, unfinished)
        for fold in model.folds:
            write_pruned(model, fold, level, unfinished)
        if validation is not None:
            result = measure(model, level, validation, device)
            (unfinished / "pruning.json").write_text(json.dumps(result, indent=2) + "\n")
            (unfinished / "pruning.md").write_text(markdown(result))
            measured = table(result)
    return target, measured


def check_level(model: PrunableModel, level: int) -> None:
    """Check that a level can be cut out of a model.

    Raises:
        ValueError: if it is none, the whole network, or without a trained head.
    """
    name, below = model.trainer.__name__, model.levels[:-1]
    if not below:
        raise ValueError(f"--level {level}: {name} has 2 stages here, and no level below the whole network")
    if level not in below:
        raise ValueError(
            f"--level {level}: {name} has levels 1 to {below[-1]} below the whole network; give one of them"
        )
    if (0, level) not in model.whole.supervised:
        raise ValueError(
            f"--level {level}: {name} was trained without a head at X[0, {level}]; train with the paper's supervision, "
            f"without _DiceCE, _DS and _noDS, or the level on its own, with _L{level}"
        )


def copy_files(model: PrunableModel, folder: Path) -> None:
    """Copy what nnU-Net keeps beside the folds."""
    for file in (*FILES, "dataset_fingerprint.json"):
        if (model.folder / file).is_file():
            shutil.copyfile(model.folder / file, folder / file)


def write_pruned(model: PrunableModel, fold: str, level: int, folder: Path) -> None:
    """Write a fold's checkpoint with the weights of a level alone."""
    checkpoint = model.load(fold)
    network = model.at_level(checkpoint, level)
    # nnUNetv2_train --val loads an optimiser's state, and does not use it: one without any
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    pruned = {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "trainer_name": pruned_name(model.trainer, level),
    }
    (folder / f"fold_{fold}").mkdir()
    torch.save(checkpoint | pruned, folder / f"fold_{fold}" / FINAL)

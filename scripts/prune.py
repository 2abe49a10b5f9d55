"""Cut a level out of a trained UNet#, UNet++, V-Net# or V-Net++, and measure every level.

Pruning of UNet# (arXiv:2205.11759, section 2.4, "embedded training"): X[0, N] sees no node beyond i + j = N, so the
network up to there, with the head that deep supervision trained, is a model of its own. It is written beside the whole
one as `<Trainer>_pruned<N>__<Plans>__<configuration>`, for nnUNetv2_predict and all that reads such folders.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

from nnunet_archs.deploy.trained import FILES, FINAL
from nnunet_archs.files import atomic_folder
from nnunet_archs.prune.levels import markdown, measure, table
from nnunet_archs.prune.model import PrunableModel, open_prunable, pruned_name
from nnunet_archs.prune.validation import find_validation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument(
        "model", type=Path, metavar="MODEL_FOLDER", help="nnUNet_results/<Dataset>/<Trainer>__<Plans>__<configuration>"
    )
    parser.add_argument("--level", type=int, required=True, metavar="N", help="the level to cut out: 1 is the smallest")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="where levels are measured; default: a GPU if there")
    parser.add_argument("--no-validation", action="store_true", help="make the folder, measure nothing")


def run(args: argparse.Namespace) -> int:
    """Write the pruned model's folder beside the whole one, with the measurements of all levels."""
    model = open_prunable(args.model)
    check_level(model, args.level)
    name = pruned_name(model.trainer, args.level)
    target = model.folder.with_name("__".join([name, *model.folder.name.split("__")[1:]]))
    if target.exists():
        raise ValueError(f"{target} exists; move it away, or give another --level")
    device = choose_device(args.device)
    validation = None if args.no_validation else find_validation(model)
    with atomic_folder(target) as folder:
        copy_files(model, folder)
        for fold in model.folds:
            write_pruned(model, fold, args.level, folder)
        if validation is not None:
            result = measure(model, args.level, validation, device)
            (folder / "pruning.json").write_text(json.dumps(result, indent=2) + "\n")
            (folder / "pruning.md").write_text(markdown(result))
            print(f"{table(result)}\n")
    print(f"{target}: level {args.level} of {model.trainer.__name__}, predict with -tr {name}")
    return 0


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


def choose_device(name: str | None) -> torch.device:
    """The device of a name, by default a GPU where there is one.

    Raises:
        ValueError: if a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no GPU; give --device cpu")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


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

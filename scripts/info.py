"""Show what is in a trained model's folder, what inference costs, and whether it runs here.

Exit code 1 where it cannot.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from nnunet_archs.tables import aligned

from .options import add_model

EXAMPLE = "nnunet-archs info $nnUNet_results/Dataset004_Hippocampus/CAggNetTrainer__nnUNetPlans__2d"
MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    add_model(parser)
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="voxels at the plan's spacing, for which time and memory are measured; default: the plan's median",
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of text")


def run(args: argparse.Namespace) -> int:
    """Print what is known; 1 where something keeps it from running here."""
    from nnunet_archs.deploy.info import inspect_folder

    facts = inspect_folder(args.model, args.image_size)
    print(json.dumps(facts, indent=2) if args.json else "\n".join(aligned(list(lines(facts)))))
    return int(bool(facts["problems"]))


def lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The facts in two columns."""
    yield "folder", facts["folder"]
    yield "data set", f"{facts['dataset']}; {', '.join(facts['channels'])}; {', '.join(facts['labels'])}"
    if "trainer" in facts:
        yield from trainer_lines(facts)
    for fold, known in facts["folds"].items():
        epochs = "no checkpoint" if known["epochs"] is None else f"{known['epochs']} epochs"
        dice = "not validated" if known["dice"] is None else f"validation Dice {known['dice']:.4f}"
        yield f"fold {fold}", f"{'finished' if known['finished'] else 'not finished'}, {epochs}, {dice}"
    if "inference" in facts:
        yield from inference_lines(facts["inference"], facts["mirroring_axes"])
    if "memory" in facts:
        yield "memory", memory_line(facts["memory"])
    yield "trained with", described(facts["trained_with"]) or "not recorded"
    yield "installed", described(facts["installed"])
    for problem in facts["problems"] or ["yes"]:
        yield "runs here", f"no: {problem}" if facts["problems"] else problem


def trainer_lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The trainer with its options, and the plan."""
    yield "trainer", f"{facts['trainer']}, of {facts['from']}"
    for word, meaning in facts["options"].items():
        yield f"  _{word}", meaning
    patch, spacing = ("x".join(map(str, facts[key])) for key in ("patch_size", "spacing"))
    plan = f"patch {patch}, batch {facts['batch_size']}, spacing {spacing} mm"
    yield "plans", f"{facts['plans']}, {facts['configuration']}: {plan}"
    yield "planned for", facts["planned_for"]
    yield "network", facts["network"]


def inference_lines(cost: dict[str, Any], mirroring_axes: list[int]) -> Iterator[tuple[str, str]]:
    """What predicting an image takes."""
    size = "x".join(map(str, cost["image_size"]))
    work = f"{cost['forward_passes']} passes, {cost['multiply_adds'] / 1e9:,.1f} G multiply-adds"
    yield "parameters", f"{cost['parameters']:,}"
    seconds = "" if cost["seconds"] is None else f", {cost['seconds']:.1f} s ({cost['device']})"
    mirrored = f"mirrored along {len(mirroring_axes)} axes" if mirroring_axes else "without mirroring"
    yield size, f"{work}{seconds}; a fold, {mirrored}"


def memory_line(memory: dict[str, int | None]) -> str:
    """What a process that predicts the image takes of memory."""
    peak, imports, gpu = memory["peak"], memory["imports"], memory["gpu"]
    if peak is None or imports is None:
        return "not measured on this system"
    beside = f"; {gpu / MIB:,.0f} MiB of the GPU" if gpu else ""
    most, of_them = (f"{bytes_ / MIB:,.0f} MiB" for bytes_ in (peak, imports))
    return f"{most} at the peak of a process that predicts it, {of_them} of them imports{beside}"


def described(versions: dict[str, str]) -> str:
    """Names and versions in a row."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())

"""What is in a trained model's folder, and whether it can run here."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import requires
from math import prod
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from packaging.requirements import Requirement
from torch.utils.flop_counter import FlopCounterMode

from nnunet_archs.measure.counts import IN_PLACE
from nnunet_archs.nnunet.find import find_trainer
from nnunet_archs.nnunet.plans import BUDGET, describe_budget
from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.names import find_option

from .facts import network_call, version_of, versions
from .peak import memory_of_prediction
from .trained import FINAL, TrainedFolder, TrainedModel, open_folder, open_model, read_if_there

CHECKPOINTS = (FINAL, "checkpoint_latest.pth", "checkpoint_best.pth")


def inspect_folder(folder: Path, image_size: Sequence[int] | None) -> dict[str, Any]:
    """What is known of a model, as JSON takes it; `problems` keep it from running here.

    Inference is described for an image of a size in voxels (z, y, x) at the plan's spacing, with its time and memory,
    which are measured; by default for the plan's median, without.

    Raises:
        ValueError: if the folder is none of a model's, or the size none of an image.
    """
    if image_size is not None and (len(image_size) != 3 or min(image_size) < 1):
        raise ValueError(f"--image-size {' '.join(map(str, image_size))}: give three sizes in voxels, z y x, from 1")
    source = open_folder(folder)
    problems = version_problems()
    if not source.finished:
        problems.append(f"no fold is finished (fold_X/{FINAL}); train one to its end")
    model: TrainedModel | None = None
    folds: dict[str, Any] = {}
    for fold in source.begun:
        folds[fold] = {"finished": fold in source.finished, "epochs": None, "dice": source.validation_dice(fold)}
        try:
            checkpoint = newest_checkpoint(source, fold)
            if checkpoint is None:
                continue
            folds[fold]["epochs"] = checkpoint.get("current_epoch")
            model = model or open_model(source, checkpoint)
            model.check(fold, checkpoint)
        except ValueError as error:
            problems.append(str(error))
    facts: dict[str, Any] = {
        "folder": str(source.folder),
        "dataset": source.plans.get("dataset_name"),
        "plans": source.plans.get("plans_name"),
        "channels": list(source.dataset_json.get("channel_names", {}).values()),
        "labels": source.dataset_json.get("labels", {}),
        "folds": folds,
        "trained_with": recorded_versions(source),
        "installed": versions(),
    }
    if model is not None:
        facts |= trainer_facts(model, problems)
        try:
            facts["inference"] = inference_cost(model, image_size)
        except KeyError as error:
            problems.append(f"plans.json lacks {error}; it is of another version of nnU-Net")
        if image_size is not None and source.finished and not problems:
            try:
                facts["memory"] = memory_of_prediction(source.folder, source.finished[0], image_size)
            except ValueError as error:
                problems.append(str(error))
    return {**facts, "problems": list(dict.fromkeys(problems))}


def newest_checkpoint(source: TrainedFolder, fold: str) -> dict[str, Any] | None:
    """The checkpoint that a fold came furthest with, if it has any."""
    for name in CHECKPOINTS:
        if (source.folder / f"fold_{fold}" / name).is_file():
            return source.load(fold, name)
    return None


def recorded_versions(source: TrainedFolder) -> dict[str, str]:
    """What nnU-Net's debug.json records of the training's machine; of nnU-Net's own version it records nothing."""
    found: dict[str, str] = {}
    for fold in source.begun:
        debug = read_if_there(source.folder / f"fold_{fold}" / "debug.json")
        found |= {key: debug[key] for key in ("torch_version", "cudnn_version", "gpu_name") if debug.get(key)}
    return {key: str(value) for key, value in found.items() if value != "None"}


def version_problems() -> list[str]:
    """Whether the installed nnU-Net is one that this package works with."""
    (wanted,) = (r for r in map(Requirement, requires("nnunet-archs") or ()) if r.name == "nnunetv2")
    found = version_of("nnunetv2")
    if found is None or not wanted.specifier.contains(found, prereleases=True):
        return [f'nnunetv2 {found} does not fit {wanted.specifier}: pip install "{wanted}"']
    return []


def trainer_facts(model: TrainedModel, problems: list[str]) -> dict[str, Any]:
    """The trainer, its options, the plan; adds to the problems where nnU-Net does not find the trainer."""
    name, plan, ours = model.trainer.__name__, model.configuration, issubclass(model.trainer, PaperTrainer)
    try:
        find_trainer(name)
    except LookupError:
        problems.append(f'nnU-Net does not find {name}: export nnUNet_extTrainer="$(nnunet-archs path)"')
    return {
        "trainer": name,
        "from": "nnunet-archs" if ours else model.trainer.__module__,
        "options": {word: spelled_out(word, model.trainer) for word in model.trainer.name_words} if ours else {},
        "network": network_call(model)[0],
        "configuration": model.configuration_name,
        "patch_size": list(plan.patch_size),
        "batch_size": plan.batch_size,
        "spacing": list(plan.spacing),
        "planned_for": describe_budget(plan.configuration.get(BUDGET)),
        "mirroring_axes": list(model.mirroring_axes),
    }


def spelled_out(word: str, trainer: type[PaperTrainer]) -> str:
    """What a word of a trainer's name means, its number put in."""
    option = find_option(word, trainer)
    return re.sub(r"\b[NP]\b", str(option.value_in(word)), option.meaning) if "<" in option.spelling else option.meaning


def inference_cost(model: TrainedModel, image_size: Sequence[int] | None) -> dict[str, Any]:
    """What an image takes of a fold, as nnU-Net predicts: counted, and timed for a size given."""
    size = list(image_size or median_size(model))
    network, x = model.on_meta.eval(), torch.empty(model.input_shape, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        network(x)
    runs = n_windows(model, size) * 2 ** len(model.mirroring_axes)
    return {
        "image_size": size,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "forward_passes": runs,
        "multiply_adds": counter.get_total_flops() // 2 * runs,
        "seconds": None if image_size is None else runs * seconds_of_a_pass(model),
        "device": None if image_size is None else device_name(),
    }


def median_size(model: TrainedModel) -> list[int]:
    """The median image of the data set (z, y, x) at the plan's spacing; in 2D with the slices that it has."""
    size = [round(n) for n in model.configuration.median_image_size_in_voxels]
    slices = [round(n) for n in model.plans.original_median_shape_after_transp]
    return [*slices[: 3 - len(size)], *size]


def n_windows(model: TrainedModel, size: Sequence[int]) -> int:
    """How many windows nnU-Net lays over an image; in 2D over each slice."""
    patch = model.configuration.patch_size
    slices, plane = size[: 3 - len(patch)], size[3 - len(patch) :]
    padded = tuple(max(n, p) for n, p in zip(plane, patch, strict=True))
    return prod(slices) * prod(map(len, compute_steps_for_sliding_window(padded, tuple(patch), 0.5)))


@torch.inference_mode()
def seconds_of_a_pass(model: TrainedModel) -> float:
    """The faster of two forward passes of a patch, on a GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, x = model.build().eval().to(device), torch.rand(model.input_shape, device=device)
    seconds = []
    # as nnU-Net's predictor has it
    with torch.autocast(device.type) if device.type == "cuda" else nullcontext():
        for _ in range(2):
            started = time.perf_counter()
            network(x).cpu()
            seconds.append(time.perf_counter() - started)
    return min(seconds)


def device_name() -> str:
    """Where a pass is timed."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"

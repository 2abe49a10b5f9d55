"""A trainer as nnU-Net runs it, at a workload, without data: its own network, loss, optimiser and step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_archs.benchmark.workloads import NUM_CLASSES, Workload
from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.memory import make_targets
from nnunet_archs.trainers.registry import resolve_paper

DATASET, CONFIGURATION = "Dataset999_Measured", "measured"
DATASET_JSON: dict[str, Any] = {
    "channel_names": {"0": "made"},
    "labels": {"background": 0, **{f"label {n}": n for n in range(1, NUM_CLASSES)}},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}


def plans_of(trainer: type[PaperTrainer], workload: Workload) -> dict[str, Any]:
    """Plans of one configuration, at the nearest patch that the trainer's network takes."""
    configuration = workload.configuration
    axes = len(workload.patch_size)
    stated = {
        **configuration.configuration,
        "data_identifier": CONFIGURATION,
        "patch_size": list(trainer.serving_patch(configuration)),
        "spacing": [1.0] * axes,
        "normalization_schemes": ["ZScoreNormalization"] * workload.input_channels,
        "use_mask_for_norm": [False] * workload.input_channels,
        "batch_dice": axes == 2,
    }
    return {
        "dataset_name": DATASET,
        "plans_name": "MeasuredPlans",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "continue_training": False,
        "configurations": {CONFIGURATION: stated},
    }


@contextmanager
def training(name: str, workload: Workload, device: str, *, compiled: bool) -> Iterator[nnUNetTrainer]:
    """An initialised trainer, in folders that are gone afterwards."""
    trainer = resolve_paper(name)
    with TemporaryDirectory() as root:
        folders = {f"nnUNet_{kind}": str(Path(root, kind)) for kind in ("raw", "preprocessed", "results")}
        data = Path(folders["nnUNet_preprocessed"], DATASET, CONFIGURATION)
        data.mkdir(parents=True)
        (data / "case.b2nd").touch()  # by which nnU-Net knows the data's format
        with patch.dict(os.environ, {**folders, "nnUNet_compile": str(compiled)}):
            started = trainer(plans_of(trainer, workload), CONFIGURATION, 0, DATASET_JSON, torch.device(device))
            started.initialize()
            yield started


def batch_of(trainer: nnUNetTrainer) -> dict[str, Any]:
    """Noise with a slab of the last label, as nnU-Net's loader gives it."""
    made = make_targets(trainer, trainer.batch_size)
    targets = [slab(target) for target in (made if isinstance(made, list) else [made])]
    shape = (trainer.batch_size, trainer.num_input_channels, *trainer.configuration_manager.patch_size)
    return {"data": torch.randn(shape), "target": targets if isinstance(made, list) else targets[0]}


def slab(like: torch.Tensor) -> torch.Tensor:
    """A label map on the CPU, whose middle half along the last axis is foreground."""
    target = torch.zeros(like.shape, dtype=like.dtype)
    n = like.shape[-1]
    target[..., n // 4 : n - n // 4] = NUM_CLASSES - 1
    return target

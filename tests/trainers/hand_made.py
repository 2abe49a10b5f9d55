"""Plans, dataset.json and batches made by hand, in the form that nnU-Net's planner and loader give them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_archs.fidelity.published import PUBLISHED
from nnunet_archs.networks.dense_unet import DenseUNet
from nnunet_archs.trainers.foreign import ForeignTrainer
from nnunet_archs.trainers.registry import paper_trainers, resolve_paper

DATASET = "Dataset901_HandMade"
LABELS: dict[str, dict[str, Any]] = {
    "labels": {"labels": {"background": 0, "organ": 1, "lesion": 2}},
    "regions": {"labels": {"background": 0, "whole": [1, 2], "lesion": 2}, "regions_class_order": [1, 2]},
    "labels+ignore": {"labels": {"background": 0, "organ": 1, "lesion": 2, "ignore": 3}},
    "regions+ignore": {
        "labels": {"background": 0, "whole": [1, 2], "lesion": 2, "ignore": 3},
        "regions_class_order": [1, 2],
    },
}
CHANNELS = {"two channels": 2, "three channels": 3}
LABELS |= dict.fromkeys(CHANNELS, LABELS["labels"])
PATCH = {2: [32, 24], 3: [8, 16, 16]}
# the trainers that take any plan, and those that take any in 2D; the others' plans are made for them
OWN = {trainer.__name__: trainer for trainer in paper_trainers() if not issubclass(trainer, ForeignTrainer)}
FLAT = sorted(name for name, trainer in OWN.items() if getattr(trainer.network_class, "dimensions", None) == (2,))
ADAPTING = sorted(OWN.keys() - set(FLAT))


def by_turns(names: Iterable[str]) -> list[tuple[str, int]]:
    """Each name with a number of axes, 2 and 3 by turns, for what does not depend on both together; FLAT with 2."""
    return [(name, 2 if name in FLAT else 2 + i % 2) for i, name in enumerate(names)]


def make_plans(n_axes: int, n_stages: int = 3) -> dict[str, Any]:
    """Plans with one configuration, "tiny"; in 3D the second stage leaves the first axis as it is."""
    strides = [[1] * n_axes] + [[2] * n_axes] * (n_stages - 1)
    if n_axes == 3 and n_stages > 1:
        strides[1] = [1, 2, 2]
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": n_stages,
            "features_per_stage": [4, 8, 8, 8][:n_stages],
            "conv_op": f"torch.nn.modules.conv.Conv{n_axes}d",
            "kernel_sizes": [[3] * n_axes] * n_stages,
            "strides": strides,
            "n_conv_per_stage": [1] * n_stages,
            "n_conv_per_stage_decoder": [1] * (n_stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{n_axes}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    tiny = {
        "data_identifier": "tiny",
        "batch_size": 2,
        "patch_size": PATCH[n_axes],
        "spacing": [1.0] * n_axes,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": n_axes == 2,
        "architecture": architecture,
    }
    return {
        "dataset_name": DATASET,
        "plans_name": "HandMadePlans",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "continue_training": False,
        "configurations": {"tiny": tiny},
    }


def serving_plans(trainer: Any, n_axes: int) -> dict[str, Any]:
    """Plans of nnU-Net's network at a patch that serves another."""
    plans = make_plans(n_axes)
    tiny = plans["configurations"]["tiny"]
    tiny["patch_size"] = list(trainer.serving_patch(ConfigurationManager(tiny)))
    return plans


def make_dataset_json(target: str = "labels") -> dict[str, Any]:
    names = {str(channel): f"channel{channel}" for channel in range(CHANNELS.get(target, 1))}
    return {"channel_names": names, "numTraining": 1, "file_ending": ".nii.gz", **LABELS[target]}


def make_affordable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the network whose width no plan decides one like that of the others here."""
    for row in PUBLISHED:
        if row.network is DenseUNet:
            row.built_parameters()  # which is kept, and is the size of the width that it has
    monkeypatch.setattr(DenseUNet, "width", 8)


def make_folders(root: Path) -> dict[str, str]:
    """nnU-Net's variables for folders in `root`; the preprocessed one looks as if it held a case."""
    folder = root / "preprocessed" / DATASET / "tiny"
    folder.mkdir(parents=True)
    (folder / "case.b2nd").touch()
    return {f"nnUNet_{name}": str(root / name) for name in ("raw", "preprocessed", "results")}


def make_trainer(name: str, plans: dict[str, Any], target: str = "labels") -> nnUNetTrainer:
    """An initialised trainer, on the CPU, with weights that are the same at every call."""
    torch.manual_seed(0)
    trainer = resolve_paper(name)(plans, "tiny", 0, make_dataset_json(target), torch.device("cpu"))
    trainer.initialize()
    return trainer


def make_batch(trainer: nnUNetTrainer, seed: int = 0) -> dict[str, Any]:
    """Bright organs with brighter lesions in noise, through nnU-Net's own transforms."""
    rng = np.random.default_rng(seed)
    labels = trainer.label_manager
    transforms = trainer.get_validation_transforms(
        trainer._get_deep_supervision_scales(),
        foreground_labels=labels.foreground_labels,
        regions=labels.foreground_regions if labels.has_regions else None,
        ignore_label=labels.ignore_label,
    )
    shape = trainer.configuration_manager.patch_size
    samples = [
        transforms(**make_sample(rng, shape, trainer.num_input_channels, labels.ignore_label))
        for _ in range(trainer.batch_size)
    ]
    targets = [sample["segmentation"] for sample in samples]
    target = [torch.stack(scale) for scale in zip(*targets, strict=True)]
    if not isinstance(targets[0], list):
        target = torch.stack(targets)
    return {"data": torch.stack([sample["image"] for sample in samples]), "target": target}


def make_sample(
    rng: np.random.Generator, shape: list[int], n_channels: int, ignore_label: int | None
) -> dict[str, torch.Tensor]:
    """An image `(C, *shape)`, float32, and its label map `(1, *shape)`, int16."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    distance = np.linalg.norm(grid - rng.uniform(-0.2, 0.2, (len(shape),) + (1,) * len(shape)), axis=0)
    segmentation = (distance < 0.8).astype(np.int16) + (distance < 0.45)
    image = segmentation + rng.normal(0, 0.3, (n_channels, *shape))
    if ignore_label is not None:
        segmentation[: shape[0] // 4] = ignore_label
    return {"image": torch.from_numpy(image).float(), "segmentation": torch.from_numpy(segmentation[None])}

"""A tiny data set in nnU-Net's folders, its plans, and nnU-Net's console commands on them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import entry_points
from io import StringIO
from multiprocessing.context import SpawnContext
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import SimpleITK
import torch
from filelock import FileLock
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_archs.discovery import discovery_folder
from nnunet_archs.nnunet.plans import BUDGET, budget

ID = "900"
DATASET = "Dataset900_Ellipsoids"
PLANS = "TinyPlans"
CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")
N_TRAINING, N_TEST = 10, 2
SHAPE = (28, 36, 32)
SPACING = (1.0, 1.0, 2.0)  # x, y, z in mm
LIMIT = 300  # seconds that a command may take


def pool_of_threads(_: SpawnContext, processes: int) -> ThreadPool:
    """What nnU-Net's pools are here: each process of one would import torch anew, seconds for a small file."""
    return ThreadPool(processes)


@dataclass(frozen=True)
class Home:
    """nnU-Net's three folders, below `root`."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "nnUNet_raw" / DATASET

    @property
    def preprocessed(self) -> Path:
        return self.root / "nnUNet_preprocessed" / DATASET

    def results(self, trainer: str, configuration: str, fold: int | None = None, *, plans: str = PLANS) -> Path:
        model = self.root / "nnUNet_results" / DATASET / f"{trainer}__{plans}__{configuration}"
        return model if fold is None else model / f"fold_{fold}"

    @property
    def variables(self) -> dict[str, str]:
        folders = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        return {folder: str(self.root / folder) for folder in folders} | {"nnUNet_extTrainer": discovery_folder()}

    def once(self, what: str, make: Callable[[], object]) -> None:
        """Make something in these folders unless that was done; pytest-xdist's processes share them."""
        self.root.mkdir(exist_ok=True)
        done = self.root / f"{what}.done"
        with FileLock(self.root / f"{what}.lock"):
            if not done.exists():
                make()
                done.touch()

    def environment(self, command: str, variables: Mapping[str, str] | None) -> dict[str, str]:
        # with no process of its own for augmentation; planning fails with it
        single = {"nnUNet_n_proc_DA": "0"} if command == "nnUNetv2_train" else {}
        return {**self.variables, **single, **(variables or {})}

    def start(self, command: str, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [Path(sys.executable).with_name(command), *map(str, arguments)],
            env={**os.environ, **self.environment(command, None)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str, *arguments: object, variables: Mapping[str, str] | None = None) -> str:
        """Run a command that must succeed, as its console script would, but where all is imported; what it printed."""
        (script,) = entry_points(group="console_scripts", name=command)
        output, n_threads = StringIO(), torch.get_num_threads()
        with (
            patch.dict(os.environ, self.environment(command, variables)),
            patch.object(sys, "argv", [command, *map(str, arguments)]),
            patch.object(SpawnContext, "Pool", pool_of_threads),
            redirect_stdout(output),
            redirect_stderr(output),
        ):
            try:
                assert not script.load()()
            finally:
                torch.set_num_threads(n_threads)
        return output.getvalue()

    def train(
        self, trainer: str, configuration: str, fold: int, *flags: str, variables: Mapping[str, str] | None = None
    ) -> str:
        model = [ID, configuration, fold, "-tr", trainer, "-p", PLANS, "-device", "cpu"]
        return self.run("nnUNetv2_train", *model, *flags, variables=variables)

    def predict(
        self,
        trainer: str,
        configuration: str,
        folds: list[int],
        output: Path,
        *flags: object,
        variables: Mapping[str, str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Predict the test images; return the label maps."""
        model = ["-d", ID, "-tr", trainer, "-p", PLANS, "-c", configuration, "-f", *folds, "-device", "cpu"]
        folders = ["-i", self.raw / "imagesTs", "-o", output]
        self.run("nnUNetv2_predict", *folders, *model, "-npp", 0, "-nps", 0, *flags, variables=variables)
        return read_label_maps(output)


def save_untrained(home: Home, name: str, configuration: str, fold: int) -> nnUNetTrainer:
    """Save a model as nnU-Net's training leaves it: it has not learnt anything, but finds all labels."""
    torch.manual_seed(fold)
    trainer = get_trainer_from_args(ID, configuration, fold, name, PLANS, device=torch.device("cpu"))
    trainer.initialize()
    for key, weight in trainer.network.state_dict().items():
        if ".seg_layers." in key:
            weight.normal_()
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    folder = Path(trainer.output_folder_base)
    trainer.save_checkpoint(str(folder / f"fold_{fold}" / "checkpoint_final.pth"))
    shutil.copyfile(home.preprocessed / f"{PLANS}.json", folder / "plans.json")
    shutil.copyfile(home.preprocessed / "dataset.json", folder / "dataset.json")
    return trainer


def save_first_stage(trainer: nnUNetTrainer, folder: Path, cases: Iterable[str]) -> None:
    """Label maps in place of a cascade's first stage's predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocessed = nnUNetDatasetBlosc2(trainer.preprocessed_dataset_folder)
    for case in cases:
        _, truth, _, _ = preprocessed.load_case(case)
        nnUNetDatasetBlosc2.save_seg(np.maximum(truth[0], 0).astype(np.uint8), str(folder / case))


def read_label_maps(folder: Path) -> dict[str, np.ndarray]:
    files = sorted(folder.glob("*.nii.gz"))
    return {file.name: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file)) for file in files}


def load_json(path: Path) -> Any:
    return json.loads(path.read_text())


def write_raw_dataset(folder: Path) -> None:
    """Organs, ellipsoids with a brighter lesion, in noise."""
    rng = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / name).mkdir(parents=True)
    for case in range(N_TRAINING + N_TEST):
        labels = make_label_map(rng)
        image = 100 * labels + rng.normal(0, 30, SHAPE)
        part = "Ts" if case >= N_TRAINING else "Tr"
        write_image(image.astype(np.float32), folder / f"images{part}" / f"e{case:02}_0000.nii.gz")
        write_image(labels, folder / f"labels{part}" / f"e{case:02}.nii.gz")
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "organ": 1, "lesion": 2},
        "numTraining": N_TRAINING,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))


def make_label_map(rng: np.random.Generator) -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    centre = rng.uniform(-0.2, 0.2, (3, 1, 1, 1))
    distance = np.linalg.norm((grid - centre) / rng.uniform(0.5, 0.8, (3, 1, 1, 1)), axis=0)
    return (distance < 1).astype(np.uint8) + (distance < 0.5)


def write_image(array: np.ndarray, path: Path) -> None:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    SimpleITK.WriteImage(image, path)


def write_tiny_plans(folder: Path) -> None:
    """Plans beside nnU-Net's own, with small networks and patches, and a cascade."""
    plans = load_json(folder / "nnUNetPlans.json")
    planned = plans["configurations"]
    flat = shrink(planned["2d"], [32, 32], [[1, 1], [2, 2], [2, 2]])
    full = shrink(planned["3d_fullres"], [16, 32, 32], [[1, 1, 1], [1, 2, 2], [2, 2, 2]])
    low = deepcopy(full) | {
        "data_identifier": f"{PLANS}_3d_lowres",
        "spacing": [2 * mm for mm in full["spacing"]],
        "median_image_size_in_voxels": [n // 2 for n in full["median_image_size_in_voxels"]],
        "patch_size": [8, 16, 16],
        "next_stage": "3d_cascade_fullres",
    }
    cascade = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    plans["plans_name"] = PLANS
    plans["configurations"] = {
        "2d": flat,
        "3d_fullres": full,
        "3d_lowres": low,
        "3d_cascade_fullres": cascade,
    }
    (folder / f"{PLANS}.json").write_text(json.dumps(plans))


def write_splits(folder: Path) -> None:
    """The five folds; nnU-Net would write them when training begins, in each process that comes to it first."""
    cases = [f"e{case:02}" for case in range(N_TRAINING)]
    validated = [cases[fold::5] for fold in range(5)]
    splits = [{"train": [case for case in cases if case not in val], "val": val} for val in validated]
    (folder / "splits_final.json").write_text(json.dumps(splits))


def shrink(configuration: dict[str, Any], patch_size: list[int], strides: list[list[int]]) -> dict[str, Any]:
    small = deepcopy(configuration)
    n_stages = len(strides)
    small["architecture"]["arch_kwargs"] |= {
        "n_stages": n_stages,
        "features_per_stage": [4, 8, 8],
        "kernel_sizes": [[3] * len(patch_size)] * n_stages,
        "strides": strides,
        "n_conv_per_stage": [1] * n_stages,
        "n_conv_per_stage_decoder": [1] * (n_stages - 1),
    }
    made_for = budget("PlainConvUNetTrainer", gpu_memory=8, base_width=4)  # nnU-Net carries it along
    return small | {"patch_size": patch_size, "batch_size": 2, BUDGET: made_for}

"""Predict a folder of images with an exported ONNX folder: nnU-Net's own prediction, its network in onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from nnunet_archs.files import read_json
from nnunet_archs.nnunet.commands import check_step_size
from nnunet_archs.nnunet.datasets import normal_form

from .facts import is_as_exported, read_facts
from .weights import FORMATS, load_onnx


class Graph(nn.Module):
    """A network for nnU-Net's predictor, whose weights of a fold are an ONNX file."""

    def load_state_dict(self, file: Path) -> None:  # type: ignore[override]
        """Take a fold's file."""
        self.run = load_onnx(file, {})

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(B, num_classes, *patch)` of `(B, C, *patch)`."""
        return self.run(x)


def predict(
    folder: Path, images: Path, output: Path, *, step_size: float | None, mirroring: bool, previous: Path | None
) -> None:
    """Predict all cases of a folder of images, as `nnUNetv2_predict` does.

    Args:
        folder: what `nnunet-archs export --to onnx` wrote.
        images: named as nnU-Net names them.
        output: where the label maps go.
        step_size: of the sliding window, as a share of the patch; by default the model's.
        mirroring: whether mirrored copies are predicted too.
        previous: of a cascade's second stage, the folder with the first stage's label maps.

    Raises:
        ValueError: if the folder is not whole, or the options do not go with it.
    """
    FORMATS["onnx"].check_installed()
    check_step_size(step_size)
    model = read_model(folder)
    stage = model["previous_stage"]
    if bool(stage) != bool(previous):
        said = f"is the second stage of a cascade, after {stage}" if stage else "has no previous stage"
        remedy = "give the first stage's predictions with" if stage else "leave out"
        raise ValueError(f"{folder} {said}; {remedy} -prev_stage_predictions")
    if not images.is_dir():
        raise ValueError(f"-i {images} is no folder; give the one with the images")
    files = [checked(folder, fold) for fold in model["weights"]["folds"].values()]
    plans = PlansManager(read_json(folder / "plans.json"))
    window = model["sliding_window"]
    predictor = nnUNetPredictor(
        tile_step_size=step_size or window["step"],
        use_mirroring=mirroring,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        Graph(),
        plans,
        plans.get_configuration(model["configuration"]),
        files,
        normal_form(read_json(folder / "dataset.json")),
        model["trainer"],
        window["mirroring_axes"] or None,
    )
    output.mkdir(parents=True, exist_ok=True)
    predictor.predict_from_files_sequential(
        str(images), str(output), folder_with_segs_from_prev_stage=previous and str(previous)
    )


def read_model(folder: Path) -> dict[str, Any]:
    """What model.json says.

    Raises:
        ValueError: if there is none that this version reads, or it is of another format.
    """
    model = read_facts(folder, wrote="nnunet-archs export --to onnx")
    if (written := model["weights"]["format"]) != "onnx":
        raise ValueError(f"{folder} is exported to {written}; export it again with --to onnx")
    return model


def checked(folder: Path, fold: dict[str, Any]) -> Path:
    """A fold's file.

    Raises:
        ValueError: if it is not the one that was exported.
    """
    file = folder / fold["file"]
    if not is_as_exported(file, fold["sha256"]):
        raise ValueError(f"{file} is missing, or not as it was exported; copy it again")
    return file

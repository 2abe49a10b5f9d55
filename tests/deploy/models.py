"""Folders of trained models, as nnU-Net leaves them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import torch
from hand_made import DATASET, make_dataset_json, make_plans, make_trainer

from nnunet_archs.deploy.container import write_models
from nnunet_archs.deploy.submit import Member, Selection

NAME = "UNetSharpTrainer_5epochs"
FASTEST = "UNetTrainer_NoMirroring"
ABSENT = object()  # of a key of dataset.json
RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def complete_plans(n_axes: int, n_channels: int = 1) -> dict[str, Any]:
    """The plans made by hand, with what prediction needs too."""
    plans = make_plans(n_axes)
    intensities = {"mean": 3.0, "std": 2.0, "percentile_00_5": -1.0, "percentile_99_5": 7.0}
    plans |= {
        "transpose_forward": [2, 0, 1],
        "transpose_backward": [1, 2, 0],
        "foreground_intensity_properties_per_channel": {str(c): intensities for c in range(n_channels)},
        "original_median_shape_after_transp": [10, 40, 30],
    }
    plans["configurations"]["tiny"] |= {
        "preprocessor_name": "DefaultPreprocessor",
        "median_image_size_in_voxels": [10, 40, 30][-n_axes:],
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization", "ZScoreNormalization"][:n_channels],
        "use_mask_for_norm": [False, True, True][:n_channels],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": RESAMPLING,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": RESAMPLING | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": RESAMPLING | {"order": 1},
    }
    return plans


def save_model(
    name: str = NAME,
    n_axes: int = 2,
    folds: tuple[int | str, ...] = (0,),
    target: str = "labels",
    reader: str = "SimpleITKIO",
    **dataset_json: Any,
) -> Path:
    """A model's folder as nnU-Net leaves it after training; folds differ a little."""
    plans = complete_plans(n_axes, len(make_dataset_json(target)["channel_names"])) | {"image_reader_writer": reader}
    if reader == "NaturalImage2DIO" or dataset_json.get("file_ending") == ".mha":  # these images have two axes
        plans |= {"transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2]}
    trainer = make_trainer(name, dict(plans), target)
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    folder = Path(trainer.output_folder_base)
    for fold in folds:
        for parameter in trainer.network.parameters():
            parameter.data += 0.01 * torch.randn_like(parameter)
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        trainer.save_checkpoint(str(folder / f"fold_{fold}" / "checkpoint_final.pth"))
    del plans["continue_training"]
    (folder / "plans.json").write_text(json.dumps(plans))
    contents = make_dataset_json(target) | dataset_json
    (folder / "dataset.json").write_text(
        json.dumps({key: value for key, value in contents.items() if value is not ABSENT})
    )
    return folder


def container(reader: str, ending: str, n_axes: int, target: str) -> Path:
    """The folder of models as a container unpacks it."""
    save_model(FASTEST, n_axes=n_axes, reader=reader, file_ending=ending, target=target)
    member = Member(DATASET, FASTEST, "HandMadePlans", "tiny", ("0",))
    write_models(Path("model.tar.gz"), Selection((member,)))
    with tarfile.open("model.tar.gz") as archive:
        archive.extractall("models", filter="data")
    return Path("models")

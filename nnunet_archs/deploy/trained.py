"""A trained model, of any trainer, as nnU-Net keeps it in a folder."""

from __future__ import annotations

import inspect
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunet_archs.files import read_json
from nnunet_archs.nnunet.datasets import normal_form
from nnunet_archs.trainers.registry import UnknownTrainer, resolve

FINAL = "checkpoint_final.pth"
FILES = ("dataset.json", "plans.json")
UNPICKLING = (pickle.UnpicklingError, AttributeError, ImportError)
NEEDED = ("trainer_name", "init_args", "network_weights")


@dataclass(frozen=True)
class TrainedFolder:
    """A model's folder, before any checkpoint is read; folds by their names, "0" or "all"."""

    folder: Path
    plans: dict[str, Any]
    dataset_json: dict[str, Any]

    @property
    def begun(self) -> list[str]:
        """Folds that have a folder."""
        names = (path.name.removeprefix("fold_") for path in self.folder.glob("fold_*") if path.is_dir())
        return sorted(name for name in names if name == "all" or name.isdecimal())

    @property
    def finished(self) -> list[str]:
        """Folds that were trained to their end."""
        return [fold for fold in self.begun if (self.folder / f"fold_{fold}" / FINAL).is_file()]

    def choose(self, wanted: list[str] | None) -> list[str]:
        """The folds wanted; by default all, as nnU-Net takes them: `fold_all` only where it stands alone.

        Raises:
            ValueError: if one is missing or not trained to its end.
        """
        folds = wanted or [fold for fold in self.begun if fold != "all"] or self.begun
        if not folds:
            raise ValueError(f"{self.folder} holds no fold (fold_X/{FINAL}); train one to its end")
        for fold in folds:
            if fold not in self.begun:
                raise ValueError(f"{self.folder} has no fold {fold}, but {', '.join(self.begun)}; give these with -f")
            if fold not in self.finished:
                there = ", ".join(self.finished) or "none"
                raise ValueError(
                    f"fold {fold} of {self.folder} is not finished (no {FINAL}); train it to its end, or choose with "
                    f"-f among the finished: {there}"
                )
        return list(dict.fromkeys(folds))

    def load(self, fold: str, name: str = FINAL) -> dict[str, Any]:
        """A fold's checkpoint, read as nnU-Net reads it.

        Raises:
            ValueError: if it cannot be read, or lacks what nnU-Net's have.
        """
        file = self.folder / f"fold_{fold}" / name
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=False)
        # A file that is cut off, or is none of torch's, fails in whatever its pickle runs into.
        except (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, *UNPICKLING) as error:
            raise ValueError(
                f"{file} cannot be read as a checkpoint ({error}); copy or train the fold again"
            ) from error
        if not isinstance(checkpoint, dict) or not all(key in checkpoint for key in NEEDED):
            raise ValueError(f"{file} is no checkpoint of nnU-Net's; it needs {', '.join(NEEDED)}: copy it again")
        return checkpoint

    def validation(self, fold: str) -> dict[str, Any]:
        """nnU-Net's measures of a fold's validation; empty where there are none."""
        return read_if_there(self.folder / f"fold_{fold}" / "validation" / "summary.json")

    def validation_dice(self, fold: str) -> float | None:
        """The foreground mean of a fold's validation, where there is one."""
        dice = self.validation(fold).get("foreground_mean", {}).get("Dice")
        return None if dice is None else float(dice)


@dataclass(frozen=True)
class TrainedModel:
    """What the checkpoints of a folder say beside its plans: by which trainer, for which configuration."""

    source: TrainedFolder
    trainer: type[nnUNetTrainer]
    configuration_name: str
    mirroring_axes: tuple[int, ...]

    @cached_property
    def plans(self) -> PlansManager:
        """The plans."""
        return PlansManager(self.source.plans)

    @cached_property
    def configuration(self) -> ConfigurationManager:
        """The plan of the configuration."""
        return self.plans.get_configuration(self.configuration_name)

    @cached_property
    def labels(self) -> LabelManager:
        """What the channels of the logits mean."""
        return self.plans.get_label_manager(self.source.dataset_json)

    @property
    def input_channels(self) -> int:
        """Channels of the network's input, a cascade's previous stage among them."""
        return int(determine_num_input_channels(self.plans, self.configuration, self.source.dataset_json))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One patch `(1, C, *patch)`."""
        return (1, self.input_channels, *self.configuration.patch_size)

    def build(self) -> nn.Module:
        """The network as nnU-Net builds it for prediction, with any weights.

        Raises:
            ValueError: if the trainer cannot build it for these plans.
        """
        if "plans_manager" not in inspect.signature(self.trainer.build_network_architecture).parameters:
            raise ValueError(
                f"{self.trainer.__name__} builds its network as nnU-Net before 2.7 had it; update its "
                "build_network_architecture"
            )
        return self.trainer.build_network_architecture(
            self.plans,
            self.configuration,
            self.input_channels,
            self.labels.num_segmentation_heads,
            enable_deep_supervision=False,
        )

    @cached_property
    def on_meta(self) -> nn.Module:
        """The network on the meta device: its shapes, not its weights."""
        with torch.device("meta"):
            return self.build()

    def check(self, fold: str, checkpoint: dict[str, Any]) -> None:
        """Check that a fold's checkpoint is of this model.

        Raises:
            ValueError: if it is of another model, or does not fit the plans.
        """
        where = f"fold {fold} of {self.source.folder}"
        if describe(checkpoint) != (self.trainer.__name__, self.configuration_name, self.mirroring_axes):
            raise ValueError(f"{where} was trained otherwise than the others there; put it into a folder of its own")
        if shapes(checkpoint["network_weights"]) != shapes(self.on_meta.state_dict()):
            raise ValueError(f"{where} does not fit plans.json beside it; copy or train the fold again")

    def load(self, fold: str) -> dict[str, Any]:
        """The checkpoint of a fold that is finished.

        Raises:
            ValueError: if it cannot be read, is of another model, or does not fit the plans.
        """
        checkpoint = self.source.load(fold)
        self.check(fold, checkpoint)
        return checkpoint

    def with_weights(self, fold: str) -> nn.Module:
        """A fold's network, in evaluation mode.

        Raises:
            ValueError: if its checkpoint cannot be read, is of another model, or does not fit the plans.
        """
        checkpoint, network = self.load(fold), self.build()
        network.load_state_dict(checkpoint["network_weights"])
        return network.eval().requires_grad_(False)


def read_if_there(file: Path) -> dict[str, Any]:
    """A JSON file's object; empty where there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def open_folder(folder: Path) -> TrainedFolder:
    """The folder of a trained model.

    Raises:
        ValueError: if it is none, or its JSON files cannot be read.
    """
    folder = Path(os.path.abspath(folder))
    if not all((folder / file).is_file() for file in FILES):
        raise ValueError(
            f"{folder} is not a trained model's folder, which has {' and '.join(FILES)}; give one of "
            "nnUNet_results/<Dataset>"
        )
    dataset_json, plans = (read_json(folder / file) for file in FILES)
    return TrainedFolder(folder, plans, normal_form(dataset_json))


def open_model(source: TrainedFolder, checkpoint: dict[str, Any]) -> TrainedModel:
    """The model that a checkpoint of a folder is of.

    Raises:
        ValueError: if its trainer is not found, or its plans lack its configuration.
    """
    name, configuration, axes = describe(checkpoint)
    model = TrainedModel(source, find(name), configuration, axes)
    if configuration not in source.plans.get("configurations", {}):
        raise ValueError(
            f"{source.folder}/plans.json lacks the configuration {configuration} of the checkpoints; copy the plans of "
            "the training there"
        )
    return model


def describe(checkpoint: dict[str, Any]) -> tuple[str, str, tuple[int, ...]]:
    """Trainer, configuration and mirroring axes that a checkpoint names."""
    axes = checkpoint.get("inference_allowed_mirroring_axes") or ()
    return checkpoint["trainer_name"], checkpoint["init_args"]["configuration"], tuple(axes)


def shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """The shape of each tensor of a state dict."""
    return {key: weight.shape for key, weight in weights.items()}


def find(name: str) -> type[nnUNetTrainer]:
    """The trainer of a name.

    Raises:
        ValueError: if there is none.
    """
    try:
        return resolve(name)
    except UnknownTrainer as error:
        raise ValueError(
            f"{name}, the trainer of this model, is not installed here; add the folder it is in to nnUNet_extTrainer"
        ) from error

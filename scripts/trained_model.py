"""A trained model with levels, as nnU-Net keeps it in a folder."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor

from nnunet_archs.networks.unet_sharp import GridNetwork
from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.names import TRAINERS, UnknownTrainer, trainer_class
from nnunet_archs.trainers.unet_sharp import PrunableTrainer

FINAL = "checkpoint_final.pth"
FILES = ("dataset.json", "plans.json")


@dataclass(frozen=True)
class Model:
    """A trained model, as nnU-Net keeps it in a folder."""

    folder: Path
    trainer: type[PrunableTrainer]
    plans: PlansManager
    configuration: ConfigurationManager
    configuration_name: str
    dataset_json: dict[str, Any]
    folds: list[str]

    @property
    def input_channels(self) -> int:
        """Channels of the network's input, the previous stage of a cascade among them."""
        return int(determine_num_input_channels(self.plans, self.configuration, self.dataset_json))

    @cached_property
    def whole(self) -> GridNetwork:
        """The whole network as it was trained, on the meta device: its shapes, not its weights."""
        with torch.device("meta"):
            return self.build(self.trainer)

    @property
    def levels(self) -> range:
        """The levels, the whole network last."""
        return range(1, self.whole.supervised[0][1] + 1)

    def build(self, trainer: type[PaperTrainer]) -> GridNetwork:
        """A trainer's network for this model's plans, its first output alone."""
        labels = self.plans.get_label_manager(self.dataset_json)
        network = trainer.build_network_architecture(
            self.plans, self.configuration, self.input_channels, labels.num_segmentation_heads, False
        )
        assert isinstance(network, GridNetwork)
        return network

    def load(self, fold: str) -> dict[str, Any]:
        """A fold's checkpoint.

        Raises:
            ValueError: if it cannot be read, or is not of this model.
        """
        file = self.folder / f"fold_{fold}" / FINAL
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=False)
            weights, trained_by = checkpoint["network_weights"], checkpoint["trainer_name"]
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is no checkpoint of nnU-Net's ({error}); copy or train the fold again") from error
        if trained_by != self.trainer.__name__:
            raise ValueError(f"{file} is of {trained_by}; name the folder after the trainer that trained it")
        if shapes(weights) != shapes(self.whole.state_dict()):
            raise ValueError(f"{file} does not fit plans.json beside it; copy or train the fold again")
        return checkpoint

    def at_level(self, checkpoint: Mapping[str, Any], level: int) -> GridNetwork:
        """The network up to X[0, level], with a fold's weights."""
        network = self.build(trainer_class(pruned_name(self.trainer, level)))
        weights = checkpoint["network_weights"]
        network.load_state_dict({key: weights[key] for key in network.state_dict()})
        return network.eval()


def open_model(folder: Path) -> Model:
    """The trained model in a folder.

    Raises:
        ValueError: if there is none that has levels.
    """
    folder = Path(os.path.abspath(folder))
    parts = folder.name.split("__")
    if len(parts) != 3 or not all((folder / file).is_file() for file in FILES):
        raise ValueError(
            f"{folder} is not a trained model's folder, <Trainer>__<Plans>__<configuration> with {', '.join(FILES)}; "
            "give one from nnUNet_results/<Dataset>"
        )
    trainer = find_trainer(parts[0])
    dataset_json, plans_json = (read_json(folder / file) for file in FILES)
    plans = PlansManager(plans_json)
    if parts[2] not in plans.available_configurations:
        known = ", ".join(plans.available_configurations)
        raise ValueError(f"{folder}: its plans.json has no {parts[2]}, but {known}; name the folder after one of these")
    found = (file.parent.name.removeprefix("fold_") for file in folder.glob(f"fold_*/{FINAL}"))
    folds = sorted(fold for fold in found if fold == "all" or fold.isdecimal())
    if not folds:
        raise ValueError(f"{folder} holds no finished fold (fold_X/{FINAL}); train one to its end")
    return Model(folder, trainer, plans, plans.get_configuration(parts[2]), parts[2], dataset_json, folds)


def find_trainer(name: str) -> type[PrunableTrainer]:
    """The trainer of a name whose network has levels.

    Raises:
        ValueError: if it has none, or is one of them itself.
    """
    prunable = ", ".join(known for known, trainer in TRAINERS.items() if issubclass(trainer, PrunableTrainer))
    try:
        trainer = trainer_class(name)
    except UnknownTrainer as error:
        raise ValueError(f"{name} is no trainer of ours; give a model of {prunable}") from error
    if not issubclass(trainer, PrunableTrainer):
        raise ValueError(f"{name} has no levels to cut out; give a model of {prunable}")
    if trainer.level or trainer.pruned_to:
        raise ValueError(f"{name} is a pruned network already; give the model of the whole network")
    return trainer


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file's object.

    Raises:
        ValueError: if it is none.
    """
    try:
        return load_json(str(file))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({error}); copy it again") from error


def shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Shape of each tensor of a state dict."""
    return {key: weight.shape for key, weight in weights.items()}


def pruned_name(trainer: type[PrunableTrainer], level: int) -> str:
    """Name of the trainer of the network cut out at a level."""
    return f"{trainer.__name__}_pruned{level}"

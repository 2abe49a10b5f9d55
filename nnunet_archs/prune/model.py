"""A trained model whose network has levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_archs.deploy.trained import TrainedModel, open_folder, open_model
from nnunet_archs.networks.unet_sharp import GridNetwork
from nnunet_archs.trainers.registry import paper_trainers, resolve_paper
from nnunet_archs.trainers.unet_sharp import PrunableTrainer


@dataclass(frozen=True)
class PrunableModel(TrainedModel):
    """A trained model that can be cut at a level."""

    trainer: type[PrunableTrainer]

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return self.source.folder

    @property
    def dataset_json(self) -> dict[str, Any]:
        """The channels and labels that it was trained on."""
        return self.source.dataset_json

    @property
    def folds(self) -> list[str]:
        """The folds that were trained to their end."""
        return self.source.finished

    @property
    def whole(self) -> GridNetwork:
        """The whole network as it was trained, on the meta device: its shapes, not its weights."""
        assert isinstance(self.on_meta, GridNetwork)
        return self.on_meta

    @property
    def levels(self) -> range:
        """The levels, the whole network last."""
        return range(1, self.whole.supervised[0][1] + 1)

    def build(self) -> GridNetwork:
        """The network, its first output alone."""
        network = super().build()
        assert isinstance(network, GridNetwork)
        return network

    def at_level(self, checkpoint: Mapping[str, Any], level: int) -> GridNetwork:
        """The network up to X[0, level], with a fold's weights."""
        network = replace(self, trainer=resolve_paper(pruned_name(self.trainer, level))).build()
        weights = checkpoint["network_weights"]
        network.load_state_dict({key: weights[key] for key in network.state_dict()})
        return network.eval()


def open_prunable(folder: Path) -> PrunableModel:
    """The trained model in a folder.

    Raises:
        ValueError: if there is none that has levels, or the folder is named after another.
    """
    source = open_folder(folder)
    first, *_ = source.choose(source.finished)
    model = open_model(source, source.load(first))
    check_trainer(model.trainer)
    trainer, configuration = model.trainer.__name__, model.configuration_name
    parts = source.folder.name.split("__")
    if len(parts) != 3 or (parts[0], parts[2]) != (trainer, configuration):
        raise ValueError(
            f"{source.folder} holds a model of {trainer} for {configuration}; name it as nnU-Net does, "
            f"{trainer}__<Plans>__{configuration}"
        )
    return PrunableModel(source, model.trainer, configuration, model.mirroring_axes)


def check_trainer(trainer: type) -> None:
    """Check that a trainer's network has levels.

    Raises:
        ValueError: if it has none, or is one of them itself.
    """
    if not issubclass(trainer, PrunableTrainer):
        prunable = ", ".join(known.__name__ for known in paper_trainers() if issubclass(known, PrunableTrainer))
        raise ValueError(f"{trainer.__name__} has no levels to cut out; give a model of {prunable}")
    if trainer.level or trainer.pruned_to:
        raise ValueError(f"{trainer.__name__} is a pruned network already; give the model of the whole network")


def pruned_name(trainer: type[PrunableTrainer], level: int) -> str:
    """Name of the trainer of the network cut out at a level."""
    return f"{trainer.__name__}_pruned{level}"

"""What a study runs, whatever it is: whose it is, where its results go, and how far it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from nnunetv2.paths import nnUNet_results

from .definition import Device, Network
from .locks import is_held

State = Literal["finished", "running", "failed", "cut off", "waiting"]
Part = Literal["validation", "test"]
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Job(ABC):
    """What a study runs: a command of nnU-Net's, for a network's configuration on a data set."""

    dataset: str
    configuration: str
    network: Network
    device: Device
    log_folder: Path

    module: ClassVar[str]  # what runs it, under its locks
    part: ClassVar[Part]  # of the data set, of which it leaves predictions

    @property
    @abstractmethod
    def folds(self) -> tuple[int, ...]:
        """The folds whose networks predict together."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where its results go: in nnU-Net's results folder of all folds."""

    @property
    @abstractmethod
    def predicted(self) -> Path:
        """The folder of its predictions, with nnU-Net's summary of them."""

    @property
    @abstractmethod
    def references(self) -> Path:
        """The folder of what its predictions are compared with."""

    @property
    @abstractmethod
    def arguments(self) -> tuple[str, ...]:
        """What its module is given, after the folder and the locks."""

    @property
    @abstractmethod
    def command(self) -> str:
        """What a person would type to go on with it now."""

    @property
    @abstractmethod
    def anew(self) -> str:
        """What makes its predictions again."""

    @property
    def model(self) -> Path:
        """nnU-Net's results folder of all folds."""
        name = f"{self.network.trainer}__{self.network.plans}__{self.configuration}"
        return Path(str(nnUNet_results), self.dataset, name)

    @property
    def name(self) -> str:
        """A name for its files: nnU-Net's folder names, joined."""
        return f"{self.dataset}__{self.model.name}__{self.folder.name}"

    @property
    def by(self) -> str:
        """Who predicts: a fold's network, by its number, or the ensemble of several."""
        return str(self.folds[0]) if len(self.folds) == 1 else ENSEMBLE

    @property
    def title(self) -> str:
        """What a person calls it."""
        who = self.by if self.by == ENSEMBLE else f"fold {self.by}"
        what = " test set" if self.part == "test" else ""
        return f"{self.dataset} {self.configuration} {self.network.name}{what} {who}"

    @property
    def lock(self) -> Path:
        """Held while it runs: beside the results, so that every study and every machine sees it."""
        return self.model / f"{self.folder.name}.lock"

    @property
    def log(self) -> Path:
        """What the commands printed."""
        return self.log_folder / f"{self.name}.log"

    @property
    def failure(self) -> Path:
        """Why the last try failed; not there where it did not."""
        return self.log.with_suffix(".failed")

    @property
    def checkpoints(self) -> list[Path]:
        """The networks that predict."""
        return [self.model / f"fold_{fold}" / "checkpoint_final.pth" for fold in self.folds]

    def state(self) -> State:
        """How far it is."""
        if self.is_finished():
            return "finished"
        if is_held(self.lock):
            return "running"
        if self.failure.exists():
            return "failed"
        return "cut off" if self.was_begun() else "waiting"

    @abstractmethod
    def cases(self) -> list[str]:
        """The cases that it predicts."""

    @abstractmethod
    def images(self) -> dict[str, list[str]] | None:
        """The raw images of its cases, a file a channel; None where the raw data is gone."""

    @abstractmethod
    def is_finished(self) -> bool:
        """Whether all of it is there."""

    @abstractmethod
    def was_begun(self) -> bool:
        """Whether a try has left something."""

    @abstractmethod
    def progress(self) -> str:
        """How far it is, in words; nothing where this is not known."""

    @abstractmethod
    def seconds(self) -> float:
        """How long it took so far."""

    @abstractmethod
    def needs(self) -> list[Job]:
        """What has to be finished before."""

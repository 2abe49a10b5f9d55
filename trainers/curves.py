"""Training curves for TensorBoard, beside those for Weights & Biases, which nnU-Net has itself."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

VARIABLE = "nnUNet_tensorboard_enabled"
CHOICES = {"0": False, "False": False, "false": False, "1": True, "True": True, "true": True}  # as nnU-Net's for W&B


def curves_are_wanted() -> bool:
    """Whether the environment asks for curves in TensorBoard.

    Raises:
        ValueError: if it says something else than yes or no, or TensorBoard is not installed.
    """
    value = os.environ.get(VARIABLE, "0")
    if value not in CHOICES:
        raise ValueError(f"{VARIABLE}={value}: set it to 1 for training curves in TensorBoard, or to 0")
    if CHOICES[value] and find_spec("tensorboard") is None:
        raise ValueError(
            f'{VARIABLE}={value} needs TensorBoard, which is not installed; pip install "nnunet-archs[tensorboard]"'
        )
    return CHOICES[value]


class TensorBoardLogger:
    """Writes what nnU-Net's MetaLogger passes on into a folder of TensorBoard's event files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None
        self.epoch_start = 0.0

    def open(self, epoch: int | None) -> SummaryWriter:
        """The writer. What is in the folder of this epoch and later ones is of an earlier training, and is hidden."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=epoch)
        return self.writer

    def update_config(self, config: dict[str, Any]) -> None:
        """Nothing: the plans are in the model's folder, the rest is in nnU-Net's training log."""

    def log(self, key: str, value: float, step: int) -> None:
        """Write a value of an epoch; in place of when it began and ended, which no curve shows, how long it took."""
        writer = self.open(step)
        if key == "epoch_start_timestamps":
            self.epoch_start = value
        elif key == "epoch_end_timestamps":
            writer.add_scalar("epoch_seconds", value - self.epoch_start, step)
            writer.flush()
        else:
            writer.add_scalar(key, value, step)

    def log_summary(self, key: str, value: float) -> None:
        """Write a value that is of no epoch, as the Dice of the final validation."""
        writer = self.open(None)
        writer.add_scalar(key, value, 0)
        writer.flush()

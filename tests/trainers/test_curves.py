from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hand_made import make_batch, make_dataset_json, make_plans, make_trainer
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nnunet_archs.trainers.curves import VARIABLE
from nnunet_archs.trainers.registry import resolve_paper


def train_epoch(trainer: nnUNetTrainer, batch: dict[str, Any]) -> None:
    """An epoch as nnU-Net's loop runs it, of one iteration."""
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([trainer.train_step(batch)])
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        trainer.on_validation_epoch_end([trainer.validation_step(batch)])
    trainer.on_epoch_end()


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: the values of each curve by their epochs."""
    shown = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}


def test_tensorboard_shows_what_nnunet_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setattr("nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png", lambda *_: None)
    trainer = make_trainer("UNetTrainer", make_plans(2))
    batch = make_batch(trainer)
    for _ in range(2):
        train_epoch(trainer, batch)
    folder = Path(trainer.output_folder, "tensorboard")
    shown = curves(folder)
    logged = trainer.logger.get_checkpoint()
    for key in ("train_losses", "val_losses", "lrs", "mean_fg_dice", "ema_fg_dice"):
        assert [step for step, _ in shown[key]] == [0, 1]
        assert [value for _, value in shown[key]] == pytest.approx(logged[key])
    per_class = logged["dice_per_class_or_region"][1]
    assert [shown[f"dice_per_class_or_region/class_{i}"][1][1] for i in (1, 2)] == pytest.approx(per_class)
    assert all(seconds > 0 for _, seconds in shown["epoch_seconds"])

    # cut off in epoch 1, and gone on with from the checkpoint of epoch 0; then validated by itself
    resumed = make_trainer("UNetTrainer", make_plans(2))
    resumed.logger.load_checkpoint({key: values[:1] for key, values in logged.items()})
    resumed.current_epoch = 1
    train_epoch(resumed, batch)
    validated = make_trainer("UNetTrainer", make_plans(2))
    validated.logger.log_summary("final_val/foreground_dice", 0.5)
    again = curves(folder)
    assert again["train_losses"] == [
        shown["train_losses"][0],
        (1, pytest.approx(resumed.logger.get_value("train_losses", step=1))),
    ]
    assert again["final_val/foreground_dice"] == [(0, 0.5)]


@pytest.mark.parametrize("value", [None, "0"])
def test_no_curves_unless_they_are_asked_for(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    assert make_trainer("UNetTrainer", make_plans(2)).logger.loggers == []


def test_a_wrong_wish_ends_the_training_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, "yes")
    with pytest.raises(SystemExit, match="2"):
        resolve_paper("UNetTrainer")(make_plans(2), "tiny", 0, make_dataset_json(), torch.device("cpu"))
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{VARIABLE}=yes" in line
    assert not (tmp_path / "results").exists()

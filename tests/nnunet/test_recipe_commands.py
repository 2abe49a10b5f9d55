"""nnU-Net's own commands on trainers that follow a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args, run_training
from tiny_dataset import ID, PLANS, Home, load_json, save_first_stage

CPU = torch.device("cpu")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process")]


def test_the_best_weights_are_validated_and_predict(home: Home, tmp_path: Path) -> None:
    name = "ImprovedSkipUNetTrainer_recipe_1epoch"
    run_training(ID, "2d", 0, name, PLANS, device=CPU)
    folder = home.results(name, "2d", 0)
    final, best = (torch.load(folder / f"checkpoint_{which}.pth", weights_only=False) for which in ("final", "best"))
    for key, weight in final["network_weights"].items():
        assert torch.equal(weight, best["network_weights"][key]), key
    assert load_json(folder / "validation" / "summary.json")["foreground_mean"]["Dice"] >= 0
    assert len(home.predict(name, "2d", [0], tmp_path)) == 2


def test_cascade(home: Home) -> None:
    name, configuration = "VNetTrainer_recipe_1epoch", "3d_cascade_fullres"
    for_this_stage = home.results(name, "3d_lowres") / "predicted_next_stage" / configuration
    split = load_json(home.preprocessed / "splits_final.json")[0]
    trainer = get_trainer_from_args(ID, configuration, 0, name, PLANS, device=CPU)
    save_first_stage(trainer, for_this_stage, split["train"] + split["val"])
    run_training(ID, configuration, 0, name, PLANS, device=CPU)
    folder = home.results(name, configuration, 0)
    weights = torch.load(folder / "checkpoint_final.pth", weights_only=False)["network_weights"]
    n_channels = 1 + 2  # the image, and one for each foreground label of the previous stage
    assert next(weight for weight in weights.values() if weight.ndim == 5).shape[1] == n_channels
    assert load_json(folder / "validation" / "summary.json")["foreground_mean"]["Dice"] >= 0

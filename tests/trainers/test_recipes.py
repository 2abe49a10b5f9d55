"""Training by the papers' recipes, with nnU-Net's own loop on a few images."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import DATASET, make_dataset_json, make_plans, make_sample
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from torch import nn, optim

from nnunet_archs.trainers.epochs import EpochLoader, corners
from nnunet_archs.trainers.names import plans_name
from nnunet_archs.trainers.optimisation import EpochRate, cosine
from nnunet_archs.trainers.recipes import RECIPES, page
from nnunet_archs.trainers.registry import paper_trainers, resolve_paper

DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"
# of the cases of fold 0; the last is two slices, one of them too wide for a patch
SHAPES = [(1, 32, 24)] * 5 + [(2, 32, 30)]
TRAINED = [f"c{i}" for i in range(4)] + ["c5"]


@pytest.fixture
def _cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "preprocessed" / DATASET
    (folder / "tiny" / "case.b2nd").unlink()
    (folder / "dataset_fingerprint.json").write_text("{}")
    (folder / "splits_final.json").write_text(json.dumps([{"train": TRAINED, "val": ["c4", "c5"]}]))
    rng = np.random.default_rng(0)
    for i, shape in enumerate(SHAPES):
        sample = {key: value.numpy() for key, value in make_sample(rng, list(shape), 1, None).items()}
        found = {label: np.argwhere(sample["segmentation"] == label) for label in (1, 2)}
        properties = {"class_locations": {**found, (-1, 0, 1, 2): found[1]}}
        case = str(folder / "tiny" / f"c{i}")
        nnUNetDatasetBlosc2.save_case(sample["image"], sample["segmentation"].astype(np.int8), properties, case)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda self, folder: None)


def make_trainer(name: str, *, resumed: bool = False) -> Any:
    torch.manual_seed(3)
    plans = {**make_plans(2), "continue_training": resumed}
    trainer: Any = resolve_paper(name)(plans, "tiny", 0, make_dataset_json(), torch.device("cpu"))
    trainer.initialize()
    return trainer


class Killed(Exception):
    """The end of a process."""


def kill_in(trainer: Any, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a training that is killed in the midst of an epoch."""
    step = trainer.train_step

    def train_step(batch: dict[str, Any]) -> Any:
        if trainer.current_epoch == epoch and batch["keys"][0] != first:
            raise Killed
        return step(batch)

    first = "the first step's"
    monkeypatch.setattr(trainer, "train_step", train_step)
    with pytest.raises(Killed):
        trainer.run_training()


def steps_of(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str], float]]:
    """What a trainer will do in its steps: the epoch, the cases, the loss."""
    done: list[tuple[int, list[str], float]] = []
    step = trainer.train_step

    def train_step(batch: dict[str, Any]) -> Any:
        result = step(batch)
        done.append((trainer.current_epoch, list(batch["keys"]), float(result["loss"])))
        return result

    monkeypatch.setattr(trainer, "train_step", train_step)
    return done


def checkpoint_of(trainer: Any, name: str = "checkpoint_final.pth") -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(Path(trainer.output_folder, name), weights_only=False)
    return checkpoint


# dropout, a falling rate and augmentation, weight decay, selection by IoU and by loss, the last weights, patience
@pytest.mark.parametrize(
    "name",
    [
        "ImprovedSkipUNetTrainer_recipe_4epochs",
        "UNetSharpTrainer_recipe_4epochs_noDS",
        "CrosslinkNetTrainer_recipe_4epochs_CE",
        "CAggNetTrainer_recipe_4epochs",
    ],
)
@pytest.mark.usefixtures("_cases")
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_trainer(name)
    expected = steps_of(whole, monkeypatch)
    whole.run_training()

    monkeypatch.setenv("nnUNet_results", str(tmp_path / "interrupted"))
    killed = make_trainer(name)
    kill_in(killed, 2, monkeypatch)
    monkeypatch.setattr(np.random, "seed", np.random.seed)
    torch.manual_seed(99)
    resumed = make_trainer(name, resumed=True)
    resumed.seed = 0
    resumed.load_checkpoint(str(Path(resumed.output_folder, "checkpoint_latest.pth")))
    assert resumed.current_epoch == 2
    done = steps_of(resumed, monkeypatch)
    resumed.run_training()

    assert done == [step for step in expected if step[0] >= 2]
    first, second = checkpoint_of(whole), checkpoint_of(resumed)
    assert first["network_weights"].keys() == second["network_weights"].keys()
    for key, weight in first["network_weights"].items():
        assert torch.equal(weight, second["network_weights"][key]), key
    for key in ("train_losses", "val_losses", "lrs", "mean_fg_dice"):
        assert first["logging"][key] == second["logging"][key], key
    assert str(first["optimizer_state"]) == str(second["optimizer_state"])
    assert str(first["nnunet_archs_recipe"]) == str(second["nnunet_archs_recipe"])

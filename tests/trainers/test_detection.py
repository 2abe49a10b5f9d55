"""Mask R-CNN as nnU-Net's trainers, on plans made by hand; what it finds is in tests/networks/test_mask_rcnn.py."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import make_dataset_json, make_plans
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.deploy.export import export
from nnunet_archs.deploy.info import inspect_folder
from nnunet_archs.instances import decode, described, encode, object_scores
from nnunet_archs.trainers.mask_rcnn import objects_in
from nnunet_archs.trainers.memory import expected_memory
from nnunet_archs.trainers.recipes import UNET_SHARP_RECIPE
from nnunet_archs.trainers.registry import resolve_paper

NAME = "MaskRCNNSharpTrainer_resnet18_w16_r16"
PATCH = [64, 64]


def plans_of(n_axes: int = 2) -> dict[str, Any]:
    plans = make_plans(n_axes)
    tiny = plans["configurations"]["tiny"]
    tiny |= {"patch_size": PATCH, "spacing": [0.5, 1.0], "median_image_size_in_voxels": PATCH} if n_axes == 2 else {}
    return plans


def dataset_json(border: str = "2voxels") -> dict[str, Any]:
    return {**make_dataset_json(), **described(border)}


def make(name: str = NAME, border: str = "2voxels") -> Any:
    torch.manual_seed(0)
    trainer = resolve_paper(name)(plans_of(), "tiny", 0, dataset_json(border), torch.device("cpu"))
    trainer.initialize()
    return trainer


def batch_of(n_objects: int, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = np.stack([encode(discs(rng, n_objects), 2, (1, 1)) for _ in range(2)])[:, None]
    image = (labels > 0) + rng.normal(0, 0.2, labels.shape)
    return {"data": torch.from_numpy(image).float(), "target": torch.from_numpy(labels.astype(np.int16))}


def discs(rng: np.random.Generator, n: int) -> np.ndarray:
    rows, columns = np.indices(PATCH)
    ids = np.zeros(PATCH, dtype=int)
    for number in range(1, n + 1):
        row, column = rng.uniform(0, 64, 2)
        ids[(rows - row) ** 2 + (columns - column) ** 2 < 36] = number
    return ids


@pytest.mark.parametrize("form", ["", "PlusPlus", "3Plus", "Sharp"])
def test_trains_on_patches_with_and_without_objects_and_is_validated(form: str) -> None:
    trainer = make(NAME.replace("Sharp", form))
    losses = [float(trainer.train_step(batch_of(n))["loss"]) for n in (6, 0, 200, *[6] * 7)]
    assert np.isfinite(losses).all()
    assert min(losses[3:]) < losses[0]
    trainer.network.eval()
    with torch.no_grad():
        found = trainer.validation_step(batch_of(6))
    assert np.isfinite(found["loss"])
    assert found["tp_hard"].shape == (2,)
    assert not any(module.training for module in trainer.network.modules())


def test_trains_and_is_selected_by_its_papers_recipe() -> None:
    trainer = make(f"{NAME}_recipe")
    assert trainer.optimisation() == UNET_SHARP_RECIPE.optimisation
    assert np.isfinite(trainer.train_step(batch_of(6))["loss"])
    trainer.network.eval()
    with torch.no_grad():
        found = trainer.validation_step(batch_of(6))
        assert found["loss"] == pytest.approx(float(trainer.detection_loss(batch_of(6))), rel=0.5)
    assert 0 <= found["IoU"] <= 1


def test_targets_are_the_objects_of_the_labels() -> None:
    labels = np.zeros(PATCH, dtype=np.int16)
    labels[10:20, 30:40], labels[12:18, 32:38] = 2, 1
    labels[10:20, 40:50], labels[12:18, 42:48] = 2, 1  # it touches the first
    labels[0, 0] = 2  # a pixel, cut by the edge, without a core
    found = objects_in(torch.from_numpy(labels), (1, 1), torch.device("cpu"))
    assert found["boxes"].tolist() == [[30, 10, 40, 20], [40, 10, 50, 20], [0, 0, 1, 1]]
    assert found["masks"].sum(dim=(1, 2)).tolist() == [100, 100, 1]
    assert found["labels"].tolist() == [1, 1, 1]
    assert objects_in(torch.zeros(64, 64), (1, 1), torch.device("cpu"))["boxes"].shape == (0, 4)


@pytest.mark.parametrize(("border", "pixels"), [("2voxels", [2, 2]), ("1mm", [2, 1])])
def test_the_borders_are_those_of_the_data_set_and_kept_in_the_checkpoint(border: str, pixels: list[int]) -> None:
    trainer = make(border=border)
    assert trainer.network.state_dict()["border"].tolist() == pixels


def test_nnunet_predicts_windows_which_become_objects(tmp_path: Any) -> None:
    trainer = make(f"{NAME}_NoMirroring")
    for step in range(40):
        trainer.train_step(batch_of(5, seed=step % 4))
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    manager = PlansManager(plans_of())
    weights = [trainer.network.state_dict()]
    predictor.manual_initialization(
        trainer.network, manager, manager.get_configuration("tiny"), weights, dataset_json(), NAME, None
    )
    image = torch.cat([batch_of(5, seed=seed)["data"][0] for seed in (0, 1)], dim=2)  # two patches wide
    logits = predictor.predict_logits_from_preprocessed_data(image[:, None])
    labels = logits.argmax(dim=0).numpy()
    assert set(np.unique(labels)) == {0, 1, 2}
    objects = decode(labels, (999, 1, 1))
    assert 4 <= objects.max() <= 16
    scores = object_scores(objects, 1 - logits.softmax(dim=0)[0].numpy())
    assert 0.5 < min(scores) < max(scores) < 1

    folder = tmp_path / "model"
    (folder / "fold_0").mkdir(parents=True)
    plans = plans_of() | {"original_median_shape_after_transp": [1, *PATCH]}
    for file, content in (("plans.json", plans), ("dataset.json", dataset_json())):
        (folder / file).write_text(json.dumps(content))
    trainer.disable_checkpointing = False
    trainer.save_checkpoint(str(folder / "fold_0" / "checkpoint_final.pth"))
    facts = inspect_folder(folder, None)
    assert [problem for problem in facts["problems"] if "nnUNet_extTrainer" not in problem] == []
    assert facts["trainer"] == f"{NAME}_NoMirroring"
    with pytest.raises(ValueError, match=r"^MaskRCNNSharpTrainer.*cannot be exported"):
        export(folder, "torch", None, tmp_path / "exported")


@pytest.mark.parametrize(
    ("name", "n_axes", "labels", "message"),
    [
        ("MaskRCNNTrainer", 3, dataset_json(), "MaskRCNNTrainer exists only in 2D, and tiny is in 3D; train 2d"),
        ("MaskRCNNTrainer", 2, make_dataset_json(), "needs objects: .* nnunet-archs convert --instances"),
        ("MaskRCNNTrainer_resnet18", 2, dataset_json(), None),
    ],
)
def test_what_cannot_be_trained_is_told(name: str, n_axes: int, labels: Any, message: str | None) -> None:
    trainer, plans = resolve_paper(name), plans_of(n_axes)
    if message is None:
        assert trainer.check_plans(deepcopy(plans), "tiny", labels) == (0,)
        manager = PlansManager(plans)
        with pytest.raises(ValueError, match="cannot be measured without images"):
            expected_memory(trainer, manager, manager.get_configuration("tiny"), labels, half=True)
    else:
        with pytest.raises(ValueError, match=message):
            trainer.check_plans(plans, "tiny", labels)


@pytest.mark.parametrize("word", ["CE", "DiceCE", "DS"])
def test_detection_has_losses_of_its_own(word: str) -> None:
    with pytest.raises(ValueError, match=f"MaskRCNNTrainer_{word}: detection has losses of its own"):
        resolve_paper(f"MaskRCNNTrainer_{word}")

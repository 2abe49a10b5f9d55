"""Training by the papers' recipes, with nnU-Net's own loop on a few images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from hand_made import DATASET, make_batch, make_dataset_json, make_sample, serving_plans
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn, optim

from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.epochs import EpochLoader, corners
from nnunet_archs.trainers.mask_rcnn import MaskRCNNTrainer
from nnunet_archs.trainers.optimisation import NNUNET, EpochRate, Optimisation
from nnunet_archs.trainers.recipes import RECIPES, page
from nnunet_archs.trainers.registry import paper_trainers, resolve_paper

DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"
# cases of one slice, as large as the patch, and one of two slices, which is wider
SHAPES = [(1, 32, 24)] * 5 + [(2, 32, 30)]
FOLD = {"train": ["c0", "c1", "c2", "c3", "c5"], "val": ["c4", "c5"]}
WIDE = [(0, 0, 0), (0, 0, 6), (1, 0, 0), (1, 0, 6)]  # corners of the patches that cover the last case


@pytest.fixture
def _cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "preprocessed" / DATASET
    (folder / "tiny" / "case.b2nd").unlink()
    (folder / "dataset_fingerprint.json").write_text("{}")
    (folder / "splits_final.json").write_text(json.dumps([FOLD]))
    for i, (image, labels) in enumerate(map(make_case, range(len(SHAPES)))):
        found = {label: np.argwhere(labels == label) for label in (1, 2)}
        case = str(folder / "tiny" / f"c{i}")
        blocks = {"blocks": image.shape, "chunks": image.shape}
        sizes = {**blocks, **{f"{name}_seg": size for name, size in blocks.items()}}
        nnUNetDatasetBlosc2.save_case(image, labels, {"class_locations": found}, case, **sizes)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda self, folder: None)
    monkeypatch.setattr(PaperTrainer, "_describe_memory", lambda self: "")  # seconds, and the same whatever is trained


def make_case(i: int) -> tuple[np.ndarray, np.ndarray]:
    sample = make_sample(np.random.default_rng(i), list(SHAPES[i]), 1, None)
    return sample["image"].numpy(), sample["segmentation"].numpy().astype(np.int8)


def make_trainer(name: str, *, resumed: bool = False) -> Any:
    torch.manual_seed(3)
    plans = {**serving_plans(resolve_paper(name), 2), "continue_training": resumed}
    trainer: Any = resolve_paper(name)(plans, "tiny", 0, make_dataset_json(), torch.device("cpu"))
    trainer.initialize()
    return trainer


class Killed(Exception):
    """The end of a process."""


def watch(trainer: Any, killed_at: int | None = None) -> list[tuple[int, list[str], float]]:
    """What a trainer does in its steps: the epoch, the cases, the loss; it may be killed at one of them."""
    done: list[tuple[int, list[str], float]] = []
    step = trainer.train_step

    def train_step(batch: dict[str, Any]) -> Any:
        if len(done) == killed_at:
            raise Killed
        result = step(batch)
        done.append((trainer.current_epoch, list(batch["keys"]), float(result["loss"])))
        return result

    trainer.train_step = train_step
    return done


def checkpoint_of(trainer: Any, name: str = "checkpoint_final.pth") -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(Path(trainer.output_folder, name), weights_only=False)
    return checkpoint


def are_equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(np.array_equal(one, other))


# dropout and selection by IoU; a falling rate and augmentation; the last weights; patience and selection by loss
@pytest.mark.parametrize("name", ["ImprovedSkipUNet", "UNetSharp", "CrosslinkNet", "CAggNet"])
@pytest.mark.usefixtures("_cases")
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{name}Trainer_recipe_3epochs"
    whole = make_trainer(name)
    expected = watch(whole)
    whole.run_training()
    assert len(expected) == 3 * 4  # eight patches, two a batch

    monkeypatch.setenv("nnUNet_results", str(tmp_path / "interrupted"))
    killed = make_trainer(name)
    watch(killed, killed_at=2 * 4 + 2)
    with pytest.raises(Killed):
        killed.run_training()
    resumed = make_trainer(name, resumed=True)
    resumed.seed = 0
    torch.manual_seed(99)
    np.random.seed(99)
    resumed.load_checkpoint(str(Path(resumed.output_folder, "checkpoint_latest.pth")))
    done = watch(resumed)
    resumed.run_training()

    assert done == expected[2 * 4 :]
    first, second = checkpoint_of(whole), checkpoint_of(resumed)
    for key in ("network_weights", "optimizer_state", "nnunet_archs_recipe", "current_epoch"):
        assert are_equal(first[key], second[key]), key
    for key in ("train_losses", "val_losses", "lrs", "dice_per_class_or_region"):
        assert first["logging"][key] == second["logging"][key], key


@pytest.mark.usefixtures("_cases")
class TestSelection:
    def train(self, values: list[float], name: str = "CAggNetTrainer_recipe", patience: int | None = 2) -> Any:
        """Train with made-up values of the epochs' validation."""
        trainer = make_trainer(f"{name}_{len(values)}epochs")
        trainer.recipe = replace(trainer.recipe, patience=patience)
        end = trainer.on_validation_epoch_end

        def on_validation_epoch_end(outputs: Any) -> None:
            end(outputs)
            trainer.value = values[trainer.current_epoch]

        trainer.on_validation_epoch_end = on_validation_epoch_end
        trainer.run_training()
        return trainer

    @pytest.mark.parametrize(
        ("values", "epochs", "best"),
        [([3, 1, 2, 1, 0], 4, 1), ([3, 2, 2, 1, 2], 5, 3), ([float("nan"), 2, 3, 2, 3], 4, 1)],
    )
    def test_early_stopping(self, values: list[float], epochs: int, best: int) -> None:
        trainer = self.train(values)
        final = checkpoint_of(trainer)
        kept = checkpoint_of(trainer, "checkpoint_best.pth")
        assert (trainer.best_epoch, final["current_epoch"], kept["current_epoch"]) == (best, epochs, best + 1)
        assert len(final["logging"]["epoch_end_timestamps"]) == epochs
        assert are_equal(final["network_weights"], kept["network_weights"])
        assert are_equal(final["network_weights"], dict(trainer.network.state_dict()))
        assert not Path(trainer.output_folder, "checkpoint_latest.pth").exists()

    def test_a_finished_training_is_not_gone_on_with(self) -> None:
        trainer = self.train([3, 1, 2, 1, 0])
        resumed = make_trainer("CAggNetTrainer_recipe_5epochs", resumed=True)
        resumed.recipe = trainer.recipe
        resumed.load_checkpoint(str(Path(resumed.output_folder, "checkpoint_final.pth")))
        steps = watch(resumed)
        resumed.run_training()
        assert steps == []
        assert are_equal(checkpoint_of(resumed)["network_weights"], dict(trainer.network.state_dict()))

    def test_more_is_better_for_iou(self) -> None:
        trainer = self.train([0.1, 0.4, 0.3], "ClassicalUNetTrainer_recipe", patience=None)
        assert (trainer.best_epoch, trainer.current_epoch) == (1, 3)

    def test_the_last_weights(self) -> None:
        trainer = self.train([3, 1, 2], "HorCrosslinkTrainer_recipe", patience=None)
        assert trainer.best_weights is None
        weights, best = (checkpoint_of(trainer)["network_weights"], checkpoint_of(trainer, "checkpoint_best.pth"))
        assert are_equal(weights, dict(trainer.network.state_dict()))
        assert best["current_epoch"] <= 3  # nnU-Net's own choice

    @pytest.mark.parametrize(("name", "selection"), [("FocusNetPlusPlus", "loss"), ("ImprovedSkipUNet", "IoU")])
    def test_the_whole_validation_set_is_judged(self, name: str, selection: str) -> None:
        trainer = make_trainer(f"{name}Trainer_recipe_1epoch")
        trainer.run_training()
        patches = [crop(4, (0, 0, 0)), *(crop(5, corner) for corner in WIDE)]
        values, network = [], trainer.network.eval()
        for batch in (patches[:2], patches[2:4], patches[4:]):
            data, target = (torch.from_numpy(np.stack(part)) for part in zip(*batch, strict=True))
            with torch.no_grad():
                logits = network(data)
                loss = float(trainer.loss(logits, target))
            found = [iou(logits.argmax(1) == label, target[:, 0] == label) for label in (1, 2)]
            values += [loss if selection == "loss" else float(np.mean(found))] * len(batch)
        assert trainer.best_value == pytest.approx(np.mean(values), rel=1e-5)


@pytest.mark.usefixtures("_cases")
def test_one_of_several_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DDP of a single process, which nnU-Net makes on GPUs alone, comes to what there is without it."""
    name = "ImprovedSkipUNetTrainer_recipe_2epochs"
    alone = make_trainer(name)
    alone.run_training()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "ddp"))
    shared = make_trainer(name)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/gloo", rank=0, world_size=1)
    try:
        shared.is_ddp, shared.network = True, nn.parallel.DistributedDataParallel(shared.network)
        shared.run_training()
    finally:
        torch.distributed.destroy_process_group()
    assert are_equal(*(checkpoint_of(trainer)["network_weights"] for trainer in (alone, shared)))
    assert alone.best_value == shared.best_value


def crop(case: int, corner: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A patch of 32 x 24 of a slice."""
    z, y, x = corner
    image, labels = (array[:, z, y : y + 32, x : x + 24] for array in make_case(case))
    return image.astype(np.float32), labels.astype(np.int16)


def iou(predicted: torch.Tensor, true: torch.Tensor) -> float:
    union = int((predicted | true).sum())
    return int((predicted & true).sum()) / union if union else 1.0


@pytest.mark.usefixtures("_cases")
class TestEpochs:
    def loader(self, **options: Any) -> EpochLoader:
        trainer = make_trainer("ClassicalUNetTrainer_recipe")
        cases = nnUNetDatasetBlosc2(trainer.preprocessed_dataset_folder, FOLD["train"])
        patch = trainer.configuration_manager.patch_size
        return EpochLoader(cases, 3, patch, patch, trainer.label_manager, **options)

    def test_every_case_is_seen_once_in_a_new_order(self) -> None:
        loader = self.loader(seed=5)
        assert loader.n_batches == 3
        epochs = [[next(loader) for _ in range(3)] for _ in range(3)]
        orders = [[case for batch in epoch for case in batch["keys"]] for epoch in epochs]
        for epoch, order in zip(epochs, orders, strict=True):
            assert [len(batch["data"]) for batch in epoch] == [3, 3, 2]
            assert [len(batch["target"]) for batch in epoch] == [3, 3, 2]
            # the last case has two slices, each with two patches
            assert Counter(order) == {"c0": 1, "c1": 1, "c2": 1, "c3": 1, "c5": 4}
        assert len({tuple(order) for order in orders}) == 3

    def test_an_epoch_is_the_same_wherever_a_run_begins(self) -> None:
        np.random.seed(1)
        loader = self.loader(seed=5)
        batches = [next(loader) for _ in range(6)][3:]
        before = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]
        later = self.loader(seed=5, first_epoch=1)
        assert all(are_equal(next(later), batch) for batch in batches)
        next(later)
        assert np.array_equal(before[0], np.random.get_state()[1])  # type: ignore[index]

    def test_processes_share_every_batch(self) -> None:
        whole, shares = self.loader(seed=5), [self.loader(seed=5, rank=rank, world_size=3) for rank in range(3)]
        for size in (3, 3):
            cases = next(whole)["keys"]
            assert [case for share in shares for case in next(share)["keys"]] == cases
            assert len(cases) == size
        cases = next(whole)["keys"]  # two for three processes: none is left without
        assert [next(share)["keys"] for share in shares] == [[cases[0]], [cases[1]], [cases[0]]]

    def test_batches_that_other_processes_make_come_in_order(self) -> None:
        alone = self.loader(seed=5)
        augmenter = MultiThreadedAugmenter(self.loader(seed=5, n_workers=2), None, 2)
        try:
            for _ in range(5):
                assert are_equal(next(augmenter), next(alone))
        finally:
            augmenter._finish()

    def test_processes_that_make_batches_change_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        weights = []
        for processes in ("0", "2"):
            monkeypatch.setenv("nnUNet_n_proc_DA", processes)
            monkeypatch.setenv("nnUNet_results", str(tmp_path / processes))
            trainer = make_trainer("ImprovedSkipUNetTrainer_recipe_2epochs")
            trainer.run_training()
            weights.append(checkpoint_of(trainer)["network_weights"])
        assert are_equal(*weights)

    def test_without_a_seed_all_is_covered(self) -> None:
        loader = self.loader()
        cases = [case for _ in range(loader.n_batches) for case in next(loader)["keys"]]
        assert cases == ["c0", "c1", "c2", "c3", "c5", "c5", "c5", "c5"]


@pytest.mark.parametrize(
    ("shape", "patch", "found"),
    [
        ((2, 32, 30), (1, 32, 24), WIDE),
        ((10,), (16,), [(-3,)]),
        ((20, 8), (8, 8), [(0, 0), (6, 0), (12, 0)]),
        ((16,), (8,), [(0,), (8,)]),
    ],
)
def test_patches_that_cover_an_image(shape: Any, patch: Any, found: Any) -> None:
    assert corners(shape, patch) == found


def rates(chosen: Optimisation, epochs: int) -> list[float]:
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = EpochRate(optimizer, chosen, epochs), []
    for epoch in range(epochs):
        scheduler.step(epoch)
        found.append(optimizer.param_groups[0]["lr"])
    return found


class TestOptimisation:
    @pytest.mark.parametrize(
        ("name", "rate"),
        [
            ("CAggNetTrainer_recipe", lambda e: 1e-3),
            (
                "FocusNetPlusPlusTrainer_recipe",
                lambda e: 1e-4 / 10 ** ((e >= 15) + (e >= 25) + (e >= 40)),
            ),
            ("ClassicalUNetTrainer_recipe", lambda e: 1e-3),
            ("CrosslinkNetTrainer_recipe", lambda e: 5e-6),
            ("UNetSharpTrainer_recipe", lambda e: 1e-5 + (1e-3 - 1e-5) * (1 + cos(pi * e / 100)) / 2),
            ("UNetSharpTrainer_recipe_50epochs", lambda e: 1e-5 + (1e-3 - 1e-5) * (1 + cos(pi * e / 50)) / 2),
            ("CrosslinkNetTrainer_adam", lambda e: 5e-6 * (1 - e / 1000) ** 0.9),
            ("PlainConvUNetTrainer_adam_constant", lambda e: 1e-3),
            ("PlainConvUNetTrainer_cosine", lambda e: 1e-2 * (1 + cos(pi * e / 1000)) / 2),
        ],
    )
    def test_rates_of_the_epochs(self, name: str, rate: Callable[[int], float]) -> None:
        trainer = make_trainer(name)
        for epoch in range(0, trainer.num_epochs, 5):
            trainer.lr_scheduler.step(epoch)
            assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(rate(epoch), rel=1e-9)

    def test_nnunets_own_rates(self) -> None:
        optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        theirs, expected = PolyLRScheduler(optimizer, 1e-2, 20), []
        for epoch in range(20):
            theirs.step(epoch)
            expected.append(optimizer.param_groups[0]["lr"])
        assert rates(NNUNET, 20) == expected

    @pytest.mark.parametrize(
        ("name", "kind", "decay"),
        [
            ("CAggNetTrainer_recipe", optim.Adam, 0),
            ("HorCrosslinkTrainer_recipe", optim.Adam, 0.005),
            ("VNetTrainer_recipe", optim.Adam, 1e-4),
            ("VNetTrainer_adam", optim.Adam, 1e-4),
            ("PlainConvUNetTrainer_adam", optim.Adam, 0),
            ("PlainConvUNetTrainer_cosine", optim.SGD, 3e-5),
            ("CAggNetTrainer_DiceCE", optim.SGD, 3e-5),
            ("CAggNetTrainer_DiceCE_adam", optim.Adam, 0),
        ],
    )
    def test_optimiser(self, name: str, kind: type, decay: float) -> None:
        trainer = make_trainer(name)
        assert isinstance(trainer.optimizer, kind)
        assert trainer.optimizer.param_groups[0]["weight_decay"] == decay
        assert trainer.moments() == (2 if kind is optim.Adam else 1)


@pytest.mark.parametrize(
    ("name", "loss", "supervised"),
    [
        ("CAggNetTrainer_recipe", "FocalLoss", True),
        ("CAggNetTrainer_recipe_CE", "CrossEntropyLoss", True),
        ("ClassicalUNetTrainer_recipe", "CrossEntropyLoss", False),
        ("AttentionUNetTrainer_recipe", "AdaptiveLogHybridLoss", True),
        ("HorCrosslinkTrainer_recipe", "CrossEntropyLoss", False),
        ("CrosslinkNetTrainer_recipe", "AuxiliaryLoss", False),
        ("UNetPlusPlusTrainer_recipe_noDS", "HybridLoss", False),
    ],
)
def test_loss_is_the_papers(name: str, loss: str, supervised: bool) -> None:
    trainer = make_trainer(name)
    inner = trainer.loss.loss if supervised else trainer.loss
    assert (type(inner).__name__, trainer.enable_deep_supervision) == (loss, supervised)


def test_a_network_that_a_paper_compares_has_its_loss() -> None:
    for recipe in RECIPES:
        base = resolve_paper("ClassicalUNetTrainer")
        compared = type("Compared", (base,), {"recipe": recipe, "objective": "paper"})
        assert type(compared.new_loss()) is recipe.loss


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CAggNetTrainer_recipe_NoDA", "_recipe and _NoDA contradict each other; drop one of them"),
        ("CAggNetTrainer_DS_recipe", "_DS and _recipe contradict each other"),
        ("CAggNetTrainer_recipe_DiceCE", "_recipe and _DiceCE contradict each other"),
        ("CAggNetTrainer_3iterations_recipe", "_3iterations and _recipe contradict each other"),
        ("CAggNetTrainer_recipe_adam", "_recipe and _adam contradict each other"),
        ("CAggNetTrainer_recipe_cosine", "_recipe and _cosine contradict each other"),
        ("CrosslinkNetTrainer_recipe_recipeCardiac", "_recipe and _recipeCardiac both settle the recipe"),
        ("UNetTrainer_cosine_constant", "_cosine and _constant both settle the schedule"),
        ("UNetTrainer_recipeCardiac", "UNetTrainer has no option _recipeCardiac; did you mean _recipe?"),
        ("PlainConvUNetTrainer_recipe", "PlainConvUNetTrainer has no option _recipe"),
    ],
)
def test_contradictions_are_named(name: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is looked at below)
        resolve_paper(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_paper_has_trainers_that_follow_it() -> None:
    followed = {trainer.recipe for trainer in paper_trainers()} - {None}
    assert followed == set(RECIPES)


# Mask R-CNN's, which wants objects, is in test_detection.py
FOLLOWING = [trainer for trainer in paper_trainers() if trainer.recipe and not issubclass(trainer, MaskRCNNTrainer)]


@pytest.mark.parametrize("name", [trainer.__name__ for trainer in FOLLOWING])
def test_a_step_by_the_recipe(name: str) -> None:
    trainer = make_trainer(f"{name}_recipe")
    trainer.on_train_epoch_start()
    batch = make_batch(trainer)
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(2)]
    assert np.isfinite(losses).all()
    assert losses[0] != losses[1]


@pytest.mark.usefixtures("_cases")
def test_prediction_and_sampling_are_plain() -> None:
    trainer = make_trainer("UNetSharpTrainer_recipe_1epoch")
    trainer.run_training()
    assert checkpoint_of(trainer)["inference_allowed_mirroring_axes"] is None
    assert trainer.oversample_foreground_percent == 0
    log = "".join(file.read_text() for file in Path(trainer.output_folder).glob("training_log*"))
    assert "The recipe of UNet# has images in [0, 1], and these plans have ZScoreNormalization" in log


def test_the_page_is_what_the_command_writes() -> None:
    assert DOCS.read_text(encoding="utf-8") == page() + "\n"

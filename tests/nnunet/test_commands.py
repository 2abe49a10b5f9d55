"""nnU-Net's own commands on the trainers here, unchanged."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args, run_training
from tiny_dataset import DATASET, ID, LIMIT, N_TEST, N_TRAINING, PLANS, SHAPE, Home, load_json, read_label_maps

from nnunet_archs.trainers.names import TRAINERS

TRAINER = "UNetSharpTrainer_2epochs_10iterations"
LOWRES_TRAINER = "VNetSharpTrainer_1epochs_1iterations"
MODELS = ("2d", "3d_fullres")
FOLDS = [0, 1]
CPU = torch.device("cpu")

pytestmark = pytest.mark.slow
one_process = pytest.mark.xdist_group("commands")
cascade_process = pytest.mark.xdist_group("cascade")


@dataclass(frozen=True)
class Interrupted:
    """A run that was killed within its second epoch, and the run that went on from it."""

    returncode: int
    log: str
    checkpoint: dict[str, Any]
    files: set[str]
    log_after: str
    checkpoint_after: dict[str, Any]


@pytest.fixture(scope="module")
def interrupted(home: Home) -> Interrupted:
    folder = home.results(TRAINER, "2d", 0)
    process = home.start("nnUNetv2_train", ID, "2d", 0, "-tr", TRAINER, "-p", PLANS, "-device", "cpu", "--npz")
    try:
        wait_for_line(r"Epoch 1 *$", folder)
    finally:
        process.kill()
    printed, _ = process.communicate()
    log = read_logs(folder)
    assert log, printed
    files = {file.name for file in folder.iterdir()}
    checkpoint = torch.load(folder / "checkpoint_latest.pth", weights_only=False)
    home.train(TRAINER, "2d", 0, "--c", "--npz")
    log_after = read_logs(folder).removeprefix(log)
    checkpoint_after = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    return Interrupted(process.returncode, log, checkpoint, files, log_after, checkpoint_after)


def wait_for_line(pattern: str, folder: Path) -> None:
    """Wait until a line of the training log matches."""
    end = time.monotonic() + LIMIT
    while not re.search(pattern, read_logs(folder), re.MULTILINE):
        assert time.monotonic() < end, f"no line {pattern} in {read_logs(folder)}"
        time.sleep(0.02)


def read_logs(folder: Path) -> str:
    return "".join(file.read_text() for file in sorted(folder.glob("training_log_*.txt")))


def epochs_in(log: str) -> list[str]:
    return re.findall(r"Epoch (\d+) *$", log, re.MULTILINE)


@pytest.fixture(scope="module")
def trained(home: Home, interrupted: Interrupted) -> Home:
    """Two folds each of a 2d and a 3d_fullres model."""
    home.train(TRAINER, "2d", 1, "--npz")
    for fold in FOLDS:
        home.train(TRAINER, "3d_fullres", fold, "--npz")
    return home


@pytest.fixture(scope="module")
def predicted(trained: Home) -> dict[str, dict[str, np.ndarray]]:
    return {
        model: trained.predict(TRAINER, model, FOLDS, trained.root / "predicted" / model, "--save_probabilities")
        for model in MODELS
    }


def assert_are_label_maps(label_maps: dict[str, np.ndarray]) -> None:
    assert list(label_maps) == [f"e{N_TRAINING + i:02}.nii.gz" for i in range(N_TEST)]
    for label_map in label_maps.values():
        assert label_map.shape == SHAPE
        assert set(np.unique(label_map)) <= {0, 1, 2}


@one_process
def test_killed_in_mid_epoch(interrupted: Interrupted) -> None:
    assert interrupted.returncode == -9
    assert epochs_in(interrupted.log) == ["0", "1"]
    assert interrupted.log.count("train_loss") == 1
    assert "checkpoint_final.pth" not in interrupted.files
    assert interrupted.checkpoint["current_epoch"] == 1


@one_process
def test_resume_goes_on_from_the_saved_epoch(interrupted: Interrupted) -> None:
    assert epochs_in(interrupted.log_after) == ["1"]
    assert "Validation complete" in interrupted.log_after
    before, after = interrupted.checkpoint, interrupted.checkpoint_after
    assert after["trainer_name"] == TRAINER
    assert after["current_epoch"] == 2
    assert len(after["logging"]["train_losses"]) == 2
    assert after["logging"]["train_losses"][:1] == before["logging"]["train_losses"]
    weights = before["network_weights"]
    assert any(not torch.equal(after["network_weights"][key], weights[key]) for key in weights)
    assert after["optimizer_state"]["state"].keys() == before["optimizer_state"]["state"].keys()


@one_process
@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("model", MODELS)
def test_training_leaves_what_nnunet_needs(trained: Home, model: str, fold: int) -> None:
    folder = trained.results(TRAINER, model, fold)
    assert (folder / "checkpoint_final.pth").is_file()
    assert (folder / "progress.png").is_file()
    assert not (folder / "checkpoint_latest.pth").exists()
    validated = load_json(trained.preprocessed / "splits_final.json")[fold]["val"]
    assert len(read_label_maps(folder / "validation")) == len(validated)
    assert sorted(file.stem for file in (folder / "validation").glob("*.npz")) == sorted(validated)
    assert load_json(folder / "validation" / "summary.json")["foreground_mean"]["Dice"] >= 0


@one_process
def test_validation_alone_repeats_the_validation(trained: Home) -> None:
    validation = trained.results(TRAINER, "2d", 1) / "validation"
    before = load_json(validation / "summary.json")
    aside = validation.rename(validation.with_name("validation_before"))
    trained.train(TRAINER, "2d", 1, "--val", "--npz")
    assert load_json(validation / "summary.json") == before
    for name, label_map in read_label_maps(aside).items():
        assert np.array_equal(read_label_maps(validation)[name], label_map)


@one_process
def test_find_best_configuration(trained: Home) -> None:
    models = ["-tr", TRAINER, "-p", PLANS, "-c", *MODELS, "-f", *FOLDS]
    trained.run("nnUNetv2_find_best_configuration", ID, *models, "-np", 1)
    found = load_json(trained.root / "nnUNet_results" / DATASET / "inference_information.json")
    singles = {trained.results(TRAINER, model).name for model in MODELS}
    assert singles < found["all_results"].keys()
    (ensemble,) = found["all_results"].keys() - singles
    assert ensemble.startswith("ensemble___")
    selected = found["best_model_or_ensemble"]["selected_model_or_models"]
    assert {(model["trainer"], model["plans_identifier"]) for model in selected} == {(TRAINER, PLANS)}
    assert {model["configuration"] for model in selected} <= set(MODELS)
    best = max(found["all_results"].values())
    assert found["best_model_or_ensemble"]["result_on_crossval_pre_pp"] == best
    assert np.isfinite(best)


@one_process
@pytest.mark.parametrize("model", MODELS)
def test_predict(predicted: dict[str, dict[str, np.ndarray]], model: str) -> None:
    assert_are_label_maps(predicted[model])


@one_process
def test_ensemble(trained: Home, predicted: dict[str, dict[str, np.ndarray]]) -> None:
    folders = [trained.root / "predicted" / model for model in MODELS]
    output = trained.root / "predicted" / "ensemble"
    trained.run("nnUNetv2_ensemble", "-i", *folders, "-o", output, "-np", 1)
    together = read_label_maps(output)
    assert_are_label_maps(together)
    for name, label_map in together.items():
        file = name.replace(".nii.gz", ".npz")
        mean = np.mean([np.load(folder / file)["probabilities"] for folder in folders], axis=0)
        assert (label_map == mean.argmax(0)).mean() > 0.999  # ties


@one_process
def test_model_zip(trained: Home, predicted: dict[str, dict[str, np.ndarray]], tmp_path: Path) -> None:
    archive = tmp_path / "model.zip"
    model = ["-d", ID, "-tr", TRAINER, "-p", PLANS, "-c", *MODELS, "-f", *FOLDS]
    trained.run("nnUNetv2_export_model_to_zip", *model, "-o", archive)
    elsewhere = {"nnUNet_results": str(tmp_path / "results")}
    trained.run("nnUNetv2_install_pretrained_model_from_zip", archive, variables=elsewhere)
    there = trained.predict(TRAINER, "3d_fullres", FOLDS, tmp_path / "predicted", **elsewhere)
    assert_are_label_maps(there)
    for name, label_map in predicted["3d_fullres"].items():
        assert np.array_equal(there[name], label_map)


@cascade_process
def test_cascade(home: Home, in_process: None) -> None:
    for fold in range(5):
        run_training(ID, "3d_lowres", fold, LOWRES_TRAINER, PLANS, device=CPU)
    for_next_stage = home.results(LOWRES_TRAINER, "3d_lowres") / "predicted_next_stage" / "3d_cascade_fullres"
    assert len(list(for_next_stage.iterdir())) == N_TRAINING

    home.train(LOWRES_TRAINER, "3d_cascade_fullres", 0)
    folder = home.results(LOWRES_TRAINER, "3d_cascade_fullres", 0)
    assert load_json(folder / "validation" / "summary.json")["foreground_mean"]["Dice"] >= 0
    weights = torch.load(folder / "checkpoint_final.pth", weights_only=False)["network_weights"]
    n_channels = 1 + 2  # the image, and one for each foreground label of the previous stage
    assert next(weight for weight in weights.values() if weight.ndim == 5).shape[1] == n_channels

    previous = home.root / "predicted" / "3d_lowres"
    assert_are_label_maps(home.predict(LOWRES_TRAINER, "3d_lowres", list(range(5)), previous))
    flags = ("-prev_stage_predictions", previous)
    predicted = home.predict(
        LOWRES_TRAINER, "3d_cascade_fullres", [0], home.root / "predicted" / "3d_cascade_fullres", *flags
    )
    assert_are_label_maps(predicted)


@pytest.fixture
def in_process(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in home.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")


@pytest.mark.parametrize("configuration", MODELS)
@pytest.mark.parametrize("trainer", sorted(TRAINERS))
@pytest.mark.usefixtures("in_process")
def test_trains_and_predicts(trainer: str, configuration: str, home: Home) -> None:
    name = f"{trainer}_1epochs_2iterations"
    trained = get_trainer_from_args(ID, configuration, 0, name, PLANS, device=CPU)
    trained.run_training()
    assert np.isfinite(trained.logger.get_value("train_losses", step=None)).all()

    predictor = nnUNetPredictor(use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(home.results(name, configuration)), (0,))
    file = home.raw / "imagesTs" / f"e{N_TRAINING:02}_0000.nii.gz"
    image, properties = predictor.plans_manager.image_reader_writer_class().read_images([str(file)])
    label_map = predictor.predict_single_npy_array(image, properties)
    assert label_map.shape == SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file)).shape == SHAPE
    assert set(np.unique(label_map)) <= {0, 1, 2}

"""nnU-Net's own commands on the trainers here, unchanged."""

from __future__ import annotations

import re
import shutil
import signal
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args, run_training
from tiny_dataset import (
    DATASET,
    ID,
    LIMIT,
    N_TEST,
    N_TRAINING,
    PLANS,
    SHAPE,
    Home,
    load_json,
    read_label_maps,
    save_first_stage,
)

from nnunet_archs.networks.dense_unet import DenseUNet
from nnunet_archs.trainers.foreign import ForeignTrainer
from nnunet_archs.trainers.registry import paper_trainers

TRAINER = "UNetSharpTrainer_2epochs_10iterations"
LOWRES_TRAINER = "VNetSharpTrainer_1epochs_1iterations"
FOLDS = {"2d": [0], "3d_fullres": [0, 1]}
CPU = torch.device("cpu")
ALL = list(paper_trainers())
ELSEWHERE = [trainer for trainer in ALL if issubclass(trainer, ForeignTrainer)]
# those that need objects are in tests/trainers/test_detection.py
# SPNet and Inf-Net ask of nnU-Net what PSPNet does, and take three times as long
SLOW = {"SPNetTrainer", "InfNetTrainer"}
FOREIGN = [trainer for trainer in ELSEWHERE if trainer.network_class.is_graph and trainer.__name__ not in SLOW]
# what nnU-Net asks of a trainer does not depend on the number of axes: one configuration each, by turns
# in 2D those of that alone, and one that is as wide as ever on this data set, whose patches of 3D would take minutes
FLAT = [trainer for trainer in ALL if trainer.network_class is DenseUNet or trainer.dimensions() == (2,)]
OURS = [
    (trainer.__name__, "2d" if trainer in FLAT else configuration)
    for trainer, configuration in zip([t for t in ALL if t not in ELSEWHERE], cycle(FOLDS), strict=False)
]

pytestmark = pytest.mark.slow


def train_fold(home: Home, model: str, fold: int) -> Path:
    """A trained and validated fold's folder; fold 0 of 2d was interrupted."""
    if (model, fold) == ("2d", 0):
        home.once("interrupted", lambda: interrupt_and_resume(home))
    else:
        home.once(f"{model}_{fold}", lambda: home.train(TRAINER, model, fold, "--npz"))
    return home.results(TRAINER, model, fold)


def interrupt_and_resume(home: Home) -> None:
    """Kill a training in its second epoch, keep its folder as it was then, and let nnU-Net go on from it."""
    folder = home.results(TRAINER, "2d", 0)
    process = home.start("nnUNetv2_train", ID, "2d", 0, "-tr", TRAINER, "-p", PLANS, "-device", "cpu", "--npz")
    try:
        end = time.monotonic() + LIMIT
        while "1" not in epochs_in(read_logs(folder)) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
    finally:
        process.kill()
    printed, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, printed
    shutil.copytree(folder, home.root / "killed")
    home.train(TRAINER, "2d", 0, "--c", "--npz")


def read_logs(folder: Path) -> str:
    return "".join(file.read_text() for file in sorted(folder.glob("training_log_*.txt")))


def epochs_in(log: str) -> list[str]:
    return re.findall(r"Epoch (\d+) *$", log, re.MULTILINE)


def train_all(home: Home) -> None:
    """A fold of a 2d model, two of a 3d_fullres one."""
    for model, folds in FOLDS.items():
        for fold in folds:
            train_fold(home, model, fold)


def predict_with(home: Home, model: str) -> dict[str, np.ndarray]:
    train_all(home)
    output = home.root / "predicted" / model
    home.once(f"predicted_{model}", lambda: home.predict(TRAINER, model, FOLDS[model], output, "--save_probabilities"))
    return read_label_maps(output)


def assert_are_label_maps(label_maps: dict[str, np.ndarray]) -> None:
    assert list(label_maps) == [f"e{N_TRAINING + i:02}.nii.gz" for i in range(N_TEST)]
    for label_map in label_maps.values():
        assert label_map.shape == SHAPE
        assert set(np.unique(label_map)) <= {0, 1, 2}


@pytest.mark.usefixtures("in_process")
def test_cascade(home: Home) -> None:
    run_training(ID, "3d_lowres", 0, LOWRES_TRAINER, PLANS, device=CPU)
    for_next_stage = home.results(LOWRES_TRAINER, "3d_lowres") / "predicted_next_stage" / "3d_cascade_fullres"
    split = load_json(home.preprocessed / "splits_final.json")[0]
    assert {file.stem for file in for_next_stage.iterdir()} == set(split["val"])
    trainer = get_trainer_from_args(ID, "3d_cascade_fullres", 0, LOWRES_TRAINER, PLANS, device=CPU)
    save_first_stage(trainer, for_next_stage, split["train"])  # what the other folds would leave

    run_training(ID, "3d_cascade_fullres", 0, LOWRES_TRAINER, PLANS, device=CPU)
    folder = home.results(LOWRES_TRAINER, "3d_cascade_fullres", 0)
    assert load_json(folder / "validation" / "summary.json")["foreground_mean"]["Dice"] >= 0
    weights = torch.load(folder / "checkpoint_final.pth", weights_only=False)["network_weights"]
    n_channels = 1 + 2  # the image, and one for each foreground label of the previous stage
    assert next(weight for weight in weights.values() if weight.ndim == 5).shape[1] == n_channels

    previous = home.root / "predicted" / "3d_lowres"
    assert_are_label_maps(home.predict(LOWRES_TRAINER, "3d_lowres", [0], previous))
    flags = ("-prev_stage_predictions", previous)
    predicted = home.predict(
        LOWRES_TRAINER, "3d_cascade_fullres", [0], home.root / "predicted" / "3d_cascade_fullres", *flags
    )
    assert_are_label_maps(predicted)


def test_killed_in_mid_epoch(home: Home) -> None:
    train_fold(home, "2d", 0)
    killed = home.root / "killed"
    assert epochs_in(read_logs(killed)) == ["0", "1"]
    assert read_logs(killed).count("train_loss") == 1
    assert not (killed / "checkpoint_final.pth").exists()
    assert torch.load(killed / "checkpoint_latest.pth", weights_only=False)["current_epoch"] == 1


@pytest.mark.parametrize(("model", "fold"), [(model, fold) for model, folds in FOLDS.items() for fold in folds])
def test_training_leaves_what_nnunet_needs(home: Home, model: str, fold: int) -> None:
    folder = train_fold(home, model, fold)
    assert (folder / "checkpoint_final.pth").is_file()
    assert (folder / "progress.png").is_file()
    assert not (folder / "checkpoint_latest.pth").exists()
    validated = load_json(home.preprocessed / "splits_final.json")[fold]["val"]
    assert len(read_label_maps(folder / "validation")) == len(validated)
    assert sorted(file.stem for file in (folder / "validation").glob("*.npz")) == sorted(validated)
    assert load_json(folder / "validation" / "summary.json")["foreground_mean"]["Dice"] >= 0


def test_resume_goes_on_from_the_saved_epoch(home: Home) -> None:
    folder = train_fold(home, "2d", 0)
    log = read_logs(folder).removeprefix(read_logs(home.root / "killed"))
    assert epochs_in(log) == ["1"]
    assert "Validation complete" in log
    before = torch.load(home.root / "killed" / "checkpoint_latest.pth", weights_only=False)
    after = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert after["trainer_name"] == TRAINER
    assert after["current_epoch"] == 2
    assert len(after["logging"]["train_losses"]) == 2
    assert after["logging"]["train_losses"][:1] == before["logging"]["train_losses"]
    weights = before["network_weights"]
    assert any(not torch.equal(after["network_weights"][key], weights[key]) for key in weights)
    assert after["optimizer_state"]["state"].keys() == before["optimizer_state"]["state"].keys()


@pytest.mark.parametrize("model", FOLDS)
def test_predict(home: Home, model: str) -> None:
    assert_are_label_maps(predict_with(home, model))


def test_find_best_configuration(home: Home) -> None:
    train_all(home)
    models = ["-tr", TRAINER, "-p", PLANS, "-c", *FOLDS, "-f", 0]
    home.run("nnUNetv2_find_best_configuration", ID, *models, "-np", 1)
    found = load_json(home.root / "nnUNet_results" / DATASET / "inference_information.json")
    singles = {home.results(TRAINER, model).name for model in FOLDS}
    assert singles < found["all_results"].keys()
    (ensemble,) = found["all_results"].keys() - singles
    assert ensemble.startswith("ensemble___")
    selected = found["best_model_or_ensemble"]["selected_model_or_models"]
    assert {(model["trainer"], model["plans_identifier"]) for model in selected} == {(TRAINER, PLANS)}
    assert {model["configuration"] for model in selected} <= set(FOLDS)
    best = max(found["all_results"].values())
    assert found["best_model_or_ensemble"]["result_on_crossval_pre_pp"] == best
    assert np.isfinite(best)


def test_validation_alone_repeats_the_validation(home: Home, tmp_path: Path) -> None:
    fold = train_fold(home, "2d", 0)
    elsewhere = {"nnUNet_results": str(tmp_path)}
    copy = tmp_path / fold.relative_to(home.root / "nnUNet_results")
    shutil.copytree(fold, copy)
    shutil.rmtree(copy / "validation")
    home.train(TRAINER, "2d", 0, "--val", "--npz", variables=elsewhere)
    assert epochs_in(read_logs(copy)) == epochs_in(read_logs(fold))
    assert read_logs(copy).count("Validation complete") == 2
    summaries = [load_json(folder / "validation" / "summary.json") for folder in (copy, fold)]
    assert summaries[0]["mean"] == summaries[1]["mean"]
    label_maps = read_label_maps(fold / "validation")
    assert label_maps
    for name, label_map in read_label_maps(copy / "validation").items():
        assert np.array_equal(label_maps.pop(name), label_map)
    assert not label_maps


def test_model_zip(home: Home, tmp_path: Path) -> None:
    predicted = predict_with(home, "3d_fullres")
    archive = tmp_path / "model.zip"
    model = ["-d", ID, "-tr", TRAINER, "-p", PLANS, "-c", "3d_fullres", "-f", *FOLDS["3d_fullres"]]
    home.run("nnUNetv2_export_model_to_zip", *model, "-o", archive)
    elsewhere = {"nnUNet_results": str(tmp_path / "results")}
    home.run("nnUNetv2_install_pretrained_model_from_zip", archive, variables=elsewhere)
    there = home.predict(TRAINER, "3d_fullres", FOLDS["3d_fullres"], tmp_path / "predicted", variables=elsewhere)
    assert there.keys() == predicted.keys()
    for name, label_map in predicted.items():
        assert np.array_equal(there[name], label_map)


def test_ensemble(home: Home, tmp_path: Path) -> None:
    folders = [home.root / "predicted" / model for model in FOLDS]
    for model in FOLDS:
        predict_with(home, model)
    home.run("nnUNetv2_ensemble", "-i", *folders, "-o", tmp_path, "-np", 1)
    together = read_label_maps(tmp_path)
    assert_are_label_maps(together)
    for name, label_map in together.items():
        file = name.replace(".nii.gz", ".npz")
        mean = np.mean([np.load(folder / file)["probabilities"] for folder in folders], axis=0)
        assert (label_map == mean.argmax(0)).mean() > 0.999  # ties


def test_plans_for_a_network(home: Home, tmp_path: Path) -> None:
    plan = ["plan", "-d", ID, "-tr", "CAggNetTrainer", "-c", "2d", "--gpu-memory", "2", "--base-width", "4"]
    printed = home.run("nnunet-archs", *plan)
    assert "nnUNetv2_preprocess" not in printed  # the data of nnUNetPlans is there
    model = ["-p", "CAggNetPlans", "-tr", "CAggNetTrainer_1epochs_1iterations", "-device", "cpu"]
    printed = home.run("nnUNetv2_train", ID, "2d", 0, *model)
    assert "A training step is expected to take" in printed
    images = ["-i", home.raw / "imagesTs", "-o", tmp_path]
    home.run("nnUNetv2_predict", *images, "-d", ID, "-c", "2d", "-f", 0, *model, "-npp", 0, "-nps", 0)
    assert all(labels.shape == SHAPE for labels in read_label_maps(tmp_path).values())
    assert len(read_label_maps(tmp_path)) == N_TEST


@pytest.mark.parametrize(("trainer", "configuration"), OURS)
@pytest.mark.usefixtures("in_process")
def test_trains_and_predicts(trainer: str, configuration: str, home: Home) -> None:
    train_and_predict(home, f"{trainer}_1epochs_2iterations", configuration, PLANS)


def plan_for(home: Home, trainer: str, configuration: str, *more: str) -> None:
    arguments = ["-tr", trainer, "-c", configuration, "--gpu-memory", "3", "--overwrite"]
    home.run("nnunet-archs", "plan", "-d", ID, *arguments, *more)


@pytest.mark.parametrize(("index", "trainer"), list(enumerate(FOREIGN)))
@pytest.mark.usefixtures("in_process")
def test_networks_from_elsewhere_are_planned_and_train_and_predict(
    index: int, trainer: type[ForeignTrainer], home: Home
) -> None:
    network, name = trainer.network_class, trainer.__name__
    small = any(option.match("resnet18") for option in trainer.options)
    words, width = "_resnet18" if small else "", ["--base-width", "4"] if network.has_width else []
    possible = [configuration for configuration in FOLDS if int(configuration[0]) in network.dimensions]
    configuration = possible[index % len(possible)]
    plan_for(home, name + words, configuration, *width)
    trained = f"{name}{words}_1epochs_2iterations_NoMirroring"
    train_and_predict(home, trained, configuration, f"{network.__name__}{words}Plans")


@pytest.mark.usefixtures("in_process")
def test_dimension_that_a_network_from_elsewhere_lacks_is_not_planned(home: Home) -> None:
    flat = next(trainer for trainer in FOREIGN if 3 not in trainer.network_class.dimensions)
    with pytest.raises(AssertionError):
        plan_for(home, flat.__name__, "3d_fullres")


def train_and_predict(home: Home, name: str, configuration: str, plans: str) -> None:
    trained = get_trainer_from_args(ID, configuration, 0, name, plans, device=CPU)
    trained.run_training()
    assert np.isfinite(trained.logger.get_value("train_losses", step=None)).all()

    predictor = nnUNetPredictor(use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(home.results(name, configuration, plans=plans)), (0,))
    file = home.raw / "imagesTs" / f"e{N_TRAINING:02}_0000.nii.gz"
    image, properties = predictor.plans_manager.image_reader_writer_class().read_images([str(file)])
    label_map = predictor.predict_single_npy_array(image, properties)
    assert label_map.shape == SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file)).shape == SHAPE
    assert set(np.unique(label_map)) <= {0, 1, 2}

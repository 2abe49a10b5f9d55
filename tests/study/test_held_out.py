"""The test set: found where it is asked for, refused where it is not whole or was seen in training."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import SimpleITK
from planning import HIPPOCAMPUS, set_folders
from studies import STUDY, finish, make_study, write_plans, write_test_set

from nnunet_archs.scripts.main import main
from nnunet_archs.study.held_out import held_out, link_images
from nnunet_archs.study.jobs import Prediction, jobs_of, predictions_of, trainings_of
from nnunet_archs.study.predict import discard_stale
from nnunet_archs.study.preparation import check, check_results


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    set_folders(tmp_path, monkeypatch)
    write_test_set(tmp_path, "t1", "t0")
    return tmp_path


def raw(root: Path) -> Path:
    return root / "nnUNet_raw" / HIPPOCAMPUS


def write_splits(root: Path, *splits: dict[str, Any]) -> None:
    (root / "nnUNet_preprocessed" / HIPPOCAMPUS / "splits_final.json").write_text(json.dumps(splits))


def predictions(root: Path, configuration: str) -> list[Prediction]:
    write_plans(root, **{configuration: {"data_identifier": "some", "architecture": {}}})
    text = STUDY.replace("[2d, 3d_fullres]", configuration) + "test: imagesTs\n"
    return predictions_of(make_study(root, text))


def test_no_test_set_is_looked_at_unasked(root: Path) -> None:
    study = make_study(root)
    assert jobs_of(study) == trainings_of(study)


def test_images_ts(root: Path) -> None:
    test_set = held_out(HIPPOCAMPUS, "imagesTs", [0, 1])
    assert test_set.cases == ("t0", "t1")
    assert test_set.channels("t0") == [str(raw(root) / "imagesTs" / "t0_0000.nii.gz")]


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("labelsTs/t1.nii.gz", "t1 is in imagesTs, but not in labelsTs; add it there"),
        ("imagesTs/t0_0000.nii.gz", "t0 is in labelsTs, but not in imagesTs"),
    ],
)
def test_a_case_without_its_image_or_label(gone: str, says: str, root: Path) -> None:
    (raw(root) / gone).unlink()
    with pytest.raises(ValueError, match=says):
        held_out(HIPPOCAMPUS, "imagesTs", [0])


def test_no_labels_end_a_study_before_it_begins(root: Path) -> None:
    study = make_study(root, STUDY + "test: imagesTs\n")
    for file in (raw(root) / "labelsTs").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"mine\.yaml: test: .*labelsTs holds no \.nii\.gz files; put"):
        check(study)


def test_the_test_part_of_a_split(root: Path) -> None:
    part = {"train": ["c000"], "val": ["c001"], "test": ["c004", "c003"]}
    write_splits(root, part, {**part, "val": ["c002"], "test": ["c003", "c004"]}, {"train": [], "val": []})
    test_set = held_out(HIPPOCAMPUS, "splits", [0, 1])
    assert test_set.cases == ("c003", "c004")
    assert test_set.references.name == "gt_segmentations"
    made = []
    for _ in range(2):
        link_images(HIPPOCAMPUS, test_set)
        made.append(test_set.images.stat().st_ino)
    assert made[0] == made[1]  # another study may be predicting them
    assert {file.name: file.resolve() for file in test_set.images.iterdir()} == {
        f"{case}_0000.nii.gz": raw(root) / "imagesTr" / f"{case}_0000.nii.gz" for case in test_set.cases
    }
    with pytest.raises(ValueError, match="folds 0 and 2 have other test cases"):
        held_out(HIPPOCAMPUS, "splits", [0, 2])


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ({"train": ["c000"], "val": ["c001"]}, "lists no test cases; give every fold the same"),
        ({"train": ["c000"], "val": ["c001"], "test": ["c001"]}, "fold 0 trains or validates on its test case c001"),
    ],
)
def test_a_split_that_holds_nothing_out(split: dict[str, Any], says: str, root: Path) -> None:
    write_splits(root, split)
    with pytest.raises(ValueError, match=says):
        held_out(HIPPOCAMPUS, "splits", [0])


def test_every_fold_predicts_and_then_all_together(root: Path) -> None:
    jobs = predictions(root, "2d")
    assert [(job.by, job.network.name) for job in jobs] == [
        (by, name) for by in ("0", "1", "ensemble") for name in ("PlainConvUNet", "CAggNet")
    ]
    assert jobs[-1].title == f"{HIPPOCAMPUS} 2d CAggNet test set ensemble"
    assert jobs[-1].command == (
        "nnUNetv2_predict -d 801 -tr CAggNetTrainer_2epochs -p nnUNetPlans -c 2d -f 0 1 "
        f"-i {raw(root) / 'imagesTs'} -o {jobs[-1].model / 'imagesTs_folds_0_1'} -device cpu "
        "-npp 0 -nps 0 --continue_prediction"
    )
    assert [job.title.split(" ", 1)[1] for job in jobs[-1].needs()] == ["2d CAggNet fold 0", "2d CAggNet fold 1"]
    (only,) = predictions_of(
        make_study(
            root,
            STUDY.replace("[0, 1]", "1").replace(", CAggNetTrainer", "").replace("[2d, 3d_fullres]", "2d")
            + "test: imagesTs\n",
        )
    )
    assert only.by == "1"


def test_the_commands_are_known_before_there_are_plans(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = make_study(root, STUDY + "test: imagesTs\n")
    assert main(["study", "run", str(study.file), "--dry-run"]) == 0
    commands = [line.split(" ", 1)[0] for line in capsys.readouterr().out.splitlines()]
    assert [commands.count(name) for name in ("nnUNetv2_train", "nnUNetv2_predict")] == [8, 12]


def test_networks_that_saw_what_the_split_now_holds_out(root: Path) -> None:
    training = trainings_of(make_study(root))[0]
    write_plans(root, **{"2d": {"data_identifier": "some", "architecture": {}}})
    write_splits(root, {"train": ["c000", "c002"], "val": ["c001"], "test": ["c003"]})
    finish(training)
    shutil.copy(root / "nnUNet_preprocessed" / HIPPOCAMPUS / "nnUNetPlans.json", training.model / "plans.json")
    (training.model / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
    summary = {"metric_per_case": [{"prediction_file": "c001.nii.gz"}]}
    (training.predicted / "summary.json").write_text(json.dumps(summary))
    log = training.folder / "training_log_2026_01_31_12_00_00.txt"
    log.write_text("12:00: This split has 2 training and 1 validation cases.\n")
    check_results(training)
    log.write_text("12:00: This split has 3 training and 1 validation cases.\n")
    with pytest.raises(ValueError, match=r"fold 0 was trained on 3 cases, of which its split has 2; move"):
        check_results(training)


def test_predictions_of_another_test_set(root: Path) -> None:
    job = predictions(root, "2d")[0]
    finish(*job.needs())
    finish(job)
    (job.model / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
    predicted = {"metric_per_case": [{"prediction_file": f"{case}.nii.gz"} for case in ("t0", "t1", "t2")]}
    (job.folder / "summary.json").write_text(json.dumps(predicted))
    with pytest.raises(
        ValueError, match=r"test set fold 0 predicted another test set \(t2\); move .*imagesTs_folds_0 away"
    ):
        check_results(job)


def test_a_cascade_predicts_from_the_same_folds_of_its_first_stage(root: Path) -> None:
    jobs = predictions(root, "3d_low")
    first = {"data_identifier": "low", "architecture": {}, "next_stage": "3d_casc"}
    second = {"data_identifier": "full", "architecture": {}, "previous_stage": "3d_low"}
    write_plans(root, "CascadePlans", **{"3d_low": first, "3d_casc": second})
    text = STUDY.replace("[2d, 3d_fullres]", "[3d_low, 3d_casc]") + "plans: CascadePlans\ntest: imagesTs\n"
    jobs = predictions_of(make_study(root, text))
    stage, last = jobs[5], jobs[-1]
    assert (stage.configuration, last.configuration, stage.by, last.by) == ("3d_low", "3d_casc", *["ensemble"] * 2)
    assert last.needs()[-1] == stage
    assert f"-prev_stage_predictions {stage.folder} --continue" in last.command


def test_predictions_of_earlier_networks_are_not_finished(root: Path) -> None:
    job = predictions(root, "2d")[-1]
    assert job.state() == "waiting"
    for training in job.needs():
        finish(training)
    finish(job)
    assert job.state() == "finished"
    later = job.checkpoints[0].stat().st_mtime + 10
    os.utime(job.checkpoints[1], (later, later))
    assert job.state() == "cut off"


def test_what_is_stale_or_cut_off_is_predicted_anew(tmp_path: Path) -> None:
    folder, network = tmp_path / "imagesTs_folds_0", tmp_path / "fold_0.pth"
    folder.mkdir()
    network.touch()
    (tmp_path / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
    for name in ("kept", "cut", "old"):
        SimpleITK.WriteImage(SimpleITK.Image(9, 9, 9, SimpleITK.sitkUInt8), folder / f"{name}.nii.gz")
    (folder / "cut.nii.gz").write_bytes((folder / "cut.nii.gz").read_bytes()[:30])
    os.utime(folder / "old.nii.gz", (0, 0))
    (folder / "summary.json").touch()
    (folder / "plans.json").touch()
    discard_stale(folder, [network])
    assert sorted(file.name for file in folder.iterdir()) == ["kept.nii.gz", "plans.json"]

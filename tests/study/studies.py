"""Studies of a data set that is nothing but a fingerprint, and trainings that are nothing but their files."""

from __future__ import annotations

import json
from pathlib import Path

from planning import HIPPOCAMPUS, write_dataset

from nnunet_archs.study.definition import Study, read_study
from nnunet_archs.study.job import Job
from nnunet_archs.study.jobs import Training

STUDY = """\
datasets: 801
configurations: [2d, 3d_fullres]
trainers: [PlainConvUNetTrainer, CAggNetTrainer]
baseline: PlainConvUNet
folds: [0, 1]
epochs: 2
device: cpu
"""


def make_study(root: Path, text: str = STUDY) -> Study:
    make_dataset(root)
    file = root / "mine.yaml"
    file.write_text(text)
    return read_study(file)


def make_dataset(root: Path) -> None:
    if not (root / "nnUNet_raw").exists():
        write_dataset(root, HIPPOCAMPUS, [1, 1, 1], [[40, 40, 40]] * 5)


def write_plans(root: Path, name: str = "nnUNetPlans", **configurations: dict[str, object]) -> None:
    """Plans that say where data lies, and no more."""
    make_dataset(root)
    plans = {"dataset_name": HIPPOCAMPUS, "plans_name": name, "configurations": configurations}
    (root / "nnUNet_preprocessed" / HIPPOCAMPUS / f"{name}.json").write_text(json.dumps(plans))


def make_cascade(root: Path) -> Study:
    """A cascade over three folds of the data set's own."""
    text = STUDY.replace("[2d, 3d_fullres]", "[3d_lowres, 3d_cascade_fullres]").replace("[0, 1]", "[0, 1, 2]")
    study = make_study(root, text)
    first = {"data_identifier": "low", "architecture": {}, "next_stage": "3d_cascade_fullres"}
    second = {"data_identifier": "full", "architecture": {}, "previous_stage": "3d_lowres"}
    write_plans(root, **{"3d_lowres": first, "3d_cascade_fullres": second})
    folder = root / "nnUNet_preprocessed" / HIPPOCAMPUS
    (folder / "splits_final.json").write_text(json.dumps([{"train": [], "val": []}] * 3))
    return study


def write_test_set(root: Path, *cases: str) -> None:
    """imagesTs and labelsTs, of empty files."""
    make_dataset(root)
    for case in cases:
        for file in (f"imagesTs/{case}_0000.nii.gz", f"labelsTs/{case}.nii.gz"):
            path = root / "nnUNet_raw" / HIPPOCAMPUS / file
            path.parent.mkdir(exist_ok=True)
            path.touch()


def finish(job: Job) -> None:
    job.predicted.mkdir(parents=True)
    if isinstance(job, Training):
        job.checkpoints[0].touch()
    (job.predicted / "summary.json").write_text("{}")

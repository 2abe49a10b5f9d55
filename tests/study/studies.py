"""Studies of a data set that is nothing but a fingerprint, and trainings that are nothing but their files."""

from __future__ import annotations

from pathlib import Path

from planning import HIPPOCAMPUS, write_dataset

from nnunet_archs.study.definition import Study, read_study
from nnunet_archs.study.jobs import Job

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
    if not (root / "nnUNet_raw").exists():
        write_dataset(root, HIPPOCAMPUS, [1, 1, 1], [[40, 40, 40]] * 5)
    file = root / "mine.yaml"
    file.write_text(text)
    return read_study(file)


def finish(job: Job) -> None:
    (job.folder / "validation").mkdir(parents=True)
    (job.folder / "checkpoint_final.pth").touch()
    (job.folder / "validation" / "summary.json").touch()

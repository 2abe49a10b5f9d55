"""`nnunet-archs study` with nnU-Net's own training: killed, gone on, reported; and on a cluster."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
import SimpleITK
from tiny_dataset import DATASET, LIMIT, PLANS, Home, load_json, read_label_maps

from nnunet_archs.scripts.main import main
from nnunet_archs.study.definition import read_study
from nnunet_archs.study.executors import ClusterExecutor, ClusterRun
from nnunet_archs.study.job import Job
from nnunet_archs.study.jobs import jobs_of, predictions_of

STUDY = f"""\
datasets: {DATASET}
configurations: 2d
trainers:
  - {{trainer: PlainConvUNetTrainer, name: plain}}
  - {{trainer: UNetSharpTrainer, name: "UNet#"}}
plans: {PLANS}
baseline: plain
folds: 0
epochs: 1
iterations: 2
device: cpu
"""

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def folders(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in home.variables.items():
        monkeypatch.setenv(variable, value)


def study_file(home: Home) -> Path:
    file = home.root / "tiny.yaml"
    file.write_text(STUDY)
    return file


def finished_study(home: Home) -> Path:
    """A study that was killed in its first training, and went on."""
    file = study_file(home)
    home.once("studied", lambda: kill_and_go_on(file))
    return file


def kill_and_go_on(file: Path) -> None:
    jobs = jobs_of(read_study(file))
    process = start("run", file)
    wait_until(lambda: jobs[0].state() == "running" or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    # the training itself was not killed: it is left to end, and not begun again
    output = finish(start("run", file))
    assert f"begun: {jobs[0].title}" not in output
    assert f"begun: {jobs[1].title}" in output
    assert [job.state() for job in jobs] == ["finished"] * 2
    made = [times(job) for job in jobs]
    assert main(["study", "run", str(file)]) == 0
    assert [times(job) for job in jobs] == made


@pytest.fixture
def copied_study(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished study in folders of its own, to spoil."""
    file = finished_study(home)
    for model in {job.model for job in jobs_of(read_study(file))}:
        shutil.copytree(model, tmp_path / DATASET / model.name)
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    return Path(shutil.copy(file, tmp_path))


def times(job: Job) -> dict[str, float]:
    return {str(file): file.stat().st_mtime for file in job.folder.rglob("*") if file.is_file()}


def start(step: str, file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nnunet_archs.scripts.main", "study", step, str(file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    try:
        output, _ = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output


def wait_until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_report_has_nnunets_own_dice(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    file = finished_study(home)
    home.once("reported", lambda: main(["study", "report", str(file)]))
    assert (home.root / "tiny" / "report.html").is_file()
    cases = pandas.read_csv(home.root / "tiny" / "cases.csv")
    labels = {"organ": "1", "lesion": "2"}
    n_compared = 0
    for job in jobs_of(read_study(file)):
        mine = cases[(cases["network"] == job.network.name) & (cases["fold"] == job.fold)].set_index(["case", "label"])
        for case in load_json(job.folder / "validation" / "summary.json")["metric_per_case"]:
            name = Path(case["prediction_file"]).name.removesuffix(".nii.gz")
            for label, number in labels.items():
                theirs = case["metrics"][number]
                row = mine.loc[(name, label)]
                assert row["reference_voxels"] == theirs["n_ref"]
                assert row["dice"] == pytest.approx(theirs["Dice"], nan_ok=True)
                n_compared += 1
    assert n_compared == len(cases) == 2 * 2 * len(labels)
    (plain, _) = load_json(home.root / "tiny" / "networks.json")
    assert plain["network"] == "plain"
    assert [len(fold["train_loss"]) for fold in plain["folds"].values()] == [1]


def test_a_test_set_from_raw_images_to_the_report(home: Home) -> None:
    """Predicted by two folds and by their ensemble, which had been cut off; the report's numbers by numpy alone."""
    finished_study(home)  # for its fold 0
    file = home.root / "tested.yaml"
    only = '  - {trainer: UNetSharpTrainer, name: "UNet#"}\n'
    file.write_text(STUDY.replace(only, "").replace("folds: 0", "folds: [0, 1]\ntest: imagesTs"))
    predictions = predictions_of(read_study(file))
    assert [job.folder.name for job in predictions] == ["imagesTs_folds_0", "imagesTs_folds_1", "imagesTs_folds_0_1"]
    spoilt = predictions[-1].folder / "e10.nii.gz"
    spoilt.parent.mkdir()
    spoilt.write_bytes((home.raw / "labelsTs" / spoilt.name).read_bytes()[:100])
    assert main(["study", "run", str(file)]) == 0
    made = [times(job) for job in predictions]
    assert main(["study", "run", str(file)]) == 0
    assert [times(job) for job in predictions] == made
    assert main(["study", "report", str(file)]) == 0
    cases = pandas.read_csv(file.with_suffix("") / "cases.csv")
    assert {*cases.groupby(["part", "fold"]).groups} == {
        *(("validation", fold) for fold in "01"),
        *(("test", by) for by in ("0", "1", "ensemble")),
    }
    validation, test = load_json(file.with_suffix("") / "report.json")["sections"]
    assert (validation["part"], test["part"], test["paired_cases"]) == ("validation", "test", ["e10", "e11"])
    references = read_label_maps(home.raw / "labelsTs")
    ensemble = read_label_maps(predictions[-1].folder)
    dice, f1 = [], []
    for label in (1, 2):
        masks = [(references[name] == label, ensemble[name] == label) for name in references]
        true = np.array([np.sum(one & other) for one, other in masks])
        both = np.array([np.sum(one) + np.sum(other) for one, other in masks])
        dice.append(np.mean(2 * true / both))
        f1.append(2 * true.sum() / both.sum())
    (summary,) = test["summary"]
    assert summary["dice"] == pytest.approx(np.mean(dice), abs=1e-9)
    assert summary["pooled_f1"] == pytest.approx(np.mean(f1), abs=1e-9)
    assert [(row["fold"], row["cases"]) for row in test["alone"]] == [("0", 2), ("1", 2)]


@pytest.mark.parametrize("what", ["missing", "extra", "cut off", "another"])
def test_a_validation_folder_that_is_not_nnunets(
    what: str, copied_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = jobs_of(read_study(copied_study))[0].folder / "validation"
    case, _ = sorted(folder.glob("*.nii.gz"))
    content = case.read_bytes()
    if what == "missing":
        case.unlink()
    elif what == "extra":
        (folder / "other.nii.gz").write_bytes(content)
    elif what == "cut off":
        case.write_bytes(content[: len(content) // 2])
    else:  # of the same size, with nothing predicted
        empty = 0 * SimpleITK.ReadImage(case)
        SimpleITK.WriteImage(empty, case)
    assert main(["study", "report", str(copied_study)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    named = {
        "missing": "lacks 1 of 2 cases",
        "extra": "other, which is not a case",
        "cut off": "cannot be read to its end",
        "another": "where nnU-Net counted",
    }
    assert error.startswith(f"nnunet-archs: error: {folder}")
    assert named[what] in error


def test_results_of_other_plans(copied_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans = jobs_of(read_study(copied_study))[0].model / "plans.json"
    other = load_json(plans)
    other["configurations"]["2d"]["batch_size"] = 3
    plans.write_text(json.dumps(other))
    assert main(["study", "run", str(copied_study)]) == 2
    assert f"2d plain fold 0 was trained with another {PLANS}; move" in capsys.readouterr().err


def test_on_a_cluster_and_begun_again(home: Home) -> None:
    """submitit's own executor for this machine: its job is told that the time is up, and goes on."""
    file = home.root / "cluster.yaml"
    length = "epochs: 12\niterations: 2\nexecutor: {kind: submitit, cluster: local, parameters: {timeout_min: 10}}\n"
    file.write_text(STUDY.replace("epochs: 1\niterations: 2\n", length))
    study = read_study(file)
    job = jobs_of(study)[0]
    executor = ClusterExecutor(study)
    run = executor.start(job)  # submitit tells its jobs by a signal that their time is up
    assert isinstance(run, ClusterRun)
    try:
        wait_until(lambda: (job.folder / "checkpoint_latest.pth").exists() or run.exit_code() is not None)
        subprocess.run(["pkill", "-USR2", "-P", run.submitted.job_id], check=True)
        wait_until(lambda: run.exit_code() is not None)
    finally:
        run.submitted.cancel()
    assert run.exit_code() == 0, job.log.read_text()
    assert job.state() == "finished"
    begun = [log.read_text() for log in sorted(job.folder.glob("training_log_*.txt"))]
    assert len(begun) == 2
    assert "Epoch 0 " not in begun[1]
    assert "Epoch 11 " in begun[1]

"""How far a training is, from its files and its lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
import torch
from planning import HIPPOCAMPUS, set_folders
from studies import finish, make_cascade, make_study

from nnunet_archs.study.jobs import Job, jobs_of, seconds_left
from nnunet_archs.study.locks import is_held
from nnunet_archs.study.train import BUSY, set_aside_broken

HOLD = "import sys; from pathlib import Path; from nnunet_archs.study.locks import acquire"
HOLD += "; assert acquire(Path(sys.argv[1])); print('held', flush=True); input()"


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    set_folders(tmp_path, monkeypatch)
    return jobs_of(make_study(tmp_path))


@contextmanager
def held(lock: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds a lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_all_trainings_a_fold_at_a_time(jobs: list[Job]) -> None:
    assert len(jobs) == 2 * 2 * 2
    assert [(job.configuration, job.fold, job.network.name) for job in jobs[:3]] == [
        ("2d", 0, "PlainConvUNet"),
        ("2d", 0, "CAggNet"),
        ("2d", 1, "PlainConvUNet"),
    ]
    name = "CAggNetTrainer_2epochs__nnUNetPlans__2d"
    assert jobs[1].folder.parts[-3:] == (HIPPOCAMPUS, name, "fold_0")
    assert jobs[1].arguments == (
        *("801", "2d", "0", "-tr", "CAggNetTrainer_2epochs", "-p", "nnUNetPlans", "-device", "cpu"),
    )


def test_states(jobs: list[Job]) -> None:
    job = jobs[0]
    assert job.state() == "waiting"
    job.folder.mkdir(parents=True)
    (job.folder / "training_log_2026_01_31_12_00_00.txt").write_text("12:00: Epoch 0 \n\n12:01: Epoch 1 \n")
    assert (job.state(), job.epoch()) == ("cut off", 1)
    (job.folder / "checkpoint_latest.pth").touch()
    assert job.command.endswith("-device cpu --c")
    with held(job.lock):
        assert job.state() == "running"
    job.failure.parent.mkdir(parents=True)
    job.failure.write_text("exit code 1\n")
    assert job.state() == "failed"
    (job.folder / "checkpoint_final.pth").touch()
    assert job.state() == "failed"
    assert job.command.endswith("-device cpu --val")
    (job.folder / "validation").mkdir()
    (job.folder / "validation" / "summary.json").write_text('{"mean": {')  # nnU-Net is writing it
    assert job.state() == "failed"
    (job.folder / "validation" / "summary.json").write_text('{"mean": {}}')
    assert job.state() == "finished"


def test_a_log_of_october_is_newer_than_one_of_september(jobs: list[Job]) -> None:
    jobs[0].folder.mkdir(parents=True)
    for month, day, epoch in ((9, 30, 3), (10, 1, 5)):
        log = jobs[0].folder / f"training_log_2026_{month}_{day}_12_00_00.txt"
        log.write_text(f"12:00: Epoch {epoch} \n")
        begun = datetime(2026, month, day, 12).timestamp()
        os.utime(log, (begun, begun + 60))
    (jobs[0].folder / "training_log_copy.txt").touch()
    assert jobs[0].epoch() == 5
    assert jobs[0].seconds() == 120


def test_half_a_checkpoint_is_set_aside(jobs: list[Job]) -> None:
    folder = jobs[0].folder
    folder.mkdir(parents=True)
    torch.save({"weights": torch.zeros(100)}, folder / "checkpoint_best.pth")
    whole = (folder / "checkpoint_best.pth").read_bytes()
    (folder / "checkpoint_latest.pth").write_bytes(whole)
    (folder / "checkpoint_final.pth").write_bytes(whole[: len(whole) // 2])
    set_aside_broken(folder)
    assert jobs[0].command.endswith("--c")
    assert sorted(file.name for file in folder.iterdir()) == [
        "checkpoint_best.pth",
        "checkpoint_final.broken",
        "checkpoint_latest.pth",
    ]


def test_a_lock_is_free_when_its_process_was_killed(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "fold_0.lock"
    assert not is_held(lock)
    with held(lock) as process:
        assert is_held(lock)
        command = [sys.executable, "-m", "nnunet_archs.study.train", "fold_0", str(lock), "--", "4", "2d", "0"]
        other = subprocess.run(command, capture_output=True, text=True)
        assert (other.returncode, other.stderr) == (BUSY, f"another process holds {lock}\n")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not is_held(lock)


def test_what_is_left(jobs: list[Job]) -> None:
    states = {job: job.state() for job in jobs}
    assert seconds_left(jobs, states, 1) is None
    for job, seconds in ((jobs[0], 100), (jobs[1], 300)):
        finish(job)
        log = job.folder / "training_log_2026_01_31_12_00_00.txt"
        log.touch()
        begun = datetime(2026, 1, 31, 12).timestamp()
        os.utime(log, (begun, begun + seconds))
        assert job.seconds() == seconds
    states = {job: job.state() for job in jobs}
    # fold 1 of both takes as long again, and four of 3d_fullres what is known on average
    assert seconds_left(jobs, states, 2) == (100 + 300 + 4 * 200) / 2


def test_a_cascade_needs_all_folds_of_its_first_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_folders(tmp_path, monkeypatch)
    jobs = jobs_of(make_cascade(tmp_path))
    assert [job.configuration for job in jobs] == ["3d_lowres"] * 6 + ["3d_cascade_fullres"] * 6
    assert jobs[-1].needs() == [job for job in jobs[:6] if job.network == jobs[-1].network]
    assert jobs[0].needs() == []

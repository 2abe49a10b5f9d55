"""How far a training is, from its files and its lock."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
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

from nnunet_archs.instances import described
from nnunet_archs.study import locks
from nnunet_archs.study.job import Job
from nnunet_archs.study.jobs import begun, jobs_of, seconds_left
from nnunet_archs.study.locks import acquire, holding, is_held
from nnunet_archs.study.train import BUSY, set_aside_broken

HOLD = "import sys; from pathlib import Path; from nnunet_archs.study.locks import acquire"
HOLD += "; lock = acquire(Path(sys.argv[1])); assert lock; print('held', flush=True); input()"


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    set_folders(tmp_path, monkeypatch)
    return jobs_of(make_study(tmp_path))


@contextmanager
def held(lock: Path, program: str = HOLD) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds a lock."""
    process = subprocess.Popen([sys.executable, "-c", program, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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


def test_objects_get_scores_by_the_probabilities_that_are_saved(jobs: list[Job], tmp_path: Path) -> None:
    file = tmp_path / "nnUNet_raw" / HIPPOCAMPUS / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | described("2voxels")))
    assert jobs[0].arguments[-1] == "--npz"


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
        assert other.returncode == BUSY
        who = rf"waits for {lock}, held by process {process.pid} on {platform.node()} since \d{{4}}-.*T.*\n"
        assert re.fullmatch(who, other.stderr)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not is_held(lock)


FORK = "; import multiprocessing, time; p = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))"
FORK += "; p.start(); print(p.pid, flush=True); p.join()"


def test_a_lock_is_not_kept_by_a_worker_that_outlives_its_training(tmp_path: Path) -> None:
    lock = tmp_path / "fold_0.lock"
    with held(lock, HOLD.removesuffix("; input()") + FORK) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert is_held(lock)
        process.kill()
        process.wait()
        os.kill(worker, 0)  # it is there still
        try:
            assert not is_held(lock)
        finally:
            os.kill(worker, signal.SIGKILL)


def test_whoever_looks_at_a_lock_neither_makes_nor_keeps_it(tmp_path: Path) -> None:
    lock = tmp_path / "fold_0.lock"
    assert not is_held(lock)
    assert list(tmp_path.iterdir()) == []
    mine = acquire(lock)
    assert mine is not None
    assert is_held(lock)
    mine.release()
    assert not is_held(lock)
    assert acquire(lock) is not None


def test_a_study_says_for_whom_it_waits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "study.lock"
    monkeypatch.setattr(locks, "ACQUIRE_SECONDS", 0)
    said: list[str] = []

    def release(*words: str, **_: object) -> None:
        said.extend(words)
        process.kill()
        process.wait()

    monkeypatch.setattr("builtins.print", release)
    with held(lock) as process, holding(lock, "preparation of Dataset801_Hippocampus"):
        pass
    monkeypatch.undo()
    (line,) = said
    assert line.startswith(f"preparation of Dataset801_Hippocampus waits for {lock}, held by process {process.pid} on ")


def test_locks_can_be_imported_where_there_is_no_fcntl() -> None:
    code = "import sys; sys.modules['fcntl'] = None; import nnunet_archs.study.locks"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with files in place of locks: those of a killed holder would stay."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(ValueError, match=r"fold_0\.lock cannot be locked .*move it to a file system with locks"):
        acquire(tmp_path / "fold_0.lock")


def test_what_is_left(jobs: list[Job]) -> None:
    states = {job: job.state() for job in jobs}
    assert seconds_left(jobs, states, 1) is None
    for job, seconds in ((jobs[0], 100), (jobs[1], 300)):
        finish(job)
        log = job.folder / "training_log_2026_01_31_12_00_00.txt"
        log.touch()
        start = datetime(2026, 1, 31, 12).timestamp()
        for file in (log, job.folder / "validation" / "summary.json"):
            os.utime(file, (start, start + seconds))
        assert job.seconds() == seconds
    states = {job: job.state() for job in jobs}
    # fold 1 of both takes as long again, and four of 3d_fullres what is known on average
    assert seconds_left(jobs, states, 1) == 100 + 300 + 4 * 200
    assert seconds_left(jobs, states, 2) == 100 + 3 * 200
    assert seconds_left(jobs, states, 20) == 300


def test_start_up_and_validation_of_a_fold_are_counted(jobs: list[Job]) -> None:
    job = jobs[0]
    finish(job)
    start = datetime(2026, 1, 31, 12).timestamp()
    for hour, seconds in ((10, 5), (12, 40)):
        log = job.folder / f"training_log_2026_1_31_{hour}_00_00.txt"
        log.touch()
        os.utime(log, (start, begun(log) + seconds))
    os.utime(job.folder / "validation" / "summary.json", (start, start + 100))
    assert job.seconds() == 5 + 100
    holder = job.lock.with_name("fold_0.lock.holder")
    for since, seconds in ((start - 30, 5 + 30 + 100), (start - 9000, 5 + 100)):  # the second: of a try long ago
        holder.write_text(json.dumps({"host": "a", "pid": 1, "since": datetime.fromtimestamp(since).isoformat()}))
        assert job.seconds() == seconds


def test_a_cascade_needs_all_folds_of_its_first_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_folders(tmp_path, monkeypatch)
    jobs = jobs_of(make_cascade(tmp_path))
    assert [job.configuration for job in jobs] == ["3d_lowres"] * 6 + ["3d_cascade_fullres"] * 6
    assert jobs[-1].needs() == [job for job in jobs[:6] if job.network == jobs[-1].network]
    assert jobs[0].needs() == []

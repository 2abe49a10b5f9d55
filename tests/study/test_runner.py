"""Running a study's trainings to the end, past those that fail."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from planning import set_folders
from rich.console import Console
from studies import STUDY, finish, make_cascade, make_study, write_plans, write_test_set

from nnunet_archs.scripts.main import main
from nnunet_archs.study import executors, runner
from nnunet_archs.study.definition import Study
from nnunet_archs.study.executors import ClusterExecutor, LocalExecutor, gpu_names
from nnunet_archs.study.job import Job
from nnunet_archs.study.jobs import jobs_of
from nnunet_archs.study.train import BUSY


class Done:
    """A training that has ended at once."""

    def __init__(self, code: int) -> None:
        self.code = code

    def exit_code(self) -> int:
        return self.code

    def stop(self) -> None:
        """Nothing is left of it."""


class Instant:
    """An executor whose trainings end at once, as `end` has it."""

    at_once = 2

    def __init__(self, end: Callable[[Job], int]) -> None:
        self.end = end
        self.begun: list[str] = []

    def start(self, job: Job) -> Done:
        self.begun.append(job.title.split(" ", 1)[1])
        return Done(self.end(job))

    def waits_for(self) -> list[Path]:
        return []

    def describe(self, job: Job) -> str:
        return job.name


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "POLL_SECONDS", 0)
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.1)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    set_folders(tmp_path, monkeypatch)
    made = make_study(tmp_path)
    write_plans(tmp_path, **{name: {"data_identifier": name, "architecture": {}} for name in made.configurations})
    return made


def succeed(job: Job) -> int:
    finish(job)
    return 0


def test_nothing_is_trained_twice(study: Study) -> None:
    first, second = Instant(succeed), Instant(succeed)
    assert runner.run_jobs(study, first) == []
    assert len(set(first.begun)) == len(first.begun) == 8
    assert runner.run_jobs(study, second) == []
    assert second.begun == []


def test_past_a_failure_which_is_tried_again_next_time(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    def fail_one(job: Job) -> int:
        if job.fold == 1 and job.network.name == "CAggNet" and job.configuration == "2d":
            job.log.parent.mkdir(parents=True, exist_ok=True)
            job.log.write_text("...\nRuntimeError: out of memory\n\n")
            return 1
        return succeed(job)

    executor = Instant(fail_one)
    (left,) = runner.run_jobs(study, executor)
    assert left.title.endswith("2d CAggNet fold 1")
    assert left.state() == "failed"
    assert left.failure.read_text() == "exit code 1: RuntimeError: out of memory\n"
    assert len(executor.begun) == 8
    assert f"failed: {left.title}: exit code 1: RuntimeError: out of memory" in capsys.readouterr().out
    again = Instant(succeed)
    assert runner.run_jobs(study, again) == []
    assert again.begun == ["2d CAggNet fold 1"]


def test_a_test_set_is_predicted_after_what_predicts_it(study: Study, tmp_path: Path) -> None:
    write_test_set(tmp_path, "t0")
    tested = make_study(tmp_path, STUDY.replace("[2d, 3d_fullres]", "2d") + "test: imagesTs\n")

    def fail_one(job: Job) -> int:
        return 1 if job.title.endswith("2d CAggNet fold 1") else succeed(job)

    executor = Instant(fail_one)
    left = [job.title.split(" ", 1)[1] for job in runner.run_jobs(tested, executor)]
    ensemble = "2d CAggNet test set ensemble"
    assert left == ["2d CAggNet fold 1", "2d CAggNet test set fold 1", ensemble]
    assert ensemble not in executor.begun
    assert [title for title in executor.begun if "test set" in title] == executor.begun[4:]
    again = Instant(succeed)
    assert runner.run_jobs(tested, again) == []
    assert again.begun == left
    screen = io.StringIO()
    Console(width=100, file=screen).print(runner.status_table(tested, jobs_of(tested), 1))
    assert re.search(r"CAggNet, test set +│ done │ done │ done", screen.getvalue())


def test_what_another_trains_is_waited_for(study: Study) -> None:
    seen: list[str] = []

    def busy_once(job: Job) -> int:
        if job.name in seen:
            return succeed(job)
        seen.append(job.name)
        return BUSY

    assert runner.run_jobs(study, Instant(busy_once)) == []


def test_a_cascade_fails_with_its_first_stage(tmp_path: Path, study: Study) -> None:
    cascade = make_cascade(tmp_path)

    def fail_caggnets_first(job: Job) -> int:
        if (job.network.name, job.fold, job.configuration) == ("CAggNet", 1, "3d_lowres"):
            return 1
        return succeed(job)

    executor = Instant(fail_caggnets_first)
    left = runner.run_jobs(cascade, executor)
    assert {job.title.split(" ", 1)[1] for job in left} == {
        "3d_lowres CAggNet fold 1",
        *(f"3d_cascade_fullres CAggNet fold {fold}" for fold in range(3)),
    }
    assert left[-1].failure.read_text().endswith("3d_lowres CAggNet fold 1 has failed, which it needs\n")
    last_first_stage = max(i for i, title in enumerate(executor.begun) if "lowres PlainConvUNet" in title)
    first_second_stage = min(i for i, title in enumerate(executor.begun) if "cascade" in title)
    assert last_first_stage < first_second_stage


def test_a_gpu_for_each_training(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    on_gpus = make_study(tmp_path, STUDY.replace("cpu", "cuda") + "executor: {kind: local, gpus: [2, 0]}\n")
    assert gpu_names(on_gpus) == ["7", "4"]
    places = [{"CUDA_VISIBLE_DEVICES": "7"}, {"CUDA_VISIBLE_DEVICES": "4"}]
    assert list(LocalExecutor(on_gpus).places.values()) == places
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="gpus: this machine has 2 GPUs, and no GPU 2"):
        LocalExecutor(on_gpus)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="device cuda: torch finds no GPU here"):
        LocalExecutor(on_gpus)
    assert LocalExecutor(make_study(tmp_path, STUDY + "executor: {kind: local, jobs: 3}\n")).at_once == 3


def test_what_submitit_does_not_take(study: Study, tmp_path: Path) -> None:
    other = make_study(tmp_path, STUDY + "executor: {kind: submitit, cluster: local, parameters: {timeout: 5}}\n")
    with pytest.raises(ValueError, match="executor: submitit does not take that"):
        ClusterExecutor(other)


class Process:
    """A process that goes on until it is told to end."""

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code


def test_a_place_for_each_training(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where another study trains, or a training goes on whose study was killed."""
    begun: list[tuple[str, Process]] = []

    def begin(command: list[str], log: Path, environment: dict[str, str]) -> Process:
        begun.append((command[5], Process()))
        return begun[-1][1]

    monkeypatch.setattr(executors, "begin", begin)
    executor = LocalExecutor(make_study(tmp_path, STUDY + "executor: {kind: local, jobs: 3}\n"))
    first, second, third = map(executors.lock_of, executor.places)
    jobs = jobs_of(study)
    held = {second}
    monkeypatch.setattr(executors, "is_held", held.__contains__)
    assert executor.start(jobs[0]) is not None
    assert executor.start(jobs[1]) is not None
    assert executor.start(jobs[2]) is None
    begun[0][1].code = 0
    assert executor.start(jobs[2]) is not None
    held.clear()
    assert executor.start(jobs[3]) is not None
    assert [place for place, _ in begun] == [str(lock) for lock in (first, third, first, second)]


def test_the_status_has_whole_names(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a name of the reports that is longer than what eighty columns leave beside five folds"
    text = STUDY.replace("CAggNetTrainer]", f"{{trainer: CAggNetTrainer, name: {name}}}]")
    long = make_study(tmp_path, text)
    assert main(["study", "status", str(long.file)]) == 0
    assert name in capsys.readouterr().out
    screen = io.StringIO()
    table = runner.status_table(long, jobs_of(long), 1)
    Console(width=40, file=screen, force_terminal=True, color_system=None).print(table)
    columns = zip(*(line.split("│") for line in screen.getvalue().splitlines() if "│" in line), strict=True)
    assert any(name.replace(" ", "") in "".join(column).replace(" ", "") for column in columns)


class Full(Instant):
    """An executor that has no room at first: another study trains there."""

    def __init__(self, lock: Path) -> None:
        super().__init__(succeed)
        self.lock: Path | None = lock

    def start(self, job: Job) -> Done | None:  # type: ignore[override]
        return None if self.lock else super().start(job)

    def waits_for(self) -> list[Path]:
        lock, self.lock = self.lock, None
        return [lock] if lock else []


def test_whom_a_study_waits_for_is_said(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On no terminal too; it had said nothing until the other had ended."""
    first = jobs_of(study)[0]
    state, seen = Job.state, []

    def trained_elsewhere_at_first(job: Job) -> str:
        if job == first and len(seen) < 2:
            seen.append(job)
            return "running"
        return state(job)

    monkeypatch.setattr(Job, "state", trained_elsewhere_at_first)
    assert runner.run_jobs(study, Full(tmp_path / "GPU-0.lock")) == []
    lines = capsys.readouterr().out
    assert f"waiting: {first.title} is trained by another process: {first.lock}, held by an unknown process" in lines
    assert lines.count(f"waiting for room: another study trains: {tmp_path / 'GPU-0.lock'}, held by") == 1


class Queued:
    """A cluster's job, which is queued as long as its file is there."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.touch()

    def done(self) -> bool:
        return not self.file.exists()

    def result(self) -> int:
        return 0


def test_what_is_queued_is_not_queued_again(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that queued it was killed, and another goes on."""
    on_cluster = make_study(
        tmp_path, STUDY + "executor: {kind: submitit, cluster: local, jobs: 2, parameters: {timeout_min: 5}}\n"
    )
    submitted: list[Path] = []

    def submit(training: executors.OnCluster) -> Queued:
        submitted.append(tmp_path / f"{len(submitted)}.job")
        return Queued(submitted[-1])

    def begin() -> ClusterExecutor:
        executor = ClusterExecutor(on_cluster)
        monkeypatch.setattr(executor.executor, "submit", submit)
        return executor

    jobs, first, second = jobs_of(on_cluster), begin(), begin()
    assert [first.start(job) is not None for job in jobs[:3]] == [True, True, False]
    runs = [second.start(job) for job in jobs[:3]]
    assert [run is not None for run in runs] == [True, True, False]
    assert len(submitted) == 2
    submitted[0].unlink()
    assert runs[0] is not None
    assert runs[0].exit_code() == 0
    first.note(jobs[1]).write_text("none")
    with pytest.raises(ValueError, match=r"queued cannot be read .* remove it"):
        begin().start(jobs[1])
    # what has ended without a trained network is queued again
    assert begin().start(jobs[0]) is not None
    assert len(submitted) == 3

"""Run a study's jobs to the end, past those that fail, and show how far they are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from nnunet_archs.nnunet.commands import last_line

from .definition import Study
from .executors import Executor, Run
from .job import ENSEMBLE, Job, Part, State
from .jobs import jobs_of, seconds_left
from .locks import describe
from .train import BUSY

DOING: Mapping[Part, str] = {"validation": "trained", "test": "predicted"}
POLL_SECONDS = 1.0
LOOK_SECONDS = 10.0  # between two looks at what is on the disk
SYNC_SECONDS = 60.0  # after which a network file system shows what was written
MARKS: Mapping[State, str] = {
    "finished": "[green]done[/]",
    "running": "[cyan]running[/]",
    "failed": "[red]failed[/]",
    "cut off": "[yellow]cut off[/]",
    "waiting": "[dim]waiting[/]",
}


def run_jobs(study: Study, executor: Executor) -> list[Job]:
    """Run all that is not finished; return what is not finished then.

    What another process runs is left to it, and waited for.
    """
    jobs = jobs_of(study)
    todo = [job for job in jobs if not job.is_finished()]
    console = Console()
    print(f"{told(jobs)}, {len(jobs) - len(todo)} finished; logs in {study.folder / 'logs'}", flush=True)
    for job in todo:
        job.failure.unlink(missing_ok=True)
    progress = Progress(study, jobs, executor.at_once, console)
    running: dict[Job, Run] = {}
    try:
        with progress:
            while todo or running:
                begin_what_can(todo, running, executor, progress)
                look_after(todo, running, progress)
    finally:
        for run in running.values():
            run.stop()
    return [job for job in jobs if not job.is_finished()]


def begin_what_can(todo: list[Job], running: dict[Job, Run], executor: Executor, progress: Progress) -> None:
    """Begin jobs while there is room: those that nobody runs and that need nothing more."""
    for job in list(todo):
        needed = job.needs()
        if job.is_finished():  # by another study
            todo.remove(job)
        elif failed := [other for other in needed if other.state() == "failed"]:
            todo.remove(job)
            fail(job, f"{failed[0].title} has failed, which it needs", progress)
        elif job.state() == "running":
            progress.say_once(f"waiting: {job.title} is {DOING[job.part]} by another process: {describe(job.lock)}")
        elif all(other.is_finished() for other in needed):
            run = executor.start(job)
            if run is None:
                for lock in executor.waits_for():
                    progress.say_once(f"waiting for room: another study trains: {describe(lock)}")
                return
            todo.remove(job)
            running[job] = run
            progress.say(f"begun: {job.title}")


def look_after(todo: list[Job], running: dict[Job, Run], progress: Progress) -> None:
    """Wait until a job has ended, or it is time to look at the disk again."""
    last = time.monotonic() + LOOK_SECONDS
    ended: list[Job] = []
    while not ended and time.monotonic() < last:
        time.sleep(POLL_SECONDS)
        progress.update()
        ended = [job for job in running if running[job].exit_code() is not None]
    for job in ended:
        if conclude(job, running.pop(job), progress) == BUSY:
            todo.append(job)


def conclude(job: Job, run: Run, progress: Progress) -> int:
    """Say how a job ended, and note a failure; the exit code."""
    code = run.exit_code() or 0
    run.stop()
    last = time.monotonic() + SYNC_SECONDS
    while code == 0 and not job.is_finished() and time.monotonic() < last:
        time.sleep(POLL_SECONDS)  # a network file system shows late what another machine wrote
    if job.is_finished():
        progress.say(f"done: {job.title}")
    elif code != BUSY:
        fail(job, f"exit code {code}: {last_line(job.log)}", progress)
    return code


def fail(job: Job, why: str, progress: Progress) -> None:
    """Note that a job failed, and why."""
    job.failure.parent.mkdir(parents=True, exist_ok=True)
    job.failure.write_text(f"{why}\n")
    progress.say(f"failed: {job.title}: {why}")


class Progress:
    """A table that stays up to date on a terminal; a line for each event elsewhere."""

    def __init__(self, study: Study, jobs: Sequence[Job], at_once: int, console: Console) -> None:
        self.study, self.jobs, self.at_once, self.console = study, list(jobs), at_once, console
        self.live = Live(console=console, refresh_per_second=1) if console.is_terminal else nullcontext()
        self.looked = 0.0
        self.said: set[str] = set()

    def __enter__(self) -> Progress:
        self.live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.update(force=True)
        self.live.__exit__(*error)  # type: ignore[arg-type]

    def update(self, *, force: bool = False) -> None:
        """Show the table, not too often: it reads the disk."""
        if isinstance(self.live, Live) and (force or time.monotonic() - self.looked > LOOK_SECONDS):
            self.live.update(status_table(self.study, self.jobs, self.at_once))
            self.looked = time.monotonic()

    def say_once(self, what: str) -> None:
        """Say what lasts, once."""
        if what not in self.said:
            self.said.add(what)
            self.say(what)

    def say(self, what: str) -> None:
        """Say what happened, and on no terminal what is left."""
        left = "" if isinstance(self.live, Live) else estimate(self.jobs, self.at_once)
        self.console.print(f"{time.strftime('%H:%M:%S')} {what}{left}", markup=False, highlight=False, soft_wrap=True)


def status_table(study: Study, jobs: Sequence[Job], at_once: int) -> Table:
    """A row for a network's configuration and one for its test set, a column for a fold, and what is left."""
    states = {job: job.state() for job in jobs}
    done = sum(state == "finished" for state in states.values())
    table = Table(caption=f"{done} of {len(jobs)} finished{estimate(jobs, at_once, states)}")
    several, ensemble = len(study.datasets) > 1, any(job.by == ENSEMBLE for job in jobs)
    titles = [*(["dataset"] if several else []), "configuration", "network", *map(str, study.folds)]
    for title in [*titles, *([ENSEMBLE] if ensemble else [])]:
        table.add_column(title, overflow="fold")  # a name that is cut is no name
    rows: dict[object, list[Job]] = {}
    for job in jobs:
        rows.setdefault((job.dataset, job.configuration, job.network, job.part), []).append(job)
    for row in rows.values():
        first = row[0]
        name = f"{first.network.name}, test set" if first.part == "test" else first.network.name
        names = [*([first.dataset] if several else []), first.configuration, escape(name)]
        table.add_row(*names, *(cell(job, states[job]) for job in row))
    return table


def told(jobs: Sequence[Job]) -> str:
    """How many trainings and predictions there are."""
    n_trainings = sum(job.part == "validation" for job in jobs)
    n_predictions = len(jobs) - n_trainings
    return f"{n_trainings} trainings" + (f", {n_predictions} predictions of test sets" if n_predictions else "")


def cell(job: Job, state: State) -> str:
    """A job's state, with the epoch of a training that is under way."""
    progress = job.progress() if state in ("running", "cut off") else ""
    return ", ".join(filter(None, [MARKS[state], progress]))


def estimate(jobs: Sequence[Job], at_once: int, states: Mapping[Job, State] | None = None) -> str:
    """The time that is left, in words; nothing where nothing is known or left."""
    states = states or {job: job.state() for job in jobs}
    seconds = seconds_left(list(jobs), dict(states), at_once)
    if not seconds:
        return ""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f", about {hours} h {minutes} min left" if hours else f", about {max(1, minutes)} min left"

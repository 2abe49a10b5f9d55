"""The steps of a study: run, look, judge."""

from __future__ import annotations

import argparse

from rich.console import Console

from nnunet_archs.nnunet.commands import last_line, unwound_by_sigterm

from .definition import Study
from .executors import make_executor
from .jobs import jobs_of
from .preparation import check, plan_commands, prepare, shown
from .runner import run_jobs, status_table

PIPED_WIDTH = 1000


def run_study(args: argparse.Namespace, study: Study) -> int:
    """Train and predict all; return 1 where something is not finished."""
    executor = make_executor(study)
    check(study, replan=args.replan)
    if args.dry_run:
        for dataset in study.datasets:
            for _, command in plan_commands(study, dataset, replan=args.replan):
                print(*shown(command))
        print(*(executor.describe(job) for job in jobs_of(study) if not job.is_finished()), sep="\n")
        return 0
    with unwound_by_sigterm():
        prepare(study, replan=args.replan)
        unfinished = run_jobs(study, executor)
    for job in unfinished:
        why = last_line(job.failure) if job.failure.exists() else job.state()
        print(f"not finished: {job.title}: {why} (log: {job.log})")
    print(
        f"To resume: nnunet-archs study run {args.file}"
        if unfinished
        else f"Next: nnunet-archs study report {args.file}"
    )
    return 1 if unfinished else 0


def show_status(args: argparse.Namespace, study: Study) -> int:
    """Print the table of all jobs."""
    jobs = jobs_of(study)
    at_once = sum(job.state() == "running" for job in jobs)
    terminal = Console()
    # what is piped is read by whoever needs the names
    console = terminal if terminal.is_terminal else Console(width=PIPED_WIDTH)
    console.print(status_table(study, jobs, max(1, at_once)))
    for job in jobs:
        if job.state() == "failed":
            print(f"failed: {job.title}: {last_line(job.failure)} (log: {job.log})")
    return 0


def make_report(args: argparse.Namespace, study: Study) -> int:
    """Measure what is new, and write tables and report."""
    from .collection import collect
    from .examples import draw_examples
    from .report import write_report

    measured = collect(study, args.argv)
    print(write_report(study.folder, draw_examples(study, measured)))
    return 0


STEPS = {"run": run_study, "status": show_status, "report": make_report}

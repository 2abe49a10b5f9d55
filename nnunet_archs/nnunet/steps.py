"""Run nnU-Net's commands one after the other: a log file each, and none twice."""

import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.5
N_LAST_LINES = 15


class StepError(Exception):
    """A command of nnU-Net's failed; the message says which, and the end of its log."""


@dataclass(frozen=True)
class Step:
    """One of nnU-Net's commands: it is done once all its products exist and none is older than its inputs."""

    heading: str
    command: Sequence[str]
    log: Path
    products: Sequence[Path]
    inputs: Sequence[Path] = ()
    stamp: Path | None = None  # a product that the step itself does not write: made when the command succeeded

    def is_done(self) -> bool:
        """Tell whether there is nothing to do."""
        products = [*self.products, *([self.stamp] if self.stamp else [])]
        if not all(path.exists() for path in (*products, *self.inputs)):
            return False
        newest_input = max((path.stat().st_mtime for path in self.inputs), default=0.0)
        return all(path.stat().st_mtime >= newest_input for path in products)


def run_step(step: Step, environment: Mapping[str, str]) -> float | None:
    """Run a step that is not done; return the seconds it took, or None where it was done. Raises StepError."""
    print(f"\n{step.heading}", flush=True)
    if step.is_done():
        print("  already done", flush=True)
        return None
    print(f"  {' '.join(step.command)}", flush=True)
    step.log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with step.log.open("w") as log:
        code = _run(step, environment, log.fileno(), started)
    seconds = time.monotonic() - started
    if code != 0 or not all(path.exists() for path in step.products):
        raise StepError(_describe_failure(step, code))
    if step.stamp:
        step.stamp.write_text(" ".join(step.command) + "\n")
    print(f"  done in {seconds:.0f} s", flush=True)
    return seconds


def _run(step: Step, environment: Mapping[str, str], log: int, started: float) -> int:
    process = subprocess.Popen(
        step.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=dict(environment)
    )
    try:
        while True:
            try:
                return process.wait(timeout=POLL_SECONDS)
            except subprocess.TimeoutExpired:
                _show_progress(step.log, time.monotonic() - started)
    finally:
        _clear_progress()
        if process.poll() is None:  # we were interrupted: leave no training running on its own
            process.terminate()
            process.wait()


def _show_progress(log: Path, seconds: float) -> None:
    """Show the time and the log's last line in one line of the terminal."""
    if sys.stdout.isatty():
        text = f"  {seconds:4.0f} s  {' '.join(_last_lines(log, 1))}"
        print(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)


def _clear_progress() -> None:
    if sys.stdout.isatty():
        print("\r\033[K", end="", flush=True)


def _last_lines(log: Path, n: int) -> list[str]:
    """Return the last lines that are not empty."""
    with log.open(errors="replace") as lines:
        return list(deque((line.rstrip() for line in lines if line.strip()), maxlen=n))


def _describe_failure(step: Step, code: int) -> str:
    missing = [str(path) for path in step.products if not path.exists()]
    why = f"exit code {code}" if code else f"exit code 0, but it did not write {', '.join(missing)}"
    lines = "\n".join(f"  | {line}" for line in _last_lines(step.log, N_LAST_LINES))
    return f"{' '.join(step.command)}\nfailed ({why}). The end of {step.log}:\n{lines}"

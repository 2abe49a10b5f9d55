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

    def cases(self) -> dict[str, list[Path]]:
        """The products of each case, where it writes a folder of cases; nothing where it writes something else."""
        by_case: dict[str, list[Path]] = {}
        for path in self.products:
            by_case.setdefault(Path(path.name.removesuffix(".gz")).stem, []).append(path)
        return by_case if len(by_case) > 1 and len({path.parent for path in self.products}) == 1 else {}


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
    progress = _Progress(step, started)
    try:
        while True:
            try:
                code = process.wait(timeout=POLL_SECONDS)
                progress.say_new_cases()
                return code
            except subprocess.TimeoutExpired:
                progress.say_new_cases()
                progress.show()
    finally:
        _clear_progress()
        if process.poll() is None:  # we were interrupted: leave no training running on its own
            process.terminate()
            process.wait()


class _Progress:
    """How far a step is: a line for every case, and on a terminal one that stays up to date."""

    def __init__(self, step: Step, started: float) -> None:
        self.log, self.started, self.left = step.log, started, step.cases()
        self.n_cases = len(self.left)
        self.done = len(self._take_finished())  # by a run before

    def show(self) -> None:
        """Show the time and the log's last line in one line of the terminal."""
        if sys.stdout.isatty():
            text = f"  {self._seconds():4.0f} s  {' '.join(_last_lines(self.log, 1))}"
            print(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)

    def say_new_cases(self) -> None:
        """Print a line for every case whose files are all there by now."""
        for case in self._take_finished():
            self.done += 1
            _clear_progress()
            print(f"  {self.done} of {self.n_cases}: {case}, {self._seconds():.0f} s", flush=True)

    def _take_finished(self) -> list[str]:
        found = [case for case, paths in self.left.items() if all(path.exists() for path in paths)]
        for case in found:
            del self.left[case]
        return found

    def _seconds(self) -> float:
        return time.monotonic() - self.started


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

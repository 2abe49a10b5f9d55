"""nnU-Net's own commands: where they are, in which environment they run, and how a training goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import distribution
from pathlib import Path

from nnunet_archs.discovery import SEARCH, discovery_folder

AUGMENTERS = "nnUNet_n_proc_DA"  # nnU-Net's planning takes as many threads
PATIENCE = 20.0  # seconds that a command has to end


def nnunet_command(name: str) -> str:
    """The path of a console command of this environment's, nnU-Net's or ours, whatever PATH says.

    Raises:
        ValueError: if it is not there.
    """
    beside = str(distribution("nnunetv2").locate_file("bin"))  # where pip --target puts them
    folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts"), beside]
    command = shutil.which(name, path=os.pathsep.join(folders))
    if command is None:
        raise ValueError(f"{name} is not in {folders[0]}: install nnunetv2 and nnunet-archs into this environment")
    return command


def python_command(module: str, *arguments: str) -> list[str]:
    """A command that runs a module of an installed package, whatever lies in the folder that it is started from.

    `python -m` would look there first, and find a checkout's incomplete package.
    """
    run = f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    code = f"import runpy, sys; sys.path[:] = filter(None, sys.path); {run}"
    return [sys.executable, "-c", code, *arguments]


def variables(device: str) -> dict[str, str]:
    """This process' environment, in which nnU-Net also finds our trainers, and spares a CPU."""
    searched = [folder for folder in os.environ.get(SEARCH, "").split(os.pathsep) if folder]
    # ours first, once
    found = dict.fromkeys([discovery_folder(), *searched])
    environment = {**os.environ, SEARCH: os.pathsep.join(found), "PYTHONUNBUFFERED": "1"}
    environment |= for_planning()
    if device == "cpu":
        environment.setdefault("nnUNet_def_n_proc", "1")  # a worker process of nnU-Net's takes 0.9 GB
        # Threads that spin while they wait make training several times slower where others use the cores too.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment


def for_planning() -> dict[str, str]:
    """What the user's 0 becomes for all but training, for which it is meant: nnU-Net's planning would fail with it."""
    return {AUGMENTERS: "1"} if os.environ.get(AUGMENTERS) == "0" else {}


def for_training(device: str) -> dict[str, str]:
    """Variables for training alone: on a CPU, or where the user has it so, it augments in its own process."""
    return {AUGMENTERS: "0"} if device == "cpu" or os.environ.get(AUGMENTERS) == "0" else {}


def without_workers(device: str) -> list[str]:
    """What `nnUNetv2_predict` is given on a CPU: there, workers take more time than they save."""
    return ["-npp", "0", "-nps", "0"] if device == "cpu" else []


def check_step_size(step_size: float | None) -> None:
    """Check a sliding window's step, where one is given.

    Raises:
        ValueError: if nnU-Net cannot take it.
    """
    if step_size is not None and not 0 < step_size <= 1:
        raise ValueError(f"--step-size {step_size:g}: give a share of the patch, above 0 and up to 1")


def going_on(fold: Path) -> tuple[str, ...]:
    """What `nnUNetv2_train` is given to go on from what a fold's folder holds."""
    if (fold / "checkpoint_final.pth").exists():
        return ("--val",)
    if any((fold / f"checkpoint_{which}.pth").exists() for which in ("latest", "best")):
        return ("--c",)
    return ()


def is_trained(fold: Path) -> bool:
    """Whether a fold is trained and validated."""
    return (fold / "checkpoint_final.pth").exists() and is_evaluated(fold / "validation")


def is_evaluated(predictions: Path) -> bool:
    """Whether a folder's predictions are complete: nnU-Net's summary is written last, and not at once."""
    summary = predictions / "summary.json"
    return summary.exists() and summary.read_bytes().rstrip().endswith(b"}")


def begin(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Begin a command in a process group of its own, its output at the end of a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it has begun: nnU-Net's workers would wait for it for ever."""
    send(process, signal.SIGTERM)
    last = time.monotonic() + PATIENCE
    # not wait(): a signal handler that calls this may have interrupted one, which holds a lock
    while process.poll() is None and time.monotonic() < last:
        time.sleep(0.1)
    send(process, signal.SIGKILL)


def send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a process group, where something is left of it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def last_line(log: Path) -> str:
    """The last line of a log that says something, without what `nnunet-archs` puts before an error."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("nnunet-archs: error: ") if lines else "it printed nothing"


@contextmanager
def unwound_by_sigterm() -> Iterator[None]:
    """Within it SIGTERM, by which `timeout` and job schedulers end us, unwinds: what runs for us is ended too.

    No longer than needed: a process forked meanwhile would have the handler too, and may not notice SIGTERM then.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""A process of its own for measurements: what one breaks there, or does not end, harms none of the others."""

from __future__ import annotations

import gc
import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType

import torch

from .parts import Found

PRELOADED = ("memory", "times", "fusions", "processes")  # imported once, however many workers are begun


class Worker:
    """Runs calls one after the other in another process, a new one after one that crashed or took too long.

    What they print, and the tracebacks of their errors, go to a log.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        # each process is a copy of one that has imported all and computed nothing
        self.context = get_context("forkserver")
        self.context.set_forkserver_preload([f"{__package__}.{name}" for name in PRELOADED])
        self.process: BaseProcess | None = None
        self.pipe: Connection | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def run(self, take: Callable[[], Found], seconds: float) -> Found:
        """What a call gives, as `result`; else an `error` in one line, `cut` where it did not end in time."""
        if self.process is None or not self.process.is_alive():
            self.start()
        assert self.pipe is not None
        self.pipe.send(take)
        if not self.pipe.poll(seconds):
            self.stop()
            return {"error": f"not finished in {seconds:.0f} s", "cut": True}
        try:
            answer: Found = self.pipe.recv()
        except (EOFError, ConnectionError):
            return {"error": f"its process died, {self.stop()}"}
        if answer.pop("broken", False):
            self.stop()
        return answer

    def start(self) -> None:
        """Begin a process."""
        self.stop()
        self.pipe, theirs = self.context.Pipe()
        self.process = self.context.Process(target=serve, args=(theirs, str(self.log)))
        self.process.start()
        theirs.close()

    def stop(self) -> str:
        """End the process and all that it began; how it ended."""
        if self.process is None or self.pipe is None:
            return "which had not begun"
        self.pipe.close()
        self.process.join(1)
        how = f"exit code {self.process.exitcode}"
        assert self.process.pid is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()  # it may not have come to lead its group
        self.process.join()
        self.process = self.pipe = None
        return how


def serve(pipe: Connection, log: str) -> None:
    """Answer calls until the other end closes."""
    os.setsid()  # so that what a call begins can be ended with it
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.backends.cudnn.benchmark = True  # as nnU-Net trains
    while True:
        try:
            take = pipe.recv()
        except (EOFError, ConnectionError):
            return
        pipe.send(answer_of(take))
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def answer_of(take: Callable[[], Found]) -> Found:
    """What a call gives, or its error; `broken` after one that may have left the process unusable, as CUDA's can."""
    try:
        return {"result": take()}
    except torch.cuda.OutOfMemoryError:
        return {"error": "out of memory"}
    except Exception as error:
        traceback.print_exc()
        first = next(iter(str(error).strip().splitlines()), "")
        return {"error": f"{type(error).__name__}: {first}", "broken": not isinstance(error, ValueError)}

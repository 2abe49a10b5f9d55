"""Locks that a process holds as long as it lives, however it ends, and who holds them.

filelock's: the system frees them with the process, and worker processes that outlive a killed training do not keep
them. They work across machines where the file system has locks; where it has none, nothing stands in for them, for what
filelock offers there would stay when its holder is killed.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from nnunet_archs.files import write_whole

PROBE_SECONDS = 0.05  # two that look at a free lock at once must not take each other for its holder
ACQUIRE_SECONDS = 1.0  # whoever looks at it holds it for a moment
TELL_SECONDS = 60.0  # between two lines about a lock that is waited for


def acquire(lock: Path) -> FileLock | None:
    """A lock that this process holds until it ends or releases it; None where another has it.

    Raises:
        ValueError: if it cannot be locked.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = _lock(lock, ACQUIRE_SECONDS)
    if held is not None:
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        who = {"host": platform.node(), "pid": os.getpid(), "since": since}
        write_whole(_holder(lock), json.dumps(who))
    return held


@contextmanager
def holding(lock: Path, what: str) -> Iterator[None]:
    """Wait for a lock, and hold it; say what waits for whom, at once and then every minute.

    Raises:
        ValueError: if it cannot be locked.
    """
    told = -TELL_SECONDS
    while (held := acquire(lock)) is None:
        if time.monotonic() - told >= TELL_SECONDS:
            print(f"{what} waits for {describe(lock)}", flush=True)
            told = time.monotonic()
    try:
        yield
    finally:
        held.release()


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock.

    Raises:
        ValueError: if this cannot be found out.
    """
    if not lock.exists():
        return False
    probe = _lock(lock, PROBE_SECONDS)
    if probe is not None:
        probe.release()
    return probe is None


def describe(lock: Path) -> str:
    """A lock that is held: the file, whose process holds it, and since when."""
    try:
        who = json.loads(_holder(lock).read_text(encoding="utf-8"))
        return f"{lock}, held by process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError):
        return f"{lock}, held by an unknown process"


def held_since(lock: Path) -> float | None:
    """When a lock was taken last; None where this is not known."""
    try:
        return datetime.fromisoformat(json.loads(_holder(lock).read_text(encoding="utf-8"))["since"]).timestamp()
    except (OSError, ValueError, KeyError):
        return None


def _holder(lock: Path) -> Path:
    """Where it is written who held a lock last: not in the lock's own file, which filelock empties."""
    return lock.with_name(f"{lock.name}.holder")


def _lock(lock: Path, seconds: float) -> FileLock | None:
    made = FileLock(lock, fallback_to_soft=False, poll_interval=PROBE_SECONDS / 2)
    try:
        made.acquire(timeout=seconds)
    except Timeout:
        return None
    except OSError as error:
        what = "give the right to write there, or move it to a file system with locks"
        raise ValueError(f"{lock} cannot be locked ({error}): {what}") from error
    return made

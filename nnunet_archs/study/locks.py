"""Locks that a process holds as long as it lives, however it ends.

Record locks, not flock: worker processes that outlive a killed training do not inherit them. They work across machines
where the file system has locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TRIES = 5  # a moment later a lock may be free: whoever looks at it holds it as long
HELD = (errno.EACCES, errno.EAGAIN)


def acquire(lock: Path) -> int | None:
    """A file descriptor that holds a lock of this process; None where another has it.

    Raises:
        ValueError: if the file system has no locks.
    """
    descriptor = _open(lock)
    for _ in range(TRIES):
        if _lock(descriptor, lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return descriptor
        time.sleep(0.2)
    os.close(descriptor)
    return None


@contextmanager
def holding(lock: Path) -> Iterator[None]:
    """Wait for a lock, and hold it.

    Raises:
        ValueError: if the file system has no locks.
    """
    descriptor = _open(lock)
    try:
        _lock(descriptor, lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_held(lock: Path) -> bool:
    """Whether another process holds a lock.

    Raises:
        ValueError: if the file system has no locks.
    """
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor, lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def _open(lock: Path) -> int:
    lock.parent.mkdir(parents=True, exist_ok=True)
    return os.open(lock, os.O_RDWR | os.O_CREAT)


def _lock(descriptor: int, lock: Path, how: int) -> bool:
    try:
        fcntl.lockf(descriptor, how)
    except OSError as error:
        if error.errno in HELD:
            return False
        raise ValueError(f"{lock} cannot be locked ({error}): move it to a file system with locks") from error
    return True

"""nnU-Net's training of a fold that no other process trains.

`python -m nnunet_archs.study.train LOCK PLACE ...`, with the arguments of `nnUNetv2_train`; PLACE is noted in the lock.
The process that trains holds the lock, so that it is free when that process ends, however it ends, and held as long as
a training goes on whose study was killed.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

BUSY = 75  # exit code: another process has the lock
TRIES = 5


def main() -> int:
    """Train under the lock, in this process."""
    lock, place, *arguments = sys.argv[1:]
    held = acquire(Path(lock))
    if held is None:
        print(f"another process trains this: it holds {lock}", file=sys.stderr)
        return BUSY
    os.ftruncate(held, 0)
    os.write(held, place.encode())
    from nnunetv2.run.run_training import run_training_entry

    sys.argv = ["nnUNetv2_train", *arguments]
    run_training_entry()
    return 0


def acquire(lock: Path) -> int | None:
    """A file descriptor that holds a lock of this process alone; None where another has it.

    A record lock, not flock: worker processes that outlive a killed training do not inherit it, and it holds on
    network file systems.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    for _ in range(TRIES):
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except OSError:  # a moment later it may be free: whoever looks at it holds it as long
            time.sleep(0.2)
    os.close(descriptor)
    return None


def holder(lock: Path) -> str | None:
    """The place where a process holds a lock; None where none does."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.read(descriptor, 1000).decode()
    finally:
        os.close(descriptor)
    return None


if __name__ == "__main__":
    sys.exit(main())

"""nnU-Net's training of a fold that no other process trains.

`python -m nnunet_archs.study.train FOLD_FOLDER LOCK [LOCK ...] -- ...`, with `nnUNetv2_train`'s arguments at the end.
The process that trains holds the locks, so that they are free when it ends, however it ends, and held as long as a
training goes on whose study was killed.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from nnunet_archs.nnunet.commands import going_on

from .locks import acquire, describe

BUSY = 75  # exit code: another process has a lock


def run_alone(run: Callable[[Path, list[str]], None]) -> NoReturn:
    """Run what fills a folder, by the folder and the arguments after the locks, while this process holds these."""
    divider = sys.argv.index("--")
    folder, *locks = map(Path, sys.argv[1:divider])
    held = []
    try:
        for lock in locks:
            held.append(acquire(lock))
            if held[-1] is None:
                print(f"waits for {describe(lock)}", file=sys.stderr)
                sys.exit(BUSY)
        run(folder, sys.argv[divider + 1 :])
    except ValueError as error:
        sys.exit(str(error))
    sys.exit()


def train(folder: Path, arguments: list[str]) -> None:
    """Train in this process, from the newest checkpoint that is whole."""
    set_aside_broken(folder)
    from nnunetv2.run.run_training import run_training_entry

    sys.argv = ["nnUNetv2_train", *arguments, *going_on(folder)]
    print(*sys.argv, flush=True)
    run_training_entry()


def set_aside_broken(folder: Path) -> None:
    """Rename checkpoints that were cut off while they were written: nnU-Net would end at the first of them."""
    for file in folder.glob("checkpoint_*.pth"):
        if not zipfile.is_zipfile(file):
            print(f"{file} is not whole, and is set aside", file=sys.stderr)
            file.rename(file.with_suffix(".broken"))


if __name__ == "__main__":
    run_alone(train)

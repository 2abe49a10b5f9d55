"""Files and folders that are there whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(file: Path, content: str) -> None:
    """Write a file beside its place, and move it there once it is complete."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        unfinished.write_text(content, encoding="utf-8")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A folder that gets its name when all is in it; whatever ends that before leaves nothing.

    Raises:
        ValueError: if it cannot be made.
    """
    folder = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        folder.mkdir()
    except OSError as error:
        raise ValueError(f"{target} cannot be written ({error.strerror}); make {target.parent} writable") from error
    try:
        yield folder
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def what_is_wrong_with_writing(folder: str) -> str | None:
    """Why a trial file cannot be written; None where it can."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".nnunet-archs-") as file:
            file.write(b"trial")
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None

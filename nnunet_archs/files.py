"""Files and folders that are there whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
    except FileNotFoundError as error:
        raise ValueError(f"{target} cannot be written: there is no folder {target.parent}; make it") from error
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


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file's object.

    Raises:
        ValueError: if it is none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no JSON object; copy it again")
    return content

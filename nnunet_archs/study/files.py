"""Files that are there whole or not at all."""

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

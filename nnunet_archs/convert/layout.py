"""A data set as those who made it give it: what the folder looks like, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_archs.lengths import Length

from .pixels import Window
from .raw_data import Item
from .splits import Split


@dataclass(frozen=True)
class Options:
    """What the user may ask of a layout."""

    size: int | None = None  # of pictures, in pixels
    window: Window | None = None  # of CT
    annotations: Path | None = None  # of readers, where they are not beside the images
    instances: Length | None = None  # the width of the borders, where objects are told apart


@dataclass(frozen=True)
class Layout:
    """An official layout."""

    name: str  # as --layout has it
    title: str
    form: str  # what the folder holds
    marks: tuple[str, ...]  # patterns of paths: one of them is there in such folders, and in no others
    source: str
    licence: str
    channels: tuple[str, ...]  # names, by which nnU-Net normalises
    labels: Mapping[str, int | list[int]]
    find: Callable[[Path, Options], Sequence[Item]]  # checks the structure
    splits: Mapping[str, Split] = field(default_factory=dict)  # the first is taken unless another is asked for
    ending: str = ".png"
    is_flat: bool = True
    takes: tuple[str, ...] = ()  # fields of `Options`
    in_files: Mapping[int, int] | None = None  # values in the files -> labels; None: they are labels already
    more: Mapping[str, Any] = field(default_factory=dict)  # further keys of dataset.json
    notes: Callable[[Options], tuple[str, ...]] = lambda options: ()


def listed(folder: Path, pattern: str) -> list[Path]:
    """Paths in order, without the hidden files that archives carry."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def found(folder: Path, pattern: str, form: str) -> list[Path]:
    """The paths of a pattern, which must be some. Raises ValueError where there are none."""
    if paths := listed(folder, pattern):
        return paths
    raise ValueError(f"{folder} holds no {form}; give the unpacked archive's folder, or name another --layout")


def there(file: Path, why: Path) -> Path:
    """A file that must be there because another is. Raises ValueError where it is not."""
    if not file.is_file():
        raise ValueError(f"{file} is missing, which belongs to {why}; unpack the archive again")
    return file

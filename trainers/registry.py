"""Which trainers there are: one answer for ours, other packages', the user's own and nnU-Net's.

A package declares its trainers as entry points of the group `nnunet_archs.trainers`, as this one does. A trainer in a
folder of `nnUNet_extTrainer` is found without that. What is asked for by name alone is answered without torch.
"""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_archs.discovery import SEARCH, discovery_folder

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from .base import PaperTrainer

GROUP = "nnunet_archs.trainers"


class UnknownTrainer(ValueError):
    """No trainer has this name."""


def known() -> list[str]:
    """Names of all trainers that take options: those that packages declare, then those in the user's folders."""
    return list(dict.fromkeys([*declared(), *in_folders()]))


def resolve(name: str) -> type[nnUNetTrainer]:
    """The trainer class of a name with its options, always the same object; it finds nnU-Net's own trainers, too.

    Raises:
        UnknownTrainer: if no trainer has this name.
        ValueError: for an option that is unknown, given twice, or at odds with another, and for a trainer that cannot
            be imported.
    """
    return made(name) or search(name, os.environ.get(SEARCH, ""))


def resolve_paper(name: str) -> type[PaperTrainer]:
    """The trainer of a name, one that inherits from `PaperTrainer`.

    Raises:
        ValueError: as `resolve`, and for a trainer that does not.
    """
    from .base import PaperTrainer

    trainer = resolve(name)
    if not issubclass(trainer, PaperTrainer):
        raise ValueError(
            f"{name} is not a trainer of nnunet-archs, nor inherits from its PaperTrainer, which tells what a network "
            "needs; nnunet-archs list prints those that do"
        )
    return trainer


def made(name: str) -> type[Any] | None:
    """The trainer of a name that nnU-Net does not find on its own; None for all others.

    Raises:
        ValueError: as `resolve`.
    """
    base, words = split(name, declared())
    if base:
        return with_words(load(declared()[base]), words)
    base, words = split(name, in_folders())
    if not words:
        return None
    from .base import PaperTrainer

    trainer = search(base, os.environ.get(SEARCH, ""))
    return with_words(trainer, words) if issubclass(trainer, PaperTrainer) else None


def with_words(trainer: type[PaperTrainer], words: tuple[str, ...]) -> type[PaperTrainer]:
    """A trainer with options."""
    if not words:
        return trainer
    from .names import with_options

    return with_options(trainer, words)  # type: ignore[arg-type]  # mypy: the hash of an instance


def split(name: str, trainers: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The trainer that a name begins with, the longest of those that fit, and the words after it."""
    fitting = [trainer for trainer in trainers if name == trainer or name.startswith(f"{trainer}_")]
    base = max(fitting, key=len, default="")
    return base, tuple(name[len(base) + 1 :].split("_")) if base and name != base else ()


@cache
def declared() -> dict[str, EntryPoint]:
    """The trainers that installed packages declare, by name.

    Raises:
        ValueError: if two packages declare different trainers of one name.
    """
    found: dict[str, EntryPoint] = {}
    # not importlib.metadata's entry_points(): of a package that is found twice, it takes what an old build left in the
    # checkout that one stands in, and not what is installed, which comes later
    for entry in (entry for package in distributions() for entry in package.entry_points if entry.group == GROUP):
        other = found.get(entry.name, entry)
        if other.value != entry.value and package_of(other) != package_of(entry):
            raise ValueError(
                f"{entry.name} is declared by {package_of(other)} and by {package_of(entry)}; uninstall one of them"
            )
        found[entry.name] = entry
    return found


def package_of(entry: EntryPoint) -> str:
    """Name of the distribution that declares an entry point."""
    return entry.dist.name if entry.dist else "a package without a name"


def load(entry: EntryPoint) -> type[Any]:
    """The class that an entry point declares.

    Raises:
        ValueError: if it cannot be imported.
    """
    try:
        trainer: type[Any] = entry.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{entry.name} of {package_of(entry)} cannot be imported ({error}); fix or uninstall it"
        ) from error
    return trainer


def paper_trainers() -> Iterator[type[PaperTrainer]]:
    """All trainers that take options, without any; those that cannot be imported are warned of and passed over."""
    from .base import PaperTrainer

    for name in known():
        try:
            trainer = resolve(name)
        except ValueError as error:
            warnings.warn(f"{name} is left out: {error}", stacklevel=2)
            continue
        if issubclass(trainer, PaperTrainer):
            yield trainer


def declaration(name: str) -> EntryPoint | None:
    """What declares the trainer of a name with its options; None where no package does."""
    base, _ = split(name, declared())
    return declared()[base] if base else None


@cache
def search(name: str, folders: str) -> type[nnUNetTrainer]:
    """The trainer that nnU-Net finds in its own package or in `folders`, the value of `nnUNet_extTrainer`.

    Raises:
        UnknownTrainer: if there is none.
        ValueError: if a module in one of the folders cannot be imported.
    """
    from nnunet_archs.nnunet.find import find_trainer

    try:
        return find_trainer(name)
    except LookupError as error:
        lower = {trainer.lower(): trainer for trainer in known()}
        nearest = get_close_matches(name.split("_")[0].lower(), lower, n=1)
        guess = f"; did you mean {lower[nearest[0]]}?" if nearest else ";"
        raise UnknownTrainer(
            f"{name}: there is no such trainer{guess} nnunet-archs list prints all of them, and nnU-Net looks into its "
            f"own package and into {SEARCH}={folders or '(not set)'}"
        ) from error


def in_folders() -> list[str]:
    """Names of the classes called a trainer in the user's folders, whose modules are read and not imported.

    Raises:
        ValueError: for a module that is no Python.
    """
    found = []
    for folder in os.environ.get(SEARCH, "").split(os.pathsep):
        if folder and os.path.isdir(folder) and os.path.abspath(folder) != discovery_folder():
            for module in modules(Path(folder)):
                found += [name for name in classes(module) if "Trainer" in name and not name.startswith("_")]
    return found


def modules(folder: Path) -> Iterator[Path]:
    """The modules of a folder, and of the packages in it, which nnU-Net imports when it searches."""
    yield from sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")
    for package in sorted(folder.glob("*/__init__.py")):
        yield from modules(package.parent)


def classes(module: Path) -> list[str]:
    """Names of the classes that a module defines.

    Raises:
        ValueError: if it is no Python.
    """
    try:
        tree = ast.parse(module.read_bytes())
    except (SyntaxError, OSError) as error:
        raise ValueError(f"{module} cannot be read ({error}); fix it: nnU-Net imports it at every search") from error
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]

"""Load a network that was exported, from its folder or from the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .facts import is_as_exported, read_facts
from .weights import FORMATS, Run


@dataclass(frozen=True)
class ExportedModel:
    """The folds of a model, and what model.json says of it."""

    folder: Path
    facts: Mapping[str, Any]
    folds: Mapping[str, Run]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Logits `(B, num_classes, *patch)` of preprocessed patches `(B, C, *patch)`: the mean over the folds."""
        return torch.stack([run(x) for run in self.folds.values()]).mean(0)


def from_pretrained(name: str | Path, *, revision: str | None = None, cache_dir: Path | None = None) -> ExportedModel:
    """The model in a folder that `nnunet-archs export` wrote, or in such a folder on the Hugging Face Hub.

    Args:
        name: the folder, or `USER/MODEL` on the Hub.
        revision: the branch, tag or commit on the Hub; by default its main branch.
        cache_dir: where it is kept, once downloaded; by default where huggingface_hub keeps all.

    Raises:
        ValueError: if there is no such model, a file is missing or another than was exported, or a library is missing.
    """
    folder = Path(name) if Path(name).is_dir() else download(str(name), revision, cache_dir)
    facts = read_facts(folder)
    written = FORMATS[facts["weights"]["format"]]
    written.check_installed()
    weights = {fold: checked(folder / of["file"], of["sha256"]) for fold, of in facts["weights"]["folds"].items()}
    return ExportedModel(folder, facts, {fold: written.load(path, facts["network"]) for fold, path in weights.items()})


def download(name: str, revision: str | None, cache_dir: Path | None) -> Path:
    """The folder of a model of the Hub's, as huggingface_hub keeps it.

    Raises:
        ValueError: if it cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, cache_dir=cache_dir))
    # no such name, no such model or revision, no right to it, no network
    except (ValueError, OSError) as error:
        first = (str(error).splitlines() or [repr(error)])[0]
        raise ValueError(
            f"{name} is no folder here, and the Hugging Face Hub gives no model of that name ({first}); give a folder "
            "that nnunet-archs export wrote, or USER/MODEL"
        ) from error


def checked(file: Path, sha256: str) -> Path:
    """A file that is as it was exported.

    Raises:
        ValueError: if it is not.
    """
    if not is_as_exported(file, sha256):
        raise ValueError(f"{file} is missing, or not as model.json has it; copy or download the folder again")
    return file

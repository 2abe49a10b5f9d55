"""Write a trained network, and all that inference needs, into a folder, and compare it with its checkpoint there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from nnunetv2.paths import nnUNet_preprocessed
from torch import Tensor

from nnunet_archs.files import atomic_folder
from nnunet_archs.nnunet.datasets import open_preprocessed

from . import card
from .facts import MODEL_JSON, model_facts
from .trained import FILES, TrainedModel, open_folder, open_model
from .weights import FORMATS, Format

# the most that a logit may differ from the checkpoint's, times the largest where that is above 1, as rounding grows
LIMIT = 1e-4
N_PATCHES = 3


@dataclass(frozen=True)
class Patches:
    """Inputs of the network `(1, C, *patch)`, and where they are from."""

    inputs: list[Tensor]
    source: str


def export(folder: Path, to: str, wanted: list[str] | None, target: Path) -> dict[str, Any]:
    """Export the folds of a model's folder; return what model.json says.

    Raises:
        ValueError: if that is not possible, or an exported network differs from its checkpoint.
    """
    target, written = Path(os.path.abspath(target)), FORMATS[to]
    written.check_installed()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty folder; move it away, or give another with -o")
    source = open_folder(folder)
    folds = source.choose(wanted)
    model = open_model(source, source.load(folds[0]))
    if not getattr(getattr(model.trainer, "network_class", None), "is_graph", True):
        raise ValueError(
            f"{model.trainer.__name__} cannot be exported, for what it computes depends on the objects that it finds; "
            "predict with nnUNetv2_predict, or make a container with nnunet-archs submit"
        )
    facts = model_facts(model)
    patches = find_patches(model)
    with atomic_folder(target) as unfinished:
        for file in FILES:
            shutil.copyfile(source.folder / file, unfinished / file)
        facts["weights"] = {
            "format": to,
            "limit": LIMIT,
            "compared_on": patches.source,
            "folds": {fold: write_fold(model, fold, written, facts["network"], patches, unfinished) for fold in folds},
        }
        (unfinished / MODEL_JSON).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        (unfinished / card.FILE).write_text(card.model_card(source, facts), encoding="utf-8")
    return facts


@torch.no_grad()
def write_fold(
    model: TrainedModel,
    fold: str,
    written: Format,
    network_facts: dict[str, Any],
    patches: Patches,
    folder: Path,
) -> dict[str, Any]:
    """Write a fold's weights and compare their logits with the checkpoint's.

    Raises:
        ValueError: if they differ by more than the limit.
    """
    network = model.with_weights(fold)
    expected = [network(x) for x in patches.inputs]
    content = written.write(network, patches.inputs[0])
    file = folder / f"fold_{fold}{written.suffix}"
    file.write_bytes(content)
    # as a reader of model.json has it
    run = written.load(file, json.loads(json.dumps(network_facts)))
    difference = largest_difference([run(x) for x in patches.inputs], expected)
    largest = max(float(y.abs().max()) for y in expected)
    if not difference <= LIMIT * max(1.0, largest):  # a NaN is none
        raise ValueError(
            f"fold {fold}: a logit of the exported network differs from the checkpoint's by {difference:.1e}, more "
            f"than {LIMIT:.0e} at logits up to {largest:.1f}; nothing was kept: try another format with --to"
        )
    return {
        "file": file.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "largest_difference": difference,
        "largest_logit": largest,
    }


def largest_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest absolute difference of any two values."""
    return float(torch.stack([(y - z).abs().max() for y, z in zip(found, expected, strict=True)]).max())


def find_patches(model: TrainedModel) -> Patches:
    """Patches of preprocessed cases, where these are there, else random ones."""
    cases = preprocessed_cases(model)
    if cases:
        return Patches([middle_patch(case, model) for case in cases.values()], f"patches of {', '.join(cases)}")
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(model.input_shape, generator=generator) for _ in range(N_PATCHES)]
    return Patches(inputs, f"{N_PATCHES} random patches (no preprocessed cases)")


def preprocessed_cases(model: TrainedModel) -> dict[str, np.ndarray]:
    """Some preprocessed images `(C, *spatial)`; none for a cascade, whose network sees predictions too."""
    folder = Path(nnUNet_preprocessed.get() or "", model.plans.dataset_name, model.configuration.data_identifier)
    if not nnUNet_preprocessed.get() or model.configuration.previous_stage_name or not any(folder.glob("*.pkl")):
        return {}
    dataset = open_preprocessed(folder)
    names = sorted(dataset.identifiers)
    chosen = names[:: -(-len(names) // N_PATCHES)]
    return {name: np.asarray(dataset.load_case(name)[0][:]) for name in chosen}


def middle_patch(image: np.ndarray, model: TrainedModel) -> Tensor:
    """The middle `(1, C, *patch)` of an image `(C, *spatial)`, with zeros around one that is smaller."""
    x = torch.from_numpy(image)
    patch = model.configuration.patch_size
    if len(patch) == 2:
        x = x[:, x.shape[1] // 2]
    missing = [max(0, n - have) for n, have in zip(patch, x.shape[1:], strict=True)]
    x = F.pad(x, [side for m in reversed(missing) for side in (m // 2, m - m // 2)])
    for axis, n in enumerate(patch, start=1):
        x = x.narrow(axis, (x.shape[axis] - n) // 2, n)
    return x[None].float().contiguous()

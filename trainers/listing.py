"""The table of trainers: paper, network, parameters."""

from __future__ import annotations

from typing import Any

from nnunet_archs.fidelity.papers import PAPERS
from nnunet_archs.fidelity.systems import SYSTEMS

from .base import PaperTrainer
from .registry import paper_trainers

COLUMNS = (
    "trainer",
    "package",
    "network",
    "paper",
    "source",
    "configuration",
    "dimensions",
    "features",
    "built_parameters",
    "built",
    "printed",
    "note",
)


def listing() -> list[dict[str, Any]]:
    """A row for every system of the papers' tables, and one for every trainer that none of them names.

    Sizes are those built here and printed by the paper, counted for one class, supervision apart.
    """
    rows = [row for trainer in paper_trainers() for row in _rows(trainer)]
    rows += [_system_row(system) for system in SYSTEMS]
    papers = [paper.name for paper in PAPERS]
    return sorted(rows, key=lambda row: papers.index(row["paper"]) if row["paper"] in papers else len(papers))


def _rows(trainer: type[PaperTrainer]) -> list[dict[str, Any]]:
    name, network = trainer.__name__, trainer.network_class

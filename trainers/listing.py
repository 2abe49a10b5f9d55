"""The table of trainers: paper, network, parameters."""

from __future__ import annotations

from typing import Any

from nnunet_archs.fidelity.papers import PAPERS
from nnunet_archs.fidelity.published import PUBLISHED, Published
from nnunet_archs.fidelity.systems import SYSTEMS, System
from nnunet_archs.tables import aligned

from .base import PaperTrainer
from .names import OPTIONS, recipe_options
from .options import Option
from .registry import declaration, package_of, paper_trainers, resolve_paper

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
    chosen = [option.value for option in trainer.options if option.attribute == "network_class"]
    rows = [_published_row(name, published) for published in PUBLISHED if published.network in (network, *chosen)]
    named = any(system.trainer == name for system in SYSTEMS)
    return rows or ([] if named else [_row(name, network=network.__name__)])


def _published_row(trainer: str, published: Published) -> dict[str, Any]:
    note = published.note
    try:
        parameters, built = published.built_parameters(), published.built()
    except ValueError as error:  # a package that it is made of is not installed
        parameters, built, note = None, "", str(error)
    return _row(
        trainer + published.words,
        network=published.network.__name__,
        paper=published.paper.name,
        source=published.source,
        configuration=published.name,
        dimensions=published.dim,
        features=list(published.features),
        built_parameters=parameters,
        built=built,
        printed=published.printed,
        note=note,
    )


def _system_row(system: System) -> dict[str, Any]:
    network = resolve_paper(system.trainer).network_class.__name__ if system.trainer else None
    found = {"paper": system.paper.name, "source": system.source, "configuration": system.name, "note": system.note}
    return _row(system.trainer, network=network, **found)


def _row(trainer: str, **known: Any) -> dict[str, Any]:
    """A row of the table, what is not known as None."""
    entry = declaration(trainer) if trainer else None
    source = package_of(entry) if entry else resolve_paper(trainer).__module__ if trainer else None
    return {**dict.fromkeys(COLUMNS), "trainer": trainer or None, "package": source, **known}


def text(rows: list[dict[str, Any]]) -> str:
    """The rows as text, and the options of the trainers' names."""
    header = ("trainer", "paper", "where", "configuration", "parameters", "built", "printed", "")
    lines = aligned([header, *(_cells(row) for row in rows)])
    cells = [(f"  _{option.spelling}", option.meaning, networks) for option, networks in every_option().items()]
    return "\n".join([*lines, "", "options, appended to a trainer's name in any order:", *aligned(cells)])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    parameters, dimensions = row["built_parameters"], row["dimensions"]
    named = row["configuration"] or row["network"]
    return (
        row["trainer"] or "none",
        row["paper"] or row["package"],
        row["source"] or "",
        f"{named} ({dimensions}D)" if dimensions else named,
        f"{parameters:,}" if parameters else "by the plan" if row["trainer"] else "",
        row["built"] or "",
        row["printed"] or "",
        row["note"] or "",
    )


def every_option() -> dict[Option, str]:
    """Every option, and the networks whose trainers know it, where not all do."""
    trainers = list(paper_trainers())
    general = {option: "all but nnU-Net's own" if option.of_own_networks else "" for option in OPTIONS}
    own = {trainer: (*recipe_options(trainer.recipe), *trainer.options) for trainer in trainers}
    names = {
        option: [trainer.__name__.removesuffix("Trainer") for trainer in trainers if option in own[trainer]]
        for option in dict.fromkeys(option for options in own.values() for option in options)
    }
    return general | {option: ", ".join(known) for option, known in names.items()}

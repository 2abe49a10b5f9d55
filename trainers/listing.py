"""The table of trainers: paper, network, parameters."""

from __future__ import annotations

from typing import Any

from nnunet_archs.fidelity.published import PUBLISHED, Published
from nnunet_archs.tables import aligned

from .base import PaperTrainer
from .names import OPTIONS, recipe_options
from .options import Option
from .registry import declaration, package_of, paper_trainers


def listing() -> list[dict[str, Any]]:
    """The trainers with the sizes built here and printed by the paper, counted for one class, supervision apart."""
    rows = [row for trainer in paper_trainers() for row in _rows(trainer)]
    papers = list(dict.fromkeys(published.paper.name for published in PUBLISHED))
    return sorted(rows, key=lambda row: papers.index(row["paper"]) if row["paper"] in papers else len(papers))


def _rows(trainer: type[PaperTrainer]) -> list[dict[str, Any]]:
    name, network = trainer.__name__, trainer.network_class
    entry = declaration(name)
    source = package_of(entry) if entry else trainer.__module__
    rows = [_row(name, source, published) for published in PUBLISHED if published.network is network]
    empty = dict.fromkeys(_row(name, source, PUBLISHED[0]))
    return rows or [{**empty, "trainer": name, "package": source, "network": network.__name__}]


def _row(trainer: str, package: str, published: Published) -> dict[str, Any]:
    return {
        "trainer": trainer + published.words,
        "package": package,
        "network": published.network.__name__,
        "paper": published.paper.name,
        "source": published.source,
        "configuration": published.name,
        "dimensions": published.dim,
        "features": list(published.features),
        "built_parameters": published.built_parameters(),
        "built": published.built(),
        "printed": published.printed,
        "note": published.note,
    }


def text(rows: list[dict[str, Any]]) -> str:
    """The rows as text, and the options of the trainers' names."""
    header = ("trainer", "paper", "configuration", "parameters", "built", "printed", "")
    lines = aligned([header, *(_cells(row) for row in rows)])
    options = aligned([(f"  _{option.spelling}", option.meaning, networks) for option, networks in _options().items()])
    return "\n".join([*lines, "", "options, appended to a trainer's name in any order:", *options])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    parameters = row["built_parameters"]
    return (
        row["trainer"],
        row["paper"] or row["package"],
        f"{row['configuration']} ({row['dimensions']}D)" if row["configuration"] else row["network"],
        f"{parameters:,}" if parameters else "by the plan",
        row["built"] or "",
        row["printed"] or "",
        row["note"] or "",
    )


def _options() -> dict[Option, str]:
    """Every option, and the networks whose trainers know it, where not all do."""
    trainers = list(paper_trainers())
    general = {option: "all but nnU-Net's own" if option.of_own_networks else "" for option in OPTIONS}
    own = {trainer: (*recipe_options(trainer.recipe), *trainer.options) for trainer in trainers}
    names = {
        option: [trainer.__name__.removesuffix("Trainer") for trainer in trainers if option in own[trainer]]
        for option in dict.fromkeys(option for options in own.values() for option in options)
    }
    return general | {option: ", ".join(known) for option, known in names.items()}

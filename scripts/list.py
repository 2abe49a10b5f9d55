"""List the trainers: paper, network, parameters."""

from __future__ import annotations

import argparse
import json
from typing import Any

from nnunet_archs.fidelity.published import PUBLISHED, Published
from nnunet_archs.trainers.names import OPTIONS, TRAINERS
from nnunet_archs.trainers.options import Option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")


def run(args: argparse.Namespace) -> int:
    """Print a row for every configuration that a paper prints, and one for every trainer that has none."""
    rows = listing()
    print(json.dumps(rows, indent=2) if args.json else text(rows))
    return 0


def listing() -> list[dict[str, Any]]:
    """The trainers with the sizes built here and printed by the paper, counted for one class, supervision apart."""
    return [row for name, trainer in TRAINERS.items() for row in _rows(name, trainer.network_class)]


def _rows(trainer: str, network: type) -> list[dict[str, Any]]:
    rows = [_row(trainer, published) for published in PUBLISHED if published.network is network]
    return rows or [{**dict.fromkeys(_row(trainer, PUBLISHED[0])), "trainer": trainer, "network": network.__name__}]


def _row(trainer: str, published: Published) -> dict[str, Any]:
    return {
        "trainer": trainer + published.words,
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


def aligned(cells: list[tuple[str, ...]]) -> list[str]:
    """Lines of a table, its columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    parameters = row["built_parameters"]
    return (
        row["trainer"],
        row["paper"] or "nnU-Net",
        f"{row['configuration']} ({row['dimensions']}D)" if row["configuration"] else row["network"],
        f"{parameters:,}" if parameters else "by the plan",
        row["built"] or "",
        row["printed"] or "",
        row["note"] or "",
    )


def _options() -> dict[Option, str]:
    """Every option, and the networks whose trainers know it, where not all do."""
    own = dict.fromkeys(option for trainer in TRAINERS.values() for option in trainer.options)
    general = {option: "all but nnU-Net's own" if option.of_own_networks else "" for option in OPTIONS}
    return general | {
        option: ", ".join(name.removesuffix("Trainer") for name, known in TRAINERS.items() if option in known.options)
        for option in own
    }

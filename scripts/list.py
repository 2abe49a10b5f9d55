"""List the trainers: paper, network, parameters."""

from __future__ import annotations

import argparse
import json
from typing import Any

from nnunet_archs.networks.published import PUBLISHED
from nnunet_archs.trainers.names import OPTIONS, TRAINERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")


def run(args: argparse.Namespace) -> int:
    """Print a row for every configuration that a paper prints, and one for every trainer that has none."""
    rows = listing()
    print(json.dumps(rows, indent=2) if args.json else table(rows))
    return 0


def listing() -> list[dict[str, Any]]:
    """The trainers with the sizes built here and printed by the paper, counted for one class, supervision apart."""
    return [row for name, trainer in TRAINERS.items() for row in _rows(name, trainer.network_class)]


def _rows(trainer: str, network: type) -> list[dict[str, Any]]:
    configurations = [published for published in PUBLISHED if published.network is network]
    if not configurations:
        return [_row(trainer, network)]
    return [
        _row(
            trainer,
            network,
            paper=published.paper,
            source=published.source,
            configuration=published.name,
            dimensions=published.dim,
            features=list(published.features),
            built_parameters=published.built_parameters(),
            published_parameters=published.parameters,
            note=published.note,
        )
        for published in configurations
    ]


def _row(trainer: str, network: type, **known: Any) -> dict[str, Any]:
    fields = ("paper", "source", "configuration", "dimensions", "features", "built_parameters", "published_parameters")
    return {"trainer": trainer, "network": network.__name__, **dict.fromkeys(fields), "note": "", **known}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text, and the options of the trainers' names."""
    header = ("trainer", "paper", "configuration", "built", "printed", "")
    cells = [header, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    options = [f"  _{option.spelling:<14} {option.meaning}" for option in OPTIONS]
    return "\n".join([*lines, "", "options, appended to a trainer's name in any order:", *options])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    built, printed = row["built_parameters"], row["published_parameters"]
    return (
        row["trainer"],
        row["paper"] or "nnU-Net",
        f"{row['configuration']} ({row['dimensions']}D)" if row["configuration"] else row["network"],
        f"{built:,}" if built else "by the plan",
        f"{printed / 1e6:.2f}M" if printed else "",
        row["note"],
    )

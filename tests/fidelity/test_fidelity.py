"""The readable form of what the papers state and what is built."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hand_made import make_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.fidelity.page import page
from nnunet_archs.fidelity.papers import NNUNET, PAPERS
from nnunet_archs.fidelity.published import PUBLISHED, Published
from nnunet_archs.trainers.listing import text
from nnunet_archs.trainers.registry import resolve_paper

Rows = dict[tuple[str, str], dict[str, Any]]

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"


def test_the_page_is_what_the_command_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page() + "\n"


def test_every_paper_and_size_is_on_the_page() -> None:
    written = PAGE.read_text(encoding="utf-8")
    readings = [*NNUNET]
    for paper in PAPERS:
        assert f"## {paper.name}\n" in written
        readings += paper.readings
    for reading in readings:
        assert all(cell in written for cell in (reading.stated, reading.built, reading.released)), reading.point
    for row in PUBLISHED:
        assert f"| {row.name} | {row.dim}D | {row.built_parameters():,} |" in written


def test_list_shows_every_size_beside_the_printed_one(rows: Rows) -> None:
    printed = text(list(rows.values()))
    for row in PUBLISHED:
        assert any(
            row.name in line and row.built() in line and line.endswith(row.note or row.printed)
            for line in printed.splitlines()
        ), row.name


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.paper.name}: {row.name}")
def test_the_trainer_that_list_prints_builds_the_row(row: Published, rows: Rows) -> None:
    trainer = resolve_paper(rows[row.paper.name, row.name]["trainer"])
    if trainer.supervision != "none":  # sizes are counted without the heads of supervision
        trainer = resolve_paper(f"{trainer.__name__}_noDS")
    plans = make_plans(row.dim, n_stages=len(row.features))
    tiny = plans["configurations"]["tiny"]
    tiny["patch_size"] = patch = list(row.options.get("patch_size", [32] * row.dim))
    tiny["architecture"]["arch_kwargs"] |= {
        "features_per_stage": list(row.features),
        "strides": [[1] * row.dim] + [[2] * row.dim] * (len(row.features) - 1),
        "conv_bias": row.conv_bias,
        "norm_op": f"torch.nn.BatchNorm{row.dim}d" if row.normalised else None,
    }
    manager = PlansManager(plans)
    with torch.device("meta"):
        network = trainer.build_network_architecture(
            manager, manager.get_configuration("tiny"), row.input_channels, row.classes, enable_deep_supervision=False
        )
        assert network.eval()(torch.zeros(1, row.input_channels, *patch)).shape[1] == row.classes
    assert (type(network), row.count(network)) == (row.network, row.built_parameters())

"""The readable form of what the papers state and what is built."""

from pathlib import Path

from nnunet_archs.fidelity.page import page
from nnunet_archs.fidelity.papers import PAPERS
from nnunet_archs.fidelity.published import PUBLISHED
from nnunet_archs.trainers.listing import listing, text

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"


def test_the_page_is_what_the_command_writes() -> None:
    assert PAGE.read_text() == page() + "\n"


def test_every_paper_and_size_is_on_the_page() -> None:
    written = PAGE.read_text()
    for paper in PAPERS:
        assert f"## {paper.name}\n" in written
        assert all(reading.stated in written and reading.built in written for reading in paper.readings)
    for row in PUBLISHED:
        assert f"| {row.name} | {row.dim}D | {row.built_parameters():,} |" in written


def test_list_shows_every_size_beside_the_printed_one() -> None:
    rows = listing()
    printed = text(rows)
    assert {row["configuration"] for row in rows if row["configuration"]} == {row.name for row in PUBLISHED}
    for row in PUBLISHED:
        assert any(
            row.name in line and row.built() in line and line.endswith(row.note or row.printed)
            for line in printed.splitlines()
        ), row.name

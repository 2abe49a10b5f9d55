"""docs/evidence.md is what its script makes of the reports that landed."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from made_up import make_study

from nnunet_archs.study.report import write_report

FOLDER = Path(__file__).parents[2] / "docs" / "evidence"
REPEATS = {"PlainConvUNet": 0.0, "PlainConvUNet (2)": 0.0, "UNet#": 0.01, "UNet# (2)": 0.012}


@pytest.fixture(scope="module")
def evidence():
    spec = importlib.util.spec_from_file_location("evidence_page", FOLDER / "page.py")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def landed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    networks = {"PlainConvUNet": 0.0, "UNet#": 0.03, "UNet++": 0.0, "CAggNet": -0.02}
    for name, of in (("nuclei", networks), ("seeds", REPEATS)):
        write_report(make_study(folder / name, networks=of, configurations=("2d",), n_cases=15, missing_fold=None))
        (folder / f"{name}.yaml").write_text("")
    (folder / "membranes.yaml").write_text("")
    return folder


def rows(page, first):
    """Cells of the rows of tables that begin so."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line] for line in lines]


def test_the_page_is_what_the_script_writes(evidence):
    written = (FOLDER.parent / "evidence.md").read_text(encoding="utf-8")
    assert written == evidence.page(evidence.read_landed(FOLDER), FOLDER)


def test_claims_go_by_the_study_that_tests_them(evidence, landed):
    studies = evidence.read_landed(landed)
    claims = rows(evidence.page(studies, landed), "UNet#")
    told = {cells[1]: cells for cells in claims if "better than" in cells[1]}
    (pair,) = [one for one in studies["nuclei"].section["pairs"] if {one["a"], one["b"]} == {"UNet#", "UNet++"}]
    assert told["UNet# is better than UNet++"][3].startswith(evidence.signed(pair["difference"]["value"]))
    assert told["UNet# is better than UNet++"][-1] == "holds"
    assert "not measured" in told["UNet# is better than UNet 3+"]
    (against,) = [cells for cells in rows(evidence.page(studies, landed), "CAggNet") if "better than" in cells[1]]
    assert against[-1] == "the reverse"


def test_a_guard_forbids_every_verdict(evidence, landed):
    studies = evidence.read_landed(landed)
    studies["nuclei"].report["sections"][0]["guards"] = ["UNet# had not converged."]
    page = evidence.page(studies, landed)
    assert "- UNet# had not converged." in page
    assert "its warnings forbid a verdict" in page
    assert "| holds |" not in page


def test_what_did_not_land_is_named(evidence, landed):
    assert "Not run yet: `membranes.yaml`." in evidence.page(evidence.read_landed(landed), landed)
    assert "No study has finished." in evidence.page({}, landed)


def test_repeats_show_how_far_chance_moves_a_fold(evidence, landed):
    page = evidence.page(evidence.read_landed(landed), landed)
    section = page[page.index("## Chance alone") :]
    cases = json.loads((landed / "seeds" / "report.json").read_text())["sections"][0]["summary"]
    assert len(rows(section, "PlainConvUNet")) == len(rows(section, "UNet#")) == 5  # folds
    assert {row["network"] for row in cases} == {*REPEATS}
    for cells in rows(section, "UNet#"):
        first, second, moved = map(float, cells[2:])
        assert moved == pytest.approx(abs(first - second), abs=0.0015)


def test_the_figure_has_every_network(evidence, landed):
    study = evidence.read_landed(landed)["nuclei"]
    evidence.draw_costs(study, landed / "costs.svg")
    drawn = (landed / "costs.svg").read_text()
    assert all(name.replace("&", "&amp;") in drawn for name in study.section["networks"])

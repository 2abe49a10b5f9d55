from pathlib import Path

import pytest
import yaml

from nnunet_archs.fidelity.papers import CAGGNET, CROSSLINK, FOCUSNET, IMPROVED_SKIP, UNET_SHARP
from nnunet_archs.study.citations import NNUNET, REVISITED, reference_of
from nnunet_archs.trainers.registry import known

PAPERS = {
    "CAggNetTrainer": CAGGNET,
    "UNetSharpTrainer_50epochs": UNET_SHARP,
    "CanonicalUNet3PlusTrainer": UNET_SHARP,
    "VNetTrainer": UNET_SHARP,
    "FocusNetPlusPlusTrainer": FOCUSNET,
    "Double2SingleNetTrainer_DiceCE": CROSSLINK,
    "ClassicalUNetTrainer": IMPROVED_SKIP,
}


@pytest.mark.parametrize(("trainer", "paper"), PAPERS.items())
def test_a_network_has_its_paper(trainer, paper):
    assert reference_of(trainer).text == paper.citation


def test_no_network_but_nnunets_own_is_cited_as_nnunet():
    assert {trainer for trainer in known() if reference_of(trainer) == NNUNET} == {"PlainConvUNetTrainer"}


def test_nnunets_own_networks_have_its_papers():
    assert reference_of("nnUNetTrainer_250epochs") == reference_of("PlainConvUNetTrainer_5epochs") == NNUNET
    assert reference_of("ResidualEncoderUNetTrainer") == REVISITED


def test_nnunet_is_cited_as_in_the_citation_file():
    citation = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8"))
    nnunet = citation["references"][0]
    assert NNUNET.link.endswith(nnunet["doi"])
    assert nnunet["title"] in NNUNET.text
    assert all(author["family-names"] in NNUNET.text for author in nnunet["authors"])

"""The sizes that papers print, to the digit."""

import pytest
import torch

from nnunet_archs.networks.published import PUBLISHED

BUILT = {
    "UNet": 7_852_545,
    "WUNet": 9_392_916,
    "UNet2+": 9_163_329,
    "UNet#": 10_748_481,
    "UNet# (table)": 9_716_289,
    "V-Net": 26_388_385,
    "WV-Net": 33_396_373,
    "V-Net2+": 27_370_945,
    "V-Net#": 28_559_809,
    "V-Net# (table)": 28_366_273,
}


def test_every_row_is_counted():
    assert {published.name for published in PUBLISHED} == set(BUILT)


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_size_to_the_digit(published):
    assert published.built_parameters() == BUILT[published.name]


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_a_size_that_does_not_round_to_the_printed_one_is_explained(published):
    rounds = abs(published.built_parameters() - published.parameters) <= 5_000
    assert rounds != bool(published.note)


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_it_runs(published):
    with torch.device("meta"):
        net = published.build()
        assert net(torch.zeros(1, published.input_channels, *[32] * published.dim)).shape[1] == 1

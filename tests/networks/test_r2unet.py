"""R2U-Net: the contract, and what only it has."""

from __future__ import annotations

import torch

from nnunet_archs.networks.r2unet import R2UNet, RecurrentUnit
from nnunet_archs.testing import NetworkContract, shape_case


class TestContract(NetworkContract):
    networks = (R2UNet,)


def test_a_unit_runs_one_convolution_three_times():
    conv = torch.nn.Linear(3, 3)
    x = torch.randn(2, 3)
    assert torch.equal(RecurrentUnit(conv)(x), conv(x + conv(x + conv(x))))


def test_every_block_has_two_units():
    network = shape_case("2d").build(R2UNet)
    units = [module for module in network.modules() if isinstance(module, RecurrentUnit)]
    assert len(units) == 2 * (4 + 3)

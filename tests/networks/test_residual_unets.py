"""The residual U-Nets that papers are compared with: the contract, and what only they have."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from nnunet_archs.networks.parts.topology import Topology
from nnunet_archs.networks.pre_activation_unet import PreActivationBlock, PreActivationUNet
from nnunet_archs.networks.residual_unet import ResidualBlock, ResidualUNet
from nnunet_archs.testing import NetworkContract

KWARGS = {"n_stages": 2, "features_per_stage": 6, "conv_op": nn.Conv2d, "kernel_sizes": 3, "strides": [1, 2]}
TOPOLOGY = Topology(**KWARGS, conv_bias=True, norm_op=nn.InstanceNorm2d, nonlin=nn.ReLU)


class TestContract(NetworkContract):
    networks = (ResidualUNet, PreActivationUNet)


@pytest.mark.parametrize("network", [ResidualUNet, PreActivationUNet])
def test_recomputing_changes_nothing(network):
    results = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        net = network(2, 3, **KWARGS, norm_op=nn.InstanceNorm2d, nonlin=nn.LeakyReLU, checkpoint=checkpoint)
        x = torch.randn(1, 2, 8, 8)
        y = net(x)
        y.square().sum().backward()
        results.append((y, [parameter.grad for parameter in net.parameters()]))
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_a_residual_block_of_zeros_leaves_the_activated_projection():
    torch.manual_seed(0)
    block = ResidualBlock([2, 3], 0, TOPOLOGY, inner=3)
    nn.init.zeros_(block.third.conv.weight)
    skip, up = torch.randn(1, 2, 8, 8), torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(block([skip, up]), block.project([skip, up]).relu())


def test_a_pre_activation_block_of_zeros_leaves_its_input():
    torch.manual_seed(0)
    block = PreActivationBlock(6, 0, TOPOLOGY)
    strided = PreActivationBlock(6, 1, TOPOLOGY, stride=(2, 2))
    for module in (block, strided):
        nn.init.zeros_(module.second.weight)
        nn.init.zeros_(module.second.bias)
    x = torch.randn(1, 6, 8, 8)
    assert torch.equal(block(x), x)
    torch.testing.assert_close(strided(x), strided.project(block.activate(x)))


@pytest.mark.parametrize("norm_op", [None, nn.InstanceNorm2d])
def test_an_activation_in_place_leaves_the_residual_as_it_is(norm_op):
    topology = partial(Topology, **KWARGS, norm_op=norm_op, nonlin=nn.LeakyReLU)
    results = []
    for inplace in (False, True):
        torch.manual_seed(0)
        block = PreActivationBlock(6, 0, topology(nonlin_kwargs={"inplace": inplace}))
        results.append(block(torch.randn(1, 6, 8, 8)))
    torch.testing.assert_close(*results)

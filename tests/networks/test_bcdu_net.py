"""BCDU-Net: the contract, its LSTM as Keras has it, and the dense stage."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_archs.networks import Topology
from nnunet_archs.networks.bcdu_net import BCDUNet, ConvLSTM, DenseBlocks
from nnunet_archs.testing import NetworkContract, shape_case


class TestContract(NetworkContract):
    networks = (BCDUNet, partial(BCDUNet, released=True))


def test_lstm_reads_one_step_after_the_other():
    torch.manual_seed(0)
    lstm = ConvLSTM(3, 2, (3, 3), Topology(**shape_case("2d").kwargs)).double()
    steps = torch.randn(2, 2, 3, 5, 6, dtype=torch.float64).unbind()
    cell = y = torch.zeros(2, 2, 5, 6, dtype=torch.float64)
    for x in steps:
        z = F.conv2d(x, lstm.input.weight, padding=1)
        z += F.conv2d(y, lstm.recurrent.weight, lstm.recurrent.bias, padding=1)
        enter, forget, candidate, leave = z.split(2, dim=1)
        enter, forget, leave = (torch.clamp(gate / 5 + 0.5, 0, 1) for gate in (enter, forget, leave))
        cell = forget * cell + enter * candidate.tanh()
        y = leave * cell.tanh()
    torch.testing.assert_close(lstm(*steps), y)


def test_forget_gates_begin_open():
    net = shape_case("2d-2-stages").build(BCDUNet)
    bias = net.decoder_stages[0].lstm.recurrent.bias
    assert bias.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_third_block_takes_both_others():
    torch.manual_seed(0)
    dense = DenseBlocks(4, Topology(**shape_case("2d").kwargs)).eval()
    seen = {}
    for i, block in enumerate(dense.blocks):
        block.register_forward_hook(lambda module, inputs, output, i=i: seen.update({i: (inputs[0], output)}))
    y = dense(torch.randn(2, 4, 5, 6))
    assert torch.equal(seen[1][0], seen[0][1])
    assert torch.equal(seen[2][0], torch.cat([seen[1][1], seen[0][1]], dim=1))
    assert torch.equal(y, seen[2][1])


@pytest.mark.parametrize("released", [False, True])
def test_where_it_is_normalised(released):
    net = shape_case("2d").build(BCDUNet, released=released)
    ups = [stage.up.norm for stage in net.decoder_stages]
    norms = [module for module in net.modules() if isinstance(module, nn.InstanceNorm2d)]
    assert set(ups) <= set(norms)
    assert (len(norms) == len(ups)) == released

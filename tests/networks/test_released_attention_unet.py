"""The Attention U-Net of FocusNet++'s authors' code, and their UNet++: the contract, and what only they have."""

from __future__ import annotations

from functools import partial

import torch

from nnunet_archs.networks import UNetPlusPlus
from nnunet_archs.networks.released_attention_unet import ReleasedAttentionUNet, gated_unet
from nnunet_archs.testing import NetworkContract, shape_case


class TestContract(NetworkContract):
    networks = (ReleasedAttentionUNet, partial(UNetPlusPlus, upsampling="transposed"))


def test_the_third_gate_listens_two_stages_below():
    signals = {node: sources[2] for node, sources in gated_unet(5).items() if node[0] > 0}
    assert signals == {(4, 1): (5, 0), (3, 2): (4, 1), (2, 3): (4, 1), (1, 4): (2, 3)}


def test_a_closed_gate_leaves_what_comes_from_below():
    case = shape_case("2d")
    net = case.build(ReleasedAttentionUNet).eval()
    node, gate = net.grid.nodes["X_1_2"], net.grid.nodes["X_1_2"].gate
    skip, below = torch.randn(2, 4, 8, 12), torch.randn(2, 16, 4, 6)
    torch.nn.init.constant_(gate.psi.bias, -100.0)
    up, weighed = node([skip, below, below]).chunk(2, dim=1)
    torch.testing.assert_close(up, node.nonlin(node.up(below)))
    assert torch.equal(weighed, gate.out(torch.zeros_like(skip)))


def test_every_node_of_unet_plus_plus_has_a_transposed_convolution_of_its_own():
    net = shape_case("2d").build(UNetPlusPlus, upsampling="transposed")
    shapes = {name: tuple(node.up.weight.shape) for name, node in net.grid.nodes.items()}
    widths = net.topology.features_per_stage
    assert shapes == {f"X_{i}_{j}": (widths[i + 1], widths[i], 2, 2) for j in range(1, 4) for i in range(4 - j)}

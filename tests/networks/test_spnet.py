"""SPNet: the contract, and what its strips and grids do."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from torch import nn

from nnunet_archs.deploy.weights import write_onnx
from nnunet_archs.networks.parts.foreign import batch_normalised
from nnunet_archs.networks.parts.topology import Topology
from nnunet_archs.networks.spnet import MixedPooling, SPNet, StripGate, gated_resnet
from nnunet_archs.testing import NetworkContract

KWARGS = {"n_stages": 4, "features_per_stage": 4, "conv_op": nn.Conv2d, "kernel_sizes": 3, "strides": [1, 2, 2, 2]}
LAYERS = batch_normalised(Topology(**KWARGS))


class TestContract(NetworkContract):
    networks = (SPNet,)
    test_compiles = None  # half a minute for timm's ResNet; the blocks' graphs are tested below


def test_graphs_of_its_blocks():
    torch._dynamo.reset()
    torch.manual_seed(0)
    blocks = nn.Sequential(StripGate(8, LAYERS), MixedPooling(8, LAYERS)).eval()
    x = torch.randn(1, 8, 6, 5)
    torch.testing.assert_close(torch.compile(blocks, backend="eager", fullgraph=True)(x), blocks(x))
    (y,) = onnxruntime.InferenceSession(write_onnx(blocks, x)).run(None, {"image": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), blocks(x), atol=1e-4, rtol=0)


def test_places_of_the_gates_and_dilations():
    with torch.device("meta"):
        net = gated_resnet(1, LAYERS, 50)
    stages = (net.layer1, net.layer2, net.layer3, net.layer4)
    gated = [[isinstance(block.act2, nn.Sequential) for block in stage] for stage in stages]
    assert gated == [[False] * 2 + [True], [False] * 3 + [True], [False] * 5 + [True], [True] * 3]
    assert [block.conv2.dilation for block in net.layer4] == [(4, 4), (8, 8), (16, 16)]
    with torch.device("meta"):
        assert net(torch.zeros(1, 1, 64, 32)).shape == (1, 2048, 8, 4)


def test_a_gate_sees_rows_and_columns_alone():
    torch.manual_seed(0)
    gate = StripGate(4, LAYERS).eval()
    x = torch.randn(1, 4, 9, 9)
    moved = x.clone()
    moved[..., 2, 3] += 1
    with torch.no_grad():
        changed = ~torch.isclose(gate(x) / x, gate(moved) / moved, rtol=1e-4).all(dim=1)[0]
    # the row and the column of the pixel, and those beside them that its strips' convolutions reach
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[1:4] = expected[:, 2:5] = True
    assert not (changed & ~expected).any()
    assert changed[1:4, 0].any()
    assert changed[0, 2:5].any()


def test_pooling_of_zeros_leaves_what_is_positive():
    torch.manual_seed(0)
    module = MixedPooling(8, LAYERS).eval()
    nn.init.zeros_(module.join.conv.weight)
    x = torch.randn(1, 8, 5, 7)
    assert torch.equal(module(x), x.relu())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"depth": 18}, "depth=18: give one of 50, 101"), ({"patch_size": (8, 32)}, "every axis at least 16")],
)
def test_what_it_does_not_take(change, message):
    with pytest.raises(ValueError, match=message):
        SPNet(1, 2, **({"patch_size": (32, 32)} | change), **KWARGS)

"""Inf-Net: the contract, and that several maps are refined each by itself."""

from __future__ import annotations

import onnxruntime
import pytest
import timm
import torch
from torch import nn

from nnunet_archs.deploy.weights import write_onnx
from nnunet_archs.networks.infnet import EDGES, InfNet, PartialDecoder, ReceptiveField, ReverseAttention
from nnunet_archs.networks.parts.foreign import batch_normalised
from nnunet_archs.networks.parts.topology import Topology
from nnunet_archs.testing import NetworkContract

KWARGS = {
    "n_stages": 6,
    "features_per_stage": 4,
    "conv_op": nn.Conv2d,
    "kernel_sizes": 3,
    "strides": [1, 2, 2, 2, 2, 2],
    "patch_size": (32, 64),
}
LAYERS = batch_normalised(Topology(**{key: value for key, value in KWARGS.items() if key != "patch_size"}))


class TestContract(NetworkContract):
    networks = (InfNet,)
    test_compiles = None  # half a minute for timm's Res2Net; the blocks' graphs are tested below


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.decode = ReceptiveField(8, LAYERS), PartialDecoder(2, LAYERS)
        self.refine = ReverseAttention(8, 6, LAYERS, kernels=[(3, 3)] * 3)

    def forward(self, x):
        guess = self.decode([self.reduce(x), self.reduce(x[..., ::2, ::2]), self.reduce(x[..., ::4, ::4])])
        return self.refine(x, x.repeat(1, EDGES // 8, 1, 1), guess)


def test_graphs_of_its_blocks():
    torch._dynamo.reset()
    torch.manual_seed(0)
    blocks, x = Blocks().eval(), torch.randn(1, 8, 16, 8)
    torch.testing.assert_close(torch.compile(blocks, backend="eager", fullgraph=True)(x), blocks(x))
    (y,) = onnxruntime.InferenceSession(write_onnx(blocks, x)).run(None, {"image": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), blocks(x), atol=1e-4, rtol=0)


def test_what_follows_the_prediction():
    torch.manual_seed(0)
    net = InfNet(1, 3, deep_supervision=True, edges=True, **KWARGS)
    x = torch.randn(2, 1, 32, 64)
    assert [y.shape[1] for y in net(x)] == [3, 3, 3, 3, 1]
    assert [y.shape[1] for y in net.eval()(x)] == [3] * 4
    assert net.branch_stages == (0,) * 4
    net.deep_supervision = False
    assert net(x).shape == (2, 3, 32, 64)
    assert [y.shape[1] for y in net.train()(x)] == [3, 1]


def test_maps_are_refined_each_by_itself():
    torch.manual_seed(0)
    refine = ReverseAttention(8, 6, LAYERS, kernels=[(3, 3)] * 3).eval()
    x, edges, guess = torch.randn(2, 8, 8, 6), torch.randn(2, EDGES, 16, 12), torch.randn(2, 3, 8, 6)
    each = [refine(x, edges, guess[:, c : c + 1]) for c in range(3)]
    torch.testing.assert_close(refine(x, edges, guess), torch.cat(each, dim=1))


def test_what_the_guess_has_is_erased():
    torch.manual_seed(0)
    refine = ReverseAttention(8, 6, LAYERS, kernels=[(3, 3)] * 3).eval()
    edges, guess = torch.randn(1, EDGES, 4, 4), torch.full((1, 1, 4, 4), 50.0)
    found = [refine(torch.randn(1, 8, 4, 4), edges, sign * guess) for sign in (1, 1, -1, -1)]
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[2], found[3])


def test_its_encoder_is_version_1b():
    with torch.device("meta"):
        net = InfNet(3, 1, **KWARGS).body.encoder
        theirs = timm.create_model("res2net50d", num_classes=0)
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in theirs.parameters()) == 23_669_352


def test_heads_of_lower_resolution_are_refused():
    with pytest.raises(ValueError, match="InfNet has no heads at lower stages"):
        InfNet(1, 2, supervision="nnunet", **KWARGS)

"""TransUNet: the contract, and what its encoder has to be."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from nnunet_archs.deploy.weights import write_onnx
from nnunet_archs.networks import transunet
from nnunet_archs.networks.transunet import HybridResNet, Transformer, TransUNet
from nnunet_archs.testing import NetworkContract


@pytest.fixture(autouse=True)
def _shallow(monkeypatch):
    """Few of the layers that follow each other: no test here is about their number, and graphs of all take a minute."""
    monkeypatch.setattr(transunet, "LAYERS", 2)
    monkeypatch.setattr(transunet, "UNITS", (2, 1, 1))


class TestContract(NetworkContract):
    networks = (TransUNet,)


def build(patch_size, width=4, **options):
    kwargs = {
        "n_stages": 5,
        "features_per_stage": width,
        "conv_op": nn.Conv2d,
        "kernel_sizes": 3,
        "strides": [1, 2, 2, 2, 2],
        "norm_op": nn.InstanceNorm2d,
        "nonlin": nn.ReLU,
    }
    torch.manual_seed(0)
    return TransUNet(1, 2, patch_size=patch_size, **kwargs, **options).eval()


def test_the_plan_decides_the_width():
    with torch.device("meta"):
        narrow, wide = (sum(p.numel() for p in build((32, 48), width).parameters()) for width in (8, 16))
    assert narrow < wide / 2


def test_strides_of_the_resnet():
    net = HybridResNet(1, 1 / 8)
    features = net(torch.zeros(1, 1, 32, 64))
    assert [tuple(y.shape[1:]) for y in features] == [(8, 16, 32), (32, 8, 16), (64, 4, 8), (128, 2, 4)]
    assert net.channels == [y.shape[1] for y in features]


def test_convolutions_of_the_resnet_do_not_feel_the_scale_of_their_weights():
    torch.manual_seed(0)
    net, x = HybridResNet(1, 1 / 8).eval(), torch.randn(1, 1, 32, 32)
    before = net(x)[-1]
    with torch.no_grad():
        net.stages[1].blocks[0].conv2.weight.mul_(3).add_(1)
    torch.testing.assert_close(net(x)[-1], before, atol=1e-2, rtol=0)


def test_every_position_sees_every_other_and_knows_where_it_is():
    torch.manual_seed(0)
    net = Transformer(3, 24, (2, 3)).eval()
    x = torch.randn(1, 3, 2, 3)
    shuffled = x.flatten(2)[..., [5, 3, 1, 0, 2, 4]].view_as(x)
    before = net(x)
    moved = x.clone()
    moved[..., 1, 2] += 1
    assert not torch.isclose(net(moved), before).all(dim=1).any()
    # without embeddings of positions their order would be of no matter
    torch.testing.assert_close(net(shuffled).flatten(2), before.flatten(2)[..., [5, 3, 1, 0, 2, 4]])
    nn.init.normal_(net.positions)
    assert not torch.allclose(net(shuffled).flatten(2), net(x).flatten(2)[..., [5, 3, 1, 0, 2, 4]], atol=1e-2)


def test_one_patch_is_its_own():
    net = build((32, 48))
    assert net(torch.zeros(1, 1, 32, 48)).shape == (1, 2, 32, 48)
    with pytest.raises(ValueError, match=r"patch_size=\[32, 40\]: TransUNet needs a multiple of 16 x 16"):
        build((32, 40))


def test_its_graph():
    net, x = build((32, 48), supervision="none"), torch.randn(1, 1, 32, 48)
    session = onnxruntime.InferenceSession(write_onnx(net, x))
    (logits,) = session.run(None, {"image": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, net(x).numpy(), atol=1e-4, rtol=0)

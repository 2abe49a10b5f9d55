"""DUNet: the contract, and its convolutions with moved taps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunet_archs.networks.dunet import DeformableConv, DUNet
from nnunet_archs.networks.parts.topology import Topology
from nnunet_archs.testing import NetworkContract

KWARGS = {"n_stages": 4, "features_per_stage": 4, "kernel_sizes": 3, "strides": [1, 2, 2, 2], "nonlin": nn.ReLU}
TOPOLOGY = Topology(**KWARGS, conv_op=nn.Conv2d)


class TestContract(NetworkContract):
    networks = (DUNet,)


@pytest.mark.parametrize("kernel", [(3, 3), (1, 3)])
def test_it_begins_as_an_ordinary_convolution(kernel):
    torch.manual_seed(0)
    conv = DeformableConv(2, 3, kernel, TOPOLOGY)
    x = torch.randn(1, 2, 6, 5)
    padding = [k // 2 for k in kernel]
    torch.testing.assert_close(conv(x), nn.functional.conv2d(x, conv.weight, padding=padding))


def test_taps_moved_by_a_pixel_see_the_image_moved_by_a_pixel():
    torch.manual_seed(0)
    conv = DeformableConv(2, 3, (3, 3), TOPOLOGY)
    x = torch.randn(1, 2, 8, 8)
    still = conv(x)
    with torch.no_grad():
        conv.offset.bias.view(9, 2)[:, 0] = 1  # down, at every tap
    torch.testing.assert_close(conv(x)[..., :-2, :], still[..., 1:-1, :])


def test_nnunets_initialisation_leaves_the_movements_at_zero():
    net = DUNet(1, 2, conv_op=nn.Conv2d, **KWARGS)
    net.apply(net.initialize)
    deformable = [module for module in net.modules() if isinstance(module, DeformableConv)]
    assert len(deformable) == 8
    assert all(not parameter.any() for module in deformable for parameter in module.offset.parameters())
    assert all(module.weight.std() > 0.01 for module in deformable)


def test_the_head_of_the_output_sees_the_image():
    net = DUNet(1, 2, conv_op=nn.Conv2d, **KWARGS).eval()
    head = net.heads.seg_layers["X_0_3"]
    nn.init.zeros_(head.bias)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2, 1 + 4)[..., None, None])
        x = torch.randn(1, 1, 16, 16)
        assert torch.equal(net(x)[:, 0], x[:, 0])


def test_recomputing_changes_nothing():
    results = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        net = DUNet(1, 2, conv_op=nn.Conv2d, checkpoint=checkpoint, **KWARGS)
        y = net(torch.randn(1, 1, 16, 16))
        y.square().sum().backward()
        results.append((y, [parameter.grad for parameter in net.parameters()]))
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    torch.manual_seed(0)
    net = DUNet(1, 2, conv_op=nn.Conv2d, norm_op=nn.InstanceNorm2d, **KWARGS).eval()
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        half = net(x)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), net(x), atol=0.1, rtol=0.1)


def test_it_is_there_in_2d_alone():
    with pytest.raises(ValueError, match="conv_op=Conv3d: DUNet exists only in 2D; train it in 2D"):
        DUNet(1, 2, conv_op=nn.Conv3d, **KWARGS)

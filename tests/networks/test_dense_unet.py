"""DARTS' DenseUNet: the contract, its width, and its block as it is written down."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_archs.networks import Topology
from nnunet_archs.networks.dense_unet import DenseBlock, DenseUNet
from nnunet_archs.testing import NetworkContract, shape_case


class Narrow(DenseUNet):
    width = 4


class TestContract(NetworkContract):
    networks = (Narrow,)


@pytest.mark.parametrize(("num_classes", "parameters"), [(1, 30_179_073), (113, 30_207_857)])
def test_size_whatever_the_plans_widths_are(num_classes: int, parameters: int) -> None:
    case = shape_case("2d")
    changes = {"n_stages": 5, "strides": [1, 2, 2, 2, 2], "kernel_sizes": 3, "norm_op": nn.BatchNorm2d}
    with torch.device("meta"):
        net = DenseUNet(1, num_classes, **{**case.kwargs, **changes, "features_per_stage": 8}, supervision="none")
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def test_block_adds_all_earlier_outputs_but_the_latest() -> None:
    torch.manual_seed(0)
    block = DenseBlock(0, Topology(**shape_case("2d").kwargs)).double()
    outputs = [torch.randn(2, 4, 5, 6, dtype=torch.float64)]
    for conv in block.convs:
        z = F.conv2d(outputs[-1], conv.conv.weight, conv.conv.bias, padding=1) + sum(outputs[:-1])
        outputs.append(F.leaky_relu(F.instance_norm(z)))
    torch.testing.assert_close(block(outputs[0].clone()), outputs[-1])


def test_a_transposed_convolution_is_twice_the_stride_where_there_is_one() -> None:
    net = shape_case("3d-anisotropic").build(Narrow)
    assert [stage.up.kernel_size for stage in net.decoder_stages] == [(1, 4, 4), (1, 4, 4), (4, 4, 4)]

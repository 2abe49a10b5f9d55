"""ENet: the contract, and what only it has."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnunet_archs.networks.enet import ENet, unpooled
from nnunet_archs.testing import NetworkContract, shape_case


class TestContract(NetworkContract):
    networks = (ENet,)


@pytest.mark.parametrize(("size", "stride"), [((6, 8), (2, 2)), ((4, 6, 8), (1, 2, 2))])
def test_values_return_to_where_the_maxima_were(size, stride):
    pool, unpool = (F.max_pool2d, F.max_unpool2d) if len(size) == 2 else (F.max_pool3d, F.max_unpool3d)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    pooled, indices = pool(x, stride, stride, return_indices=True)
    assert torch.equal(unpooled(pooled, indices, size), unpool(pooled, indices, stride, stride))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("2d", [(8, 12), (4, 6), (2, 3)]), ("3d", [(4, 4, 6), (2, 2, 3), (2, 2, 3)]), ("2d-2-stages", [(3, 4)] * 3)],
)
def test_stages_that_a_plan_lacks_keep_the_resolution(name, expected):
    case = shape_case(name)
    network = case.build(ENet).eval()
    sizes: list[tuple[int, ...]] = []
    for block in (network.initial, *network.encoders):
        block.register_forward_hook(lambda *call: sizes.append(tuple(call[-1].shape[2:])))
    with torch.no_grad():
        network(case.image(ENet))
    assert sizes == expected


def test_activations_are_learned_in_the_encoder_alone():
    network = shape_case("2d").build(ENet)
    for module, kind in ((network.encoders, nn.PReLU), (network.downs, nn.PReLU), (network.decoders, nn.ReLU)):
        assert {type(m) for m in module.modules() if isinstance(m, nn.PReLU | nn.ReLU | nn.LeakyReLU)} == {kind}


@pytest.mark.parametrize(("input_channels", "made"), [(1, 3), (3, 1), (6, 1)])
def test_the_first_convolution_makes_what_the_image_leaves(input_channels, made):
    network = shape_case("2d").build(ENet, input_channels=input_channels)
    assert network.initial.conv.out_channels == made
    assert network(torch.randn(2, input_channels, 16, 24)).shape == (2, 3, 16, 24)

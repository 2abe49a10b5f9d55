"""Deep layer aggregation: the contract, and what only it has."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnunet_archs.networks.dla import DLA, LearnedUpsampling
from nnunet_archs.networks.parts.grid import dla
from nnunet_archs.networks.parts.topology import Topology
from nnunet_archs.testing import NetworkContract, shape_case


class TestContract(NetworkContract):
    networks = (DLA,)


def test_every_node_has_two_sources_beside_each_other():
    assert dla(2) == {(0, 1): [(0, 0), (1, 0)], (1, 1): [(1, 0), (2, 0)], (0, 2): [(0, 1), (1, 1)]}


def test_upsampling_begins_as_linear_interpolation():
    topology = Topology(
        n_stages=2,
        features_per_stage=[2, 2],
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=[[1, 1, 1], [1, 2, 3]],
    )
    up = LearnedUpsampling(2, topology.strides[1], topology)
    for parameter in up.parameters():
        nn.init.ones_(parameter)
    up.apply(DLA.initialize)
    x = torch.randn(1, 2, 3, 5, 6)
    expected = F.interpolate(x, scale_factor=(1.0, 2.0, 3.0), mode="trilinear")
    inner = (..., slice(1, -1), slice(2, -2))  # beyond the border there are zeros
    torch.testing.assert_close(up(x)[inner], expected[inner])


@pytest.mark.parametrize(("n_stages", "depths"), [(3, [1]), (4, [1, 1]), (6, [1, 2, 2, 1])])
def test_the_trees_in_the_middle_have_depth_two(n_stages, depths):
    kwargs = shape_case("2d").kwargs | {
        "n_stages": n_stages,
        "features_per_stage": [4] * n_stages,
        "kernel_sizes": 3,
        "strides": [1] + [2] * (n_stages - 1),
    }
    with torch.device("meta"):
        network = DLA(1, 2, **kwargs)
    assert [2 if stage.tree.root is None else 1 for stage in network.encoder.stages[2:]] == depths

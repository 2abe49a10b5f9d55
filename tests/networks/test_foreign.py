"""Networks from elsewhere: the contract around any module, and what is refused."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from nnunet_archs.networks.parts.foreign import ForeignNetwork, imported
from nnunet_archs.testing import NetworkContract


class Pyramid(nn.Module):
    """A module as anybody might have it: it follows strides, and gives logits of the stages that it is asked for."""

    def __init__(self, channels: int, classes: int, width: int, strides: list[tuple[int, int]], n_heads: int) -> None:
        super().__init__()
        self.strides = strides[:n_heads]
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.heads = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in self.strides)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        logits, x = [], self.stem(x)
        for stride, head in zip(self.strides, self.heads, strict=True):
            x = nn.functional.avg_pool2d(x, stride)
            logits.append(head(x))
        return tuple(logits)


class PyramidNetwork(ForeignNetwork):
    dimensions: ClassVar = (2,)
    has_heads: ClassVar = True
    most_channels: ClassVar = 1

    def build(self, topology, patch_size, input_channels, num_classes, n_heads):
        return Pyramid(input_channels, num_classes, topology.features_per_stage[0], topology.strides, n_heads)


class Fixed(ForeignNetwork):
    strides: ClassVar = (1, 2, 4)
    smallest: ClassVar = 12

    def build(self, topology, patch_size, input_channels, num_classes, n_heads):
        return topology.conv(input_channels, num_classes, (3,) * topology.dim)


class TestContract(NetworkContract):
    networks = (PyramidNetwork, Fixed)


@pytest.mark.parametrize(
    ("patch", "serving"),
    [((40, 56), (40, 56)), ((40, 50), (40, 56)), ((1, 17), (16, 24)), ((8, 8), (16, 16))],
)
def test_the_next_patch_that_serves(patch, serving):
    assert Fixed.serving(patch, (1, 1)) == serving


def test_one_voxel_at_the_deepest_stage_does_not_serve():
    assert PyramidNetwork.serving((3, 4), (4, 4)) == (4, 8)
    assert PyramidNetwork.serving((3, 4), (1, 1)) == (3, 4)


def test_the_stages_are_its_own():
    given = {"n_stages": 2, "features_per_stage": [4, 6], "kernel_sizes": [[1, 3], [3, 3]], "strides": [[1, 1], [1, 2]]}
    planned = Fixed.planned({**given, "conv_bias": True}, (16, 16))
    assert planned == {
        "n_stages": 3,
        "features_per_stage": [4, 6, 6],
        "kernel_sizes": [[1, 3], [3, 3], [3, 3]],
        "strides": [[1, 1], [2, 2], [4, 4]],
        "conv_bias": True,
        "patch_size": [16, 16],
    }
    assert PyramidNetwork.planned(given, (16, 16)) == given | {"patch_size": [16, 16]}


KWARGS = {"n_stages": 3, "features_per_stage": [4, 8, 8], "conv_op": nn.Conv2d, "kernel_sizes": 3, "strides": [1, 2, 4]}


@pytest.mark.parametrize(
    ("network", "change", "message"),
    [
        (
            PyramidNetwork,
            {"conv_op": nn.Conv3d, "patch_size": [8, 8, 8]},
            "Conv3d: PyramidNetwork exists only in 2D",
        ),
        (PyramidNetwork, {"input_channels": 2}, "input_channels=2: PyramidNetwork takes 1 at most, and a cascade"),
        (Fixed, {"patch_size": [40, 50]}, r"patch_size=\[40, 50\].*at least 12.*next that serves is \[40, 56\]"),
        (Fixed, {"patch_size": [40]}, r"patch_size=\[40\] has 1 axes, Fixed has 2"),
        (Fixed, {"strides": [1, 2, 2]}, r"strides=.*Fixed has \[1, 2, 4\] along every axis; plan for it"),
        (Fixed, {"supervision": "nnunet"}, "supervision='nnunet': Fixed has no heads at lower stages; leave _DS out"),
        (Fixed, {"supervision": "deep"}, "supervision='deep': give one of"),
        (Fixed, {"checkpoint": True}, "checkpoint=True: Fixed keeps all for backward"),
    ],
)
def test_refusals(network, change, message):
    with pytest.raises(ValueError, match=message):
        network(**{"input_channels": 1, "num_classes": 2, "patch_size": [16, 24], **KWARGS, **change})


def test_a_package_that_is_not_installed():
    with pytest.raises(ValueError, match=r"no_such_package is not installed.*; pip install it"):
        imported("no_such_package.nets", install="pip install it")


def test_weights_are_those_that_the_module_begins_with():
    net = Fixed(1, 2, patch_size=[16, 24], **KWARGS)
    before = torch.nn.utils.parameters_to_vector(net.parameters())
    net.apply(net.initialize)
    assert torch.equal(torch.nn.utils.parameters_to_vector(net.parameters()), before)

"""MONAI's and segmentation_models_pytorch's networks: the contract, their sizes, and what only they have."""

from __future__ import annotations

import sys
from functools import partial

import pytest
import torch
from torch import nn

from nnunet_archs.networks.peers import (
    SIZES,
    UNETR,
    WIDTH,
    DeepLabV3Plus,
    MedNeXt,
    PooledNorm,
    PSPNet,
    SegResNet,
    SwinUNETR,
)
from nnunet_archs.testing import NetworkContract


class TestContract(NetworkContract):
    networks = (
        SegResNet,
        UNETR,
        SwinUNETR,
        MedNeXt,
        partial(PSPNet, encoder="resnet18"),
        partial(DeepLabV3Plus, encoder="resnet18"),
    )
    test_compiles = None  # their makers' concern; of the class around them it is tested with a small module


def build(network, dim=3, width=WIDTH, patch=64, input_channels=1, **options):
    kwargs = {
        "n_stages": 2,
        "features_per_stage": [width, 2 * width],
        "conv_op": nn.Conv2d if dim == 2 else nn.Conv3d,
        "kernel_sizes": 3,
        "strides": [1, 2],
    }
    with torch.device("meta"):
        return network(input_channels, 1, **network.planned(kwargs, [patch] * dim), **options)


def n_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("size", SIZES)
def test_mednext_is_monais_of_its_size(size):
    from monai.networks.nets.mednext import create_mednext

    ours = build(MedNeXt, size=size, supervision="none").body
    with torch.device("meta"):
        theirs = create_mednext(size, 3, 1, 1, 3)
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }


def test_deeplab_has_the_size_that_its_makers_give_it():
    assert n_parameters(build(DeepLabV3Plus, dim=2, input_channels=3)) == 45_669_713


@pytest.mark.parametrize("network", [SegResNet, UNETR, SwinUNETR, MedNeXt])
def test_the_plan_decides_the_width(network):
    assert network.has_width
    narrow, wide = (n_parameters(build(network, width=width)) for width in (8, 16))
    assert narrow < wide / 2


@pytest.mark.parametrize("network", [PSPNet, DeepLabV3Plus])
def test_the_encoder_decides_the_width(network):
    assert not network.has_width
    assert n_parameters(build(network, dim=2, width=8)) == n_parameters(build(network, dim=2))
    with pytest.raises(ValueError, match="encoder='vgg': give one of resnet18"):
        build(network, dim=2, encoder="vgg")


def test_a_pooled_norm_is_a_batch_norm():
    torch.manual_seed(0)
    ours, theirs = PooledNorm(4), nn.BatchNorm2d(4)
    x = torch.randn(3, 4, 1, 1)
    for _ in range(2):
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours(x[:1]), theirs.eval()(x[:1]))


@pytest.mark.parametrize(("network", "package"), [(SegResNet, "monai"), (PSPNet, "segmentation_models_pytorch")])
def test_a_missing_package_is_named_with_the_extra(network, package, monkeypatch):
    class Nowhere:
        def find_spec(self, name, path, target=None):
            if name == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Nowhere(), *sys.meta_path])
    with pytest.raises(ValueError, match=rf"{package} is not installed.*; pip install 'nnunet-archs\[peers\]'"):
        build(network, dim=2)

"""Crosslink-Net: its sizes, its kernels, its attention, and the form of the authors' code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nnunet_archs.networks import CrosslinkNet, Double2SingleNet, HorCrosslink, SquareCrosslink, VerCrosslink

# Table I: five blocks, and what joins the branches after the fifth pooling
PAPER = {
    "n_stages": 6,
    "features_per_stage": [32, 64, 128, 256, 512, 512],
    "conv_op": nn.Conv2d,
    "kernel_sizes": 3,
    "strides": [1, 2, 2, 2, 2, 2],
    "conv_bias": False,
    "norm_op": nn.BatchNorm2d,
    "norm_op_kwargs": {"eps": 1e-4},
    "nonlin": nn.ReLU,
    "nonlin_kwargs": {"inplace": True},
}


def tiny(dim: int, n_stages: int = 4, **changes: Any) -> dict[str, Any]:
    return {
        "n_stages": n_stages,
        "features_per_stage": [4, 6, 8, 10, 10][:n_stages],
        "conv_op": nn.Conv2d if dim == 2 else nn.Conv3d,
        "kernel_sizes": [[1, 3, 3] if dim == 3 else 3] + [3] * (n_stages - 1),
        "strides": [[1] * dim] + [[1, 2, 2][-dim:]] + [[2] * dim] * (n_stages - 2),
        "norm_op": nn.InstanceNorm2d if dim == 2 else nn.InstanceNorm3d,
        "norm_op_kwargs": {"affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        **changes,
    }


def image(dim: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 1, *[8, 16, 32][-dim:], generator=torch.Generator().manual_seed(0))


def build(dim: int, **options: Any) -> CrosslinkNet:
    torch.manual_seed(0)
    net = CrosslinkNet(1, 2, **tiny(dim, options.pop("n_stages", 4)), **options)
    net.apply(net.initialize)
    return net


def paths(net: nn.Module, stage: int) -> list[list[tuple[int, ...]]]:
    """The kernel of every path of every branch at a stage."""
    branches: Any = net.encoder.stages[stage].paths
    kernels = {
        name: conv.kernel_size for name, conv in branches.named_modules() if isinstance(conv, nn.Conv2d | nn.Conv3d)
    }
    first = [
        [name for name in kernels if name.startswith(f"{k}.") and "second_and_third" not in name]
        for k in range(len(branches))
    ]
    return [[kernels[name] for name in names] for names in first]


@pytest.mark.parametrize(
    ("network", "options", "size"),
    [
        (CrosslinkNet, {"attention": True}, 37_627_059),
        (CrosslinkNet, {}, 37_552_625),
        (CrosslinkNet, {"attention": True, "released": True}, 31_862_899),
        (CrosslinkNet, {"decoder_kernel": 1}, 31_965_681),
        (VerCrosslink, {}, 20_349_649),
        (HorCrosslink, {}, 20_349_649),
        (SquareCrosslink, {}, 44_170_481),
        (SquareCrosslink, {"branches": 1}, 20_349_649),
        (Double2SingleNet, {}, 31_002_545),
    ],
)
def test_size_to_the_digit(network: Any, options: dict[str, Any], size: int) -> None:
    with torch.device("meta"):
        net = network(input_channels=1, num_classes=1, supervision="none", **PAPER, **options)
        assert sum(parameter.numel() for parameter in net.parameters()) == size
        assert net(torch.zeros(1, 1, 64, 64)) is not None


def test_kernels_of_table_1() -> None:
    vertical, horizontal = [(3, 1), (3, 3), (5, 3)], [(1, 3), (3, 3), (3, 5)]
    found = {
        network: paths(network(1, 1, **tiny(2)), 1)
        for network in (CrosslinkNet, VerCrosslink, HorCrosslink, SquareCrosslink, Double2SingleNet)
    }
    assert found == {
        CrosslinkNet: [vertical, horizontal],
        VerCrosslink: [vertical],
        HorCrosslink: [horizontal],
        SquareCrosslink: [[(3, 3), (5, 5)]] * 2,
        Double2SingleNet: [[*vertical, (1, 3), (1, 1), (3, 5)]],
    }
    assert paths(SquareCrosslink(1, 1, **tiny(2), branches=1), 1) == [[(3, 3)] * 3]
    assert paths(CrosslinkNet(1, 1, **tiny(2), released=True), 0) == [vertical, [(1, 3), (1, 1), (3, 5)]]


def test_kernels_of_3d_are_those_of_2d_in_its_planes() -> None:
    net = CrosslinkNet(1, 1, **tiny(3), branches=3)
    assert paths(net, 0) == [  # a plan's kernel of 1 stays 1
        [(1, 3, 1), (1, 3, 3), (1, 5, 3)],
        [(1, 1, 3), (1, 3, 3), (1, 3, 5)],
        [(1, 1, 1), (1, 3, 3), (1, 3, 3)],
    ]
    assert paths(net, 1) == [
        [(1, 3, 1), (3, 3, 3), (3, 5, 3)],
        [(1, 1, 3), (3, 3, 3), (3, 3, 5)],
        [(3, 1, 1), (3, 3, 3), (5, 3, 3)],
    ]


def test_branches_change_places_when_the_image_is_turned() -> None:
    # H is V with its axes exchanged: with V's weights, it gives the transposed result
    vertical, horizontal = (network(1, 2, **tiny(2, strides=[1, 2, 2, 2])) for network in (VerCrosslink, HorCrosslink))
    weights = vertical.state_dict()
    horizontal.load_state_dict({key: value.mT if value.ndim == 4 else value for key, value in weights.items()})
    x = torch.randn(2, 1, 16, 32)
    torch.testing.assert_close(vertical.double()(x.double()), horizontal.double()(x.double().mT).mT)


def test_branches_meet_in_the_decoder_alone() -> None:
    net = build(2)
    features, _ = net.encoder(image(2))
    features[-1][0].square().sum().backward()
    for name, parameter in net.encoder.named_parameters():
        of_vertical = ".paths.0." in name or ".joins.0." in name
        assert (parameter.grad is not None) == of_vertical, name


@pytest.mark.parametrize(
    ("dim", "supervision", "n_stages"),
    [(2, "none", 2), (2, "nnunet", 3), (2, "paper", 5), (3, "paper", 2), (3, "none", 3), (3, "nnunet", 5)],
)
def test_attention_follows_the_outputs_in_training(dim: int, supervision: str, n_stages: int) -> None:
    net = build(dim, n_stages=n_stages, attention=True, supervision=supervision, deep_supervision=True, branches=dim)
    x = torch.randn(2, 1, *[16, 16, 32][-dim:])
    outputs = net(x)
    logits, attention = outputs[:-dim], outputs[-dim:]
    assert len(logits) == (n_stages - 1 if supervision == "nnunet" else 1)
    stride = net.topology.stride_between(0, min(2, n_stages - 2))
    for a in attention:
        assert tuple(a.shape) == (2, 1, *(n // s for n, s in zip(x.shape[2:], stride, strict=True)))
    torch.stack([y.square().mean() for y in outputs]).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
    net.decoder.deep_supervision = False
    assert len(net(x)) == 1 + dim
    net.eval()
    assert isinstance(net(x), Tensor)
    net.decoder.deep_supervision = True
    assert len(net(x)) == len(logits)


def test_attention_is_of_the_third_block_and_changes_nothing_else() -> None:
    net, without = build(2, attention=True), build(2)
    extra = net.load_state_dict(without.state_dict(), strict=False)
    assert not extra.unexpected_keys
    assert all(key.startswith("attention.") for key in extra.missing_keys)
    x = image(2)
    logits, v, h = net(x)
    assert torch.equal(logits, without(x))
    features, _ = net.encoder(x)
    for attention, branch in zip((v, h), features[2], strict=True):
        assert torch.equal(attention, net.attention(branch))
    assert not torch.equal(v, h)


def test_attention_is_of_the_block_that_is_named_or_of_all() -> None:
    x = image(2)
    first = build(2, attention=True, attention_block=1)
    assert [tuple(a.shape[2:]) for a in first(x)[1:]] == [tuple(x.shape[2:])] * 2
    everywhere = build(2, attention=True, attention_block="all")
    features, _ = everywhere.encoder(x)
    tail = iter(everywhere(x)[1:])
    for head, branches in zip(everywhere.attention, features, strict=True):
        for branch in branches:
            assert torch.equal(next(tail), head(branch))
    assert next(tail, None) is None


def test_released_branch_borrows_the_vertical_ones_convolutions() -> None:
    net = CrosslinkNet(1, 2, **tiny(2), released=True)
    assert [len(stage.joins) for stage in net.encoder.stages] == [1, 1, 1]
    plain = net.encoder.stages[0].paths[1][1]
    x = image(2)
    assert (plain(x) < 0).any()  # not activated
    block = net.encoder.stages[0]
    fuse, residual = block.joins[0].fuse, block.joins[0].residual
    expected = nn.LeakyReLU()(fuse(torch.cat([path(x) for path in block.paths[1]], 1)) + residual(x))
    torch.testing.assert_close(block([x, x])[1], expected)


@pytest.mark.parametrize("options", [{"attention": True}, {"released": True}, {"decoder_kernel": 1}, {"branches": 3}])
def test_fusions_are_one_function_with_every_option(options: dict[str, Any]) -> None:
    dim = options.get("branches", 2)
    exact, textbook = (build(dim, **options, deep_supervision=True, fusion=f).double() for f in ("exact", "textbook"))
    textbook.load_state_dict(exact.state_dict())
    x = image(dim).double()
    for a, b in zip(exact(x), textbook(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"branches": 1}, "branches=1: give 2, or 3"),
        ({"attention": True, "attention_block": 4}, "attention_block=4: a network of 4 stages has 3 blocks before its"),
        ({"attention": True, "attention_block": 0}, "attention_block=0: .* give a number from 1 to that, or 'all'"),
        ({"branches": 3}, "branches=3: a third branch needs a third axis; give 2, or a 3D configuration"),
        ({"decoder_kernel": 5}, "decoder_kernel=5: give 3 for the stage's kernel, or 1"),
        ({"supervision": "deep"}, "supervision='deep'"),
        ({"wiring": "table"}, "CrosslinkNet takes no wiring"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrosslinkNet(1, 2, **tiny(2), **change)


def test_the_authors_code_has_two_branches() -> None:
    with pytest.raises(
        ValueError, match="released=True with branches=3: the authors' code has 2; leave one of them out"
    ):
        CrosslinkNet(1, 2, **tiny(3), branches=3, released=True)


def test_ablations_take_no_option_of_the_whole_network() -> None:
    with pytest.raises(ValueError, match="VerCrosslink takes no attention"):
        VerCrosslink(1, 2, **tiny(2), attention=True)
    with pytest.raises(ValueError, match="branches=3: give one of 2, 1"):
        SquareCrosslink(1, 2, **tiny(2), branches=3)

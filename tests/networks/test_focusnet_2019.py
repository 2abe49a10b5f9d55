"""FocusNet: the contract, its gates, and its upsampling as Keras has it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nnunet_archs.networks import Topology
from nnunet_archs.networks.focusnet_2019 import DecoderStage, FocusNet
from nnunet_archs.testing import NetworkContract, shape_case


class TestContract(NetworkContract):
    networks = (FocusNet,)


def test_stages_are_weighed_by_what_the_first_unet_decodes() -> None:
    case = shape_case("3d-anisotropic")
    net = case.build(FocusNet).eval()
    seen: list[torch.Tensor] = []
    net.attention.register_forward_hook(lambda module, inputs, output: seen.extend(output))
    x = case.image(FocusNet)
    net(x)
    # stages 0 and 1 of 4, each with the next one's width
    assert [(y.shape[1], *y.shape[2:]) for y in seen] == [(4, 4, 8, 16), (8, 4, 4, 8)]
    stage, y = net.encoder.stages[0], net.encoder.stem(x)
    first, second = stage.excite
    expected = stage.down(second(first(stage.block(y)) * seen[0].sigmoid()))
    torch.testing.assert_close(stage(y, seen[:1]), expected)
    assert [len(stage.excite) for stage in net.encoder.stages] == [2, 2, 1]


def test_skips_of_the_second_unet_are_strided_results() -> None:
    case = shape_case("2d")
    net = case.build(FocusNet).eval()
    seen: list[torch.Tensor] = []
    net.encoder.register_forward_hook(lambda module, inputs, output: seen.extend(output))
    net(case.image(FocusNet))
    assert [tuple(y.shape[2:]) for y in seen] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_kernel_of_two_reads_a_voxel_and_the_next() -> None:
    torch.manual_seed(0)
    stage = DecoderStage(3, 2, 4, 0, Topology(**shape_case("2d-anisotropic").kwargs)).double()
    y, skip = torch.randn(2, 3, 4, 6, dtype=torch.float64), torch.randn(2, 2, 8, 6, dtype=torch.float64)
    conv = stage.up.conv
    repeated = y.repeat_interleave(2, dim=2)
    following = F.pad(repeated[:, :, 1:], (0, 0, 0, 1))
    weight = conv.weight.movedim(2, 1).flatten(1, 2)[..., None]
    up = F.conv2d(torch.cat([repeated, following], dim=1), weight, conv.bias)
    expected = stage.block(torch.cat([skip, F.leaky_relu(up)], dim=1))
    torch.testing.assert_close(stage(y, skip), expected)


def test_exact_and_textbook_are_one_function() -> None:
    case = shape_case("3d")
    results = []
    # without a bias the activation, in place, follows the fused sum itself
    for fusion in ("exact", "textbook"):
        net = case.build(FocusNet, fusion=fusion, conv_bias=False, deep_supervision=True).double().eval()
        outputs = net(case.image(FocusNet).double())
        torch.stack([y.square().mean() for y in outputs]).sum().backward()
        results.append([*outputs, *(p.grad for p in net.parameters())])
    for exact, textbook in zip(*results, strict=True):
        torch.testing.assert_close(exact, textbook, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_plan_without_normalisation(checkpoint: bool) -> None:
    case = shape_case("2d")
    net = case.build(
        FocusNet, deep_supervision=True, norm_op=None, nonlin_kwargs={"inplace": not checkpoint}, checkpoint=checkpoint
    )
    torch.stack([y.mean() for y in net(case.image(FocusNet))]).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())

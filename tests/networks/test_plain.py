"""The exact form in plain operators, as exported graphs have it, against the textbook's."""

from typing import get_args
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fusion import sources, topology
from test_networks import NETWORKS, arguments, build_from, random_topologies, run

from nnunet_archs.networks import UNetSharp
from nnunet_archs.networks.parts import fusion, plain
from nnunet_archs.networks.parts.fusion import FusionConv, convolve
from nnunet_archs.networks.parts.plain import contracted, contracted_axes
from nnunet_archs.networks.parts.separable import Interpolation, upsample

as_exported = patch.object(fusion, "is_exported", lambda: True)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(case=sources(), bias=st.booleans(), interpolation=st.sampled_from(get_args(Interpolation)))
@torch.no_grad()
def test_it_equals_textbook(case, bias, interpolation):
    size, kernel, lower, channels = case
    torch.manual_seed(0)
    exact, textbook = (
        FusionConv(channels, 3, kernel, topology(len(size), bias), interpolation=interpolation, fusion=form).double()
        for form in ("exact", "textbook")
    )
    textbook.load_state_dict(exact.state_dict())
    data = [torch.randn(2, c, *s, dtype=torch.double) for c, s in zip(channels, [size, *lower], strict=True)]
    with as_exported:
        y = exact(data)
    torch.testing.assert_close(y, textbook(data), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("low", "high"),
    [((3, 5), (12, 5)), ((1, 4), (7, 9)), ((40, 6), (160, 12)), ((35, 3), (140, 9)), ((2, 70, 2), (4, 140, 6))],
)
@pytest.mark.parametrize("taps", [1, 3, 5])
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
@torch.no_grad()
def test_whichever_axes_are_contracted(low, high, taps, interpolation):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, *low, dtype=torch.double), torch.randn(4, 3, *[taps] * len(low), dtype=torch.double)
    expected = convolve(upsample(x, high, interpolation), weight)
    upsampled = [a for a in range(len(low)) if low[a] < high[a]]
    for n in range(1, 1 + len(upsampled)):
        axes = upsampled[:n]
        others = [low[a] if a in axes else high[a] for a in range(len(low))]
        y = contracted(upsample(x, others, interpolation), weight, high, axes, interpolation)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_taps_that_would_be_large_are_computed_in_parts():
    conv = FusionConv([2, 6], 5, (3, 3), topology(2, True)).double()
    data = [torch.randn(1, 2, 12, 8, dtype=torch.double), torch.randn(1, 6, 3, 2, dtype=torch.double)]
    y = conv(data)
    with as_exported, patch.object(plain, "PART_BYTES", 1), patch.object(plain, "MOST_PARTS", 2):
        torch.testing.assert_close(conv(data), y)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(network=st.sampled_from(NETWORKS), case=random_topologies())
@torch.no_grad()
def test_networks_of_random_topologies(network, case):
    exact, x = build_from(network, *case, supervision="paper", deep_supervision=True)
    textbook, _ = build_from(network, *case, supervision="paper", deep_supervision=True, fusion="textbook")
    textbook.load_state_dict(exact.state_dict())
    with as_exported:
        outputs = run(exact.double(), x.double())
    for a, b in zip(outputs, run(textbook.double(), x.double()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def weight(out_channels, in_channels, *kernel):
    return torch.empty(out_channels, in_channels, *kernel, device="meta")


def test_the_last_axis_of_a_doubled_map_is_interpolated_first():
    assert contracted_axes([32, 32, 32], [64, 64, 64], weight(16, 32, 3, 3, 3)) == [0, 1]
    assert contracted_axes([16, 16, 16], [64, 64, 64], weight(16, 64, 3, 3, 3)) == [0, 1, 2]
    assert contracted_axes([128, 128], [256, 256], weight(32, 64, 3, 3)) == [0]
    # two channels are upsampled for less than 32 are contracted
    assert contracted_axes([64, 64], [128, 128], weight(32, 2, 1, 1)) == []
    # an axis that stays is convolved as ever
    assert contracted_axes([8, 16, 16], [8, 64, 64], weight(32, 128, 3, 3, 3)) == [1, 2]


@pytest.mark.parametrize("strict", [False, True])
def test_the_exported_program_has_no_concatenation_at_full_resolution_and_shares_its_constants(strict):
    net, x = build_from(UNetSharp, (32, 32, 32), arguments(3, [1, 2, 2], 3) | {"features_per_stage": [8, 16, 32]})
    program = torch.export.export(net.eval(), (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=strict)
    run = program.module()
    for batch in (1, 3):
        image = torch.randn(batch, *x.shape[1:])
        torch.testing.assert_close(run(image), net(image))
    values = [node.meta["val"] for node in program.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    # X[0, 2] has 2 x 8 channels of its own stage, and 16 and 32 of the others
    assert max(value.shape[1] for value in values if value.shape[2:] == x.shape[2:]) == 16
    if not strict:  # 8 to 16, 16 to 32 and 8 to 32 positions, with the taps beside them or one after the other
        shapes = [tuple(constant.shape) for constant in program.constants.values()]
        assert sorted(shapes) == [(16, 24), (32, 24), (32, 48)]

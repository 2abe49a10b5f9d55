"""FocusNet++: its sizes to the digit, its block and fusion as the paper writes them, and its options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_archs.networks import FocusNetPlusPlus, Topology
from nnunet_archs.networks.focusnet import ResGA

TEXT = [32, 64, 128, 192, 256]
RELEASED = [48, 96, 156, 256, 512]
LIGHT = [16, 32, 64, 128, 256]


def topology(dim: int, strides: list[Any], features: list[int], **changes: Any) -> dict[str, Any]:
    return {
        "n_stages": len(strides),
        "features_per_stage": features,
        "conv_op": nn.Conv2d if dim == 2 else nn.Conv3d,
        "kernel_sizes": 3,
        "strides": strides,
        "conv_bias": True,
        "norm_op": nn.BatchNorm2d if dim == 2 else nn.BatchNorm3d,
        **changes,
    }


def build(**changes: Any) -> FocusNetPlusPlus:
    torch.manual_seed(0)
    kwargs: dict[str, Any] = {**topology(2, [1, 2, [1, 2], 2], [8, 4, 12, 8]), **changes}
    return FocusNetPlusPlus(2, kwargs.pop("num_classes", 3), **kwargs)


# Size


@pytest.mark.parametrize(
    ("features", "options", "trained", "with_statistics"),
    [
        (TEXT, {}, 3_288_741, 3_308_293),
        (RELEASED, {}, 7_779_569, 7_808_481),
        (RELEASED, {"block": "released"}, 7_771_723, 7_803_739),  # Table 2: 7.80
        (LIGHT, {"block": "released"}, 1_840_583, 1_855_639),  # Table 3: 1.84
        (LIGHT, {"stem": 16}, 1_831_061, 1_844_565),
        ([16, 32, 56, 92, 180], {"block": "released", "stem": 16}, 1_003_591, 1_015_223),
    ],
    ids=["text", "L", "released", "S", "S of the text's block", "a million"],
)
def test_size_to_the_digit(features: list[int], options: dict[str, Any], trained: int, with_statistics: int) -> None:
    with torch.device("meta"):
        net = FocusNetPlusPlus(3, 1, **topology(2, [1, 2, 2, 2, 2], features), **options)
    statistics = [buffer for buffer in net.buffers() if buffer.ndim]  # the count of batches apart
    assert sum(p.numel() for p in net.parameters()) == trained
    assert sum(p.numel() for p in [*net.parameters(), *statistics]) == with_statistics


# The paper's equations


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.3 * x)


def batch_norm(x: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt()


@pytest.mark.parametrize("block", ["text", "released"])
@pytest.mark.parametrize("out_channels", [8, 12])
def test_block_is_that_of_figure_2(block: Any, out_channels: int) -> None:
    torch.manual_seed(0)
    res_ga = ResGA(8, out_channels, Topology(**topology(2, [1, 2], [8, 8])), 0, block=block).double()
    w = dict(res_ga.named_parameters())

    def conv(x: Tensor, name: str) -> Tensor:
        weight = w[f"{name}.weight"]
        return F.conv2d(x, weight, w[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def branch(x: Tensor, name: str) -> Tensor:
        for i in range(2):
            x = conv(lrelu(batch_norm(x)), f"{name}.{i}.conv")
        return x

    def pair(attending: Tensor, attended: Tensor, name: str) -> Tensor:
        a = torch.sigmoid(conv(branch(attending, f"{name}.attention"), f"{name}.attention.2"))
        skip = attended if block == "text" else lrelu(batch_norm(conv(attended, f"{name}.skip.conv")))
        return lrelu(batch_norm(conv(a * (skip + branch(attended, f"{name}.residual")), f"{name}.widen.conv")))

    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    g1, g2, g3, g4 = conv(x, "split").split(2, dim=1)
    y = conv(torch.cat([pair(g1, g2, "pairs.0"), pair(g3, g4, "pairs.1")], 1), "embedding")
    m = batch_norm(y)
    if block == "text":
        hidden = torch.einsum("oi,bi->bo", w["excite.weigh.0.weight"][:, :, 0, 0], y.mean((2, 3))).clamp(min=0)
        gate = torch.einsum("oi,bi->bo", w["excite.weigh.2.weight"][:, :, 0, 0], hidden).sigmoid()
        m = m * gate[:, :, None, None]
    shortcut = x if out_channels == 8 else batch_norm(conv(x, "shortcut.conv"))
    torch.testing.assert_close(res_ga(x), lrelu(shortcut + m))


def test_gate_sees_the_image_also_behind_an_instance_norm() -> None:
    torch.manual_seed(0)
    kwargs = {**topology(2, [1, 2], [8, 8]), "norm_op": nn.InstanceNorm2d, "norm_op_kwargs": {"affine": True}}
    res_ga = ResGA(8, 8, Topology(**kwargs), 0, block="text").double()
    seen: list[Tensor] = []
    res_ga.excite.weigh.register_forward_hook(lambda *args: seen.append(args[-1]))
    res_ga(torch.randn(2, 8, 5, 6, dtype=torch.float64)).square().sum().backward()
    # a mean taken behind the norm would be the same to rounding, 1e-16
    assert (seen[0][0] - seen[0][1]).abs().max() > 1e-5
    assert all(parameter.grad.abs().max() > 1e-5 for parameter in res_ga.excite.parameters())


@pytest.mark.parametrize("block", ["text", "released"])
def test_output_fuses_what_repeated_features_say(block: Any) -> None:
    # the paper repeats features up to the output's size, and makes outputs of them there
    net = build(block=block, supervision="none").double()
    x = torch.randn(2, 2, 16, 24, dtype=torch.float64)
    decoded: list[Tensor] = []
    for stage in net.decoder_stages:
        stage.register_forward_hook(lambda module, inputs, output: decoded.insert(0, output))
    net.dropout.p = 0.0
    output = net(x)
    outputs = []
    for project, head, y in zip(net.projections, net.heads.seg_layers.values(), decoded, strict=True):
        for axis in (2, 3):
            y = y.repeat_interleave(x.shape[axis] // y.shape[axis], axis)
        outputs.append(head(project(y)).sigmoid())
    join, last = net.fuse.seg_layers
    joined = F.conv2d(torch.cat(outputs, 1), join.conv.conv.weight, join.conv.conv.bias)
    torch.testing.assert_close(output, last(lrelu(batch_norm(joined))))


def test_skips_are_added() -> None:
    net = build()
    stage = net.decoder_stages[0]
    y, skip = torch.randn(2, 4, 3, 4), torch.randn(2, 8, 6, 8)
    repeated = y.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = F.relu(F.conv2d(stage.block(repeated) + skip, stage.convs[0].weight, stage.convs[0].bias, padding=1))
    torch.testing.assert_close(stage(y, skip), expected)


# Structure


def test_first_convolution_reaches_five_voxels_where_the_plan_has_a_kernel() -> None:
    kernels = [[1, 3, 3], [3, 3, 3]]
    net = build(**topology(3, [1, 2], [8, 8], kernel_sizes=kernels), stem=4)
    assert net.encoder.stem.kernel_size == (1, 5, 5)
    assert net.encoder.stem.out_channels == 4


@pytest.mark.parametrize(("n_stages", "blocks"), [(2, [1, 2]), (3, [1, 3, 2]), (6, [1, 3, 3, 3, 3, 2])])
def test_blocks_of_the_encoder(n_stages: int, blocks: list[int]) -> None:
    net = build(**topology(2, [1] + [2] * (n_stages - 1), [4] * n_stages))
    assert [len(stage) for stage in net.encoder.stages] == blocks


def test_bottleneck_drops_out_in_training_alone() -> None:
    net = build()
    features: list[Tensor] = []
    net.dropout.register_forward_hook(lambda module, inputs, output: features.extend((inputs[0], output)))
    x = torch.randn(2, 2, 32, 64)
    net(x)
    before, after = features
    assert before.shape == (2, 8, 8, 8)
    dropped = (after == 0).double().mean()
    assert 0.35 < dropped < 0.65
    torch.testing.assert_close(after[after != 0], 2 * before[after != 0])
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("block", ["text", "released"])
def test_what_the_number_of_classes_shapes_is_left_out_of_pretraining(block: Any) -> None:
    a, b = (build(num_classes=n, block=block).state_dict() for n in (2, 5))
    assert a.keys() == b.keys()
    changed = {key for key in a if a[key].shape != b[key].shape}
    assert len(changed) == 2 * 3 + 1 + 2  # three outputs, the convolution that joins them, the last one
    assert all(".seg_layers." in key for key in changed)


def test_state_dict_does_not_depend_on_the_supervision() -> None:
    states = [build(supervision=supervision).state_dict() for supervision in ("none", "nnunet", "paper")]
    assert states[0].keys() == states[1].keys() == states[2].keys()


@pytest.mark.parametrize(("supervision", "stages"), [("none", (0,)), ("paper", (0,)), ("nnunet", (0, 1, 2))])
def test_outputs(supervision: Any, stages: tuple[int, ...]) -> None:
    net = build(supervision=supervision, deep_supervision=True)
    assert net.branch_stages == stages
    sizes = [(16, 24), (8, 12), (8, 6)]
    assert [y.shape[2:] for y in net(torch.randn(2, 2, 16, 24))] == [sizes[i] for i in stages]


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (16, 24)),
        (topology(2, [1, 2], [4, 8]), (4, 6)),
        (topology(3, [1, [1, 2, 2], 2], [4, 8, 8], kernel_sizes=[[1, 3, 3], 3, 3]), (4, 8, 8)),
        (topology(2, [1, 2], [4, 8], norm_op=None), (4, 6)),
    ],
    ids=["2D", "2 stages", "3D", "no norm"],
)
def test_released_block_keeps_the_contract(changes: dict[str, Any], size: tuple[int, ...]) -> None:
    results = []
    for fusion in ("exact", "textbook"):
        net = build(**changes, block="released", deep_supervision=True, fusion=fusion).double()
        torch.manual_seed(1)
        outputs = net(torch.randn(2, 2, *size, dtype=torch.float64))
        torch.stack([y.square().mean() for y in outputs]).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        results.append([*outputs, *(p.grad for p in net.parameters())])
    for exact, textbook in zip(*results, strict=True):
        torch.testing.assert_close(exact, textbook, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block": "paper"}, "block='paper': give one of text, released"),
        ({"supervision": "deep"}, "supervision='deep': give one of none, nnunet, paper"),
        ({"stem": 30}, r"stem=\[30\]: .* 4 groups; give multiples of 4"),
        ({"stem": 0}, r"stem=\[0\]: .* multiples of 4"),
        ({"features_per_stage": [8, 4, 6, 8]}, r"features_per_stage=\[8, 4, 6, 8\]: .* multiples of 4"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changes)

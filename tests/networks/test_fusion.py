"""The exact form of a fused convolution against the textbook's."""

import copy
import pickle
from collections import Counter
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from nnunet_archs.networks import Topology
from nnunet_archs.networks.parts import separable as fuse_module
from nnunet_archs.networks.parts.fusion import FusionConv, convolve, is_fused
from nnunet_archs.networks.parts.separable import CHUNK_BYTES, Interpolation, bands, fuse, operator, upsample


@st.composite
def sources(draw):
    """A fused convolution: output size, kernel, and the sizes and channels of the upsampled sources."""
    dim = draw(st.sampled_from([2, 3]))
    size = tuple(draw(st.integers(2, 13)) for _ in range(dim))
    kernel = tuple(draw(st.sampled_from([1, 3, 5])) for _ in range(dim))
    lower = [tuple(draw(st.integers(1, n)) for n in size) for _ in range(draw(st.integers(0, 3)))]
    channels = [draw(st.integers(1, 4)) for _ in range(1 + len(lower))]
    return size, kernel, lower, channels


def topology(dim, bias):
    conv_op = nn.Conv2d if dim == 2 else nn.Conv3d
    return Topology(
        n_stages=2, features_per_stage=[1, 1], conv_op=conv_op, kernel_sizes=[3, 3], strides=[1, 2], conv_bias=bias
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(case=sources(), bias=st.booleans(), interpolation=st.sampled_from(get_args(Interpolation)), first=st.booleans())
def test_exact_equals_textbook(case, bias, interpolation, first):
    size, kernel, lower, channels = case
    # the grid need not be that of the first source
    if lower and not first:
        lower, channels = lower[::-1], channels[1:]
    shapes = [size, *lower] if first or not lower else lower
    torch.manual_seed(0)
    shape = topology(len(size), bias)
    exact = FusionConv(channels, 3, kernel, shape, interpolation=interpolation).double()
    textbook = FusionConv(channels, 3, kernel, shape, interpolation=interpolation, fusion="textbook").double()
    textbook.load_state_dict(exact.state_dict())
    results = []
    data = [torch.randn(2, c, *s, dtype=torch.double) for c, s in zip(channels, shapes, strict=True)]
    for conv in (exact, textbook):
        inputs = [x.clone().requires_grad_() for x in data]
        y = conv(inputs, size)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        results.append([y, *(x.grad for x in inputs), *(p.grad for p in conv.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ((3, 5), (12, 5)),
        ((1, 4), (7, 9)),
        # more than a block along an axis, whole factors and others
        ((80, 2), (160, 5)),
        ((70, 97), (129, 140)),
        ((2, 3, 4), (8, 3, 16)),
        ((4, 4, 4), (8, 8, 8)),
        ((5, 1, 2), (5, 1, 6)),
    ],
)
@pytest.mark.parametrize("taps", [1, 3, 5])
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
@pytest.mark.parametrize("chunk_bytes", [1, 2**24])
def test_fuse_is_upsampling_then_convolution(low, high, taps, interpolation, chunk_bytes, monkeypatch):
    monkeypatch.setitem(CHUNK_BYTES, "cpu", chunk_bytes)
    torch.manual_seed(0)
    kernel = [1 if n == m else taps for n, m in zip(low, high, strict=True)]
    x = torch.randn(2, 3, *low, dtype=torch.double, requires_grad=True)
    weight = torch.randn(4, 3, *kernel, dtype=torch.double, requires_grad=True)
    results = []
    for y in (convolve(upsample(x, high, interpolation), weight), fuse([x], [weight], high, interpolation)):
        loss = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum()
        results.append([y, *torch.autograd.grad(loss, (x, weight))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_what_torch_compile_sees_is_an_operator_as_torch_wants_it():
    x = [torch.randn(2, c, *size, requires_grad=True) for c, size in ((3, (4, 5)), (2, (2, 5)))]
    weights = [torch.randn(4, c, 3, 3, requires_grad=True) for c in (3, 2)]
    torch.library.opcheck(fuse_module.fused_operator, ([*x, *weights], [8, 10], "aligned"))


def weight(out_channels, in_channels, *kernel):
    return torch.empty(out_channels, in_channels, *kernel, device="meta")


def test_the_rule_takes_each_form_where_it_is_cheaper():
    assert is_fused([16, 16], [256, 256], weight(32, 64, 3, 3))
    assert is_fused([32, 32, 32], [64, 64, 64], weight(32, 64, 3, 3, 3))
    # two channels are upsampled for less than 32 are contracted
    assert not is_fused([64, 64], [128, 128], weight(32, 2, 1, 1))


def test_kernels_along_an_axis_that_stays_are_convolved():
    assert is_fused([8, 16, 16], [8, 64, 64], weight(32, 64, 1, 3, 3))
    assert not is_fused([8, 16, 16], [8, 64, 64], weight(32, 64, 3, 3, 3))
    assert not is_fused([8, 16, 16], [8, 16, 16], weight(32, 64, 3, 3, 3))


def test_nothing_of_the_operators_is_in_the_module():
    conv = FusionConv([2, 3], 4, (3, 3), topology(2, True))
    data = [torch.randn(1, 2, 8, 8), torch.randn(1, 3, 2, 2)]
    y = conv(data)
    assert {key: tuple(value.shape) for key, value in conv.state_dict().items()} == {
        "conv.weight": (4, 5, 3, 3),
        "conv.bias": (4,),
    }
    for copied in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(copied(data), y)


@pytest.mark.parametrize("taps", [1, 3, 5, 7])
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_bands_leave_nothing_out(taps, interpolation, monkeypatch):
    monkeypatch.setattr(fuse_module, "BLOCK", 4)
    for n_out in range(1, 40):
        for n_in in range(1, n_out + 1):
            matrices = operator(n_in, n_out, taps, interpolation, torch.empty(0)).ne(0).any(0)
            for blocks, reached in ((bands(n_out, n_in, taps), matrices), (bands(n_in, n_out, taps), matrices.T)):
                left = reached.clone()
                for rows, columns in blocks:
                    left[rows, columns] = False
                assert not left.any(), (n_in, n_out)


def test_idle_multiply_adds_are_those_on_zeros():
    # 4 to 8 positions with corners aligned: every tap has 8 rows, two entries each, but for the coinciding ends and
    # what is shifted beyond the border; two axes, the first contracted for the 3 taps of the second
    conv = FusionConv([16], 5, (3, 3), topology(2, False))
    matrices = operator(4, 8, 3, "aligned", torch.empty(0))
    zeros = int((matrices == 0).sum())
    assert zeros == 3 * 8 * 4 - (14 + 13 + 13)
    assert conv.idle_multiply_adds([torch.empty(2, 16, 4, 4)], (8, 8)) == 2 * 5 * (3 * 4 * zeros + 8 * zeros)


def test_a_source_that_is_upsampled_is_convolved_once():
    # two channels: upsampling them is cheaper than fusing. Backward makes the upsampled again, not the convolution
    conv = FusionConv([2], 32, (1, 1), topology(2, False), interpolation="nearest")
    x = torch.randn(1, 2, 16, 16, requires_grad=True)
    with CountCalls() as counted:
        conv([x], (32, 32)).sum().backward()
    assert counted.calls["upsample_nearest2d"] == 2
    assert counted.calls["convolution"] == 1


class CountCalls(TorchDispatchMode):
    """How often each operator runs."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_checkpointing_around_it():
    torch.manual_seed(0)
    conv = FusionConv([2, 3], 4, (3, 3), topology(2, True))
    results = []
    for call in (conv, lambda data: checkpoint(conv, data, use_reentrant=False)):
        data = [torch.ones(1, 2, 8, 8, requires_grad=True), torch.ones(1, 3, 2, 2, requires_grad=True)]
        results.append(torch.autograd.grad(call(data).square().sum(), data))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_double_precision_stays_under_autocast():
    x, weight = torch.randn(1, 2, 4, 4, dtype=torch.double), torch.randn(3, 2, 3, 3, dtype=torch.double)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = fuse([x], [weight], (8, 8), "aligned")
    torch.testing.assert_close(y, convolve(upsample(x, (8, 8), "aligned"), weight))


def test_predicting_first_leaves_training_alone():
    torch.manual_seed(0)
    conv = FusionConv([2, 3], 4, (3, 3), topology(2, True))
    # a size that no other test has: what is made for it is made in inference mode
    data = [torch.randn(1, 2, 28, 36), torch.randn(1, 3, 7, 9)]
    with torch.inference_mode():
        predicted = conv(data)
    y = conv(data)
    y.sum().backward()
    assert torch.equal(y, predicted)
    assert conv.conv.weight.grad is not None


def test_fake_tensors_mix_with_nothing_that_is_kept():
    def run():
        conv = FusionConv([2, 3], 4, (3, 3), topology(2, True))
        return conv([torch.ones(1, 2, 8, 8), torch.ones(1, 3, 2, 2)])

    for _ in range(2):
        assert torch.isfinite(run()).all()
        with FakeTensorMode():
            assert run().shape == (1, 4, 8, 8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_under_autocast(dtype):
    torch.manual_seed(0)
    conv = FusionConv([4, 8], 4, (3, 3), topology(2, True))
    data = [torch.randn(1, 4, 16, 16), torch.randn(1, 8, 4, 4)]
    results = []
    for enabled in (True, False):
        inputs = [x.clone().requires_grad_() for x in data]
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            y = conv(inputs)
        assert y.dtype == (dtype if enabled else torch.float32)
        gradients = torch.autograd.grad(y.float().square().mean(), [*inputs, *conv.parameters()])
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        results.append([y.float(), *gradients])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)

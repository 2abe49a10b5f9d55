"""Convolution of feature maps from several scales without the tensor that holds them all at the finest one.

The papers upsample every source to the finest grid, concatenate, and convolve. Convolution is linear, and so is
interpolation, nearest or linear, so the same function is a sum over the sources:

    conv(cat(x_0, up(x_1), ..., up(x_k))) = conv_0(x_0) + fuse_1(x_1) + ... + fuse_k(x_k)

`fuse` applies the kernel's taps where the source is small (a convolution of kernel 1 along the upsampled axes, to
taps x out channels), then contracts, an axis at a time, the taps and positions of that axis with the matrix "upsample,
then shift by the tap, zeros beyond the border". Both are separable, hence this is exact, borders included.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import reduce
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contract import check_choice
from .topology import Axes, Topology

Fusion = Literal["exact", "textbook"]

# how features are upsampled: linearly with corners aligned or not, or by repeating them
Interpolation = Literal["aligned", "linear", "nearest"]

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class FusionConv(nn.Module):
    """Convolution of `cat(up(x_0), ..., up(x_k))`, all brought onto one grid by interpolation.

    `fusion="exact"` and `fusion="textbook"` compute one function from one weight of the textbook's shape
    `(C_out, sum of C_in, *kernel)`: their state dicts are the same.

    Raises:
        ValueError: for a fusion that does not exist.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        kernel: Axes,
        topology: Topology,
        *,
        interpolation: Interpolation = "aligned",
        fusion: Fusion = "exact",
    ) -> None:
        super().__init__()
        check_choice("fusion", fusion, get_args(Fusion))
        self.in_channels = list(in_channels)
        self.interpolation: Interpolation = interpolation
        self.fusion = fusion
        self.conv = topology.conv(sum(in_channels), out_channels, kernel)

    def forward(self, sources: Sequence[Tensor], size: Sequence[int] | None = None) -> Tensor:
        """Sources `(B, C_k, *spatial_k)` to `(B, C_out, *size)`, by default the size of the first."""
        size = sources[0].shape[2:] if size is None else size
        if self.fusion == "textbook":
            return self.conv(torch.cat([upsample(x, size, self.interpolation) for x in sources], dim=1))
        weights = self.conv.weight.split(self.in_channels, dim=1)
        biases = [self.conv.bias, *[None] * (len(sources) - 1)]
        terms = zip(sources, weights, biases, strict=True)
        return reduce(operator.add, (self.convolve_source(x, w, b, size) for x, w, b in terms))

    def convolve_source(self, x: Tensor, weight: Tensor, bias: Tensor | None, size: Sequence[int]) -> Tensor:
        """What one source adds to the sum, in the cheaper form."""
        if not taps_first(x.shape[2:], size, weight):
            return convolve(upsample(x, size, self.interpolation), weight, bias)
        y = fuse(x, weight, size, self.interpolation)
        return y if bias is None else y + bias.to(y.dtype).view(-1, *[1] * (y.ndim - 2))


def upsample(x: Tensor, size: Sequence[int], interpolation: Interpolation = "aligned") -> Tensor:
    """Interpolation of `(B, C, *spatial)` to `size`."""
    if x.shape[2:] == torch.Size(size):
        return x
    if interpolation == "nearest":
        return F.interpolate(x, size=tuple(size), mode="nearest")
    return F.interpolate(x, size=tuple(size), mode=LINEAR[x.ndim - 2], align_corners=interpolation == "aligned")


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution of `(B, C, *spatial)` that keeps the spatial size."""
    conv = F.conv3d if x.ndim == 5 else F.conv2d
    return conv(x, weight, bias, padding=[k // 2 for k in weight.shape[2:]])


def taps_first(in_size: Sequence[int], out_size: Sequence[int], weight: Tensor) -> bool:
    """Whether `fuse` takes fewer multiply-adds than upsampling first.

    At a factor of 4 or more it nearly always does, and is faster in proportion. At 2 it does in 3D up to large patches,
    where it is about as fast on CPU cores and keeps less for backward. On large planes of few channels its dense
    contractions cost more.
    """
    out_channels, in_channels, *kernel = weight.shape
    pointwise = in_channels * out_channels * math.prod(kernel)
    fused, shape = pointwise * math.prod(in_size), [k * n for k, n in zip(kernel, in_size, strict=True)]
    for axis, (old, new) in enumerate(zip(in_size, out_size, strict=True)):
        contracted = shape[axis]
        shape[axis] = new
        if old != new:
            fused += out_channels * math.prod(shape) * contracted
    return pointwise * math.prod(out_size) > fused


def fuse(x: Tensor, weight: Tensor, size: Sequence[int], interpolation: Interpolation) -> Tensor:
    """`convolve(upsample(x, size, interpolation), weight)` without a tensor of C_in channels at `size`."""
    dim, out_channels, kernel = x.ndim - 2, weight.shape[0], weight.shape[2:]
    up = [a for a in range(dim) if x.shape[2 + a] != size[a]]
    stay = [a for a in range(dim) if a not in up]

    # weight (O, I, *kernel) -> (taps of the upsampled axes and O, I, kernel along the others)
    low = weight.permute(*(2 + a for a in up), 0, 1, *(2 + a for a in stay))
    low = low.reshape(-1, weight.shape[1], *(kernel[a] if a in stay else 1 for a in range(dim)))
    y = convolve(x, low)
    y = y.unflatten(1, (*(kernel[a] for a in up), out_channels))

    # dimensions of y: B, taps of `up`, O, spatial; each contraction takes a tap and an axis away and appends the axis
    axes = list(range(dim))
    for done, a in enumerate(up):
        position = 2 + (len(up) - done) + axes.index(a)
        shift = shifted_upsampling(x.shape[2 + a], size[a], kernel[a], interpolation, y)
        y = torch.tensordot(y, shift, dims=([1, position], [1, 2]))
        axes.remove(a)
        axes.append(a)
    return y.permute(0, 1, *(2 + axes.index(a) for a in range(dim)))


def shifted_upsampling(in_size: int, out_size: int, taps: int, interpolation: Interpolation, like: Tensor) -> Tensor:
    """Operator `(out_size, taps, in_size)`: interpolate along an axis, then shift by the tap, zero beyond the border.

    The interpolation's weights are torch's own: the identity, interpolated.
    """
    precise = torch.promote_types(like.dtype, torch.float32)
    identity = torch.eye(in_size, device=like.device, dtype=precise)[None]
    rows = upsample(identity, (out_size,), interpolation)[0].T
    rows = F.pad(rows, (0, 0, taps // 2, taps // 2))
    return rows.unfold(0, out_size, 1).permute(2, 0, 1).to(like.dtype)

"""Convolution of feature maps from several scales without the tensor that holds them all at the finest one.

The papers upsample every source to the finest grid, concatenate, and convolve. Convolution is linear, and so is
interpolation, nearest or linear, so the same function is a sum over the sources:

    conv(cat(x_0, up(x_1), ..., up(x_k))) = conv(cat(x_0, up(x_1))) + conv_2(up(x_2)) + ... + conv_k(up(x_k))

Here is decided how each source is computed: those below the grid are fused (`separable.py`), where that is cheaper;
what is left is upsampled, concatenated and convolved, and this concatenation is made again for backward, never kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contract import check_choice
from .plain import contracted_axes, is_exported, plain_sum
from .recompute import recomputed
from .separable import Interpolation, band_area, contractions, fuse, idle_multiply_adds, upsample
from .topology import Axes, Topology

Fusion = Literal["exact", "textbook"]
Pair: TypeAlias = tuple[Tensor, Tensor]

# what takes the time of how many multiply-adds of a convolution: an upsampled value, a multiply-add of a contraction,
# and a value that it adds to. Fitted to training steps of single sources on a CPU (docs/fusion.md)
UPSAMPLED, CONTRACTED, MOVED = 200, 0.5, 30


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
            return self.conv(concatenated(sources, size, self.interpolation))
        fused, near = self.sort(sources, size)
        if not fused:
            return convolve_joined(sources, [self.conv.weight], self.conv.bias, size, self.interpolation)
        form = plain_sum if is_exported() else fuse
        y = form([x for x, _ in fused], [weight for _, weight in fused], size, self.interpolation)
        if near:
            xs, weights = [x for x, _ in near], [weight for _, weight in near]
            return y + convolve_joined(xs, weights, self.conv.bias, size, self.interpolation)
        return y if self.conv.bias is None else y + self.conv.bias.to(y.dtype).view(-1, *[1] * (y.ndim - 2))

    def sort(self, sources: Sequence[Tensor], size: Sequence[int]) -> tuple[list[Pair], list[Pair]]:
        """The sources with their weights: those that are fused, and the others."""
        is_cheaper = contracted_axes if is_exported() else is_fused
        fused: list[Pair] = []
        near: list[Pair] = []
        for x, weight in zip(sources, self.conv.weight.split(self.in_channels, dim=1), strict=True):
            (fused if is_cheaper(x.shape[2:], size, weight) else near).append((x, weight))
        return fused, near

    def idle_multiply_adds(self, sources: Sequence[Tensor], size: Sequence[int] | None = None) -> int:
        """How many of the forward pass' multiply-adds fall on zeros of the operators that upsample."""
        size = sources[0].shape[2:] if size is None else size
        out_channels, _, *kernel = self.conv.weight.shape
        return sum(
            x.shape[0] * out_channels * idle_multiply_adds(x.shape[2:], size, kernel, self.interpolation)
            for x, _ in self.sort(sources, size)[0]
        )


def convolve_joined(
    sources: Sequence[Tensor],
    weights: Sequence[Tensor],
    bias: Tensor | None,
    size: Sequence[int],
    interpolation: Interpolation,
) -> Tensor:
    """Convolution of the concatenation `(B, sum of C_k, *size)`, which is made again for backward."""
    if len(sources) == 1 and sources[0].shape[2:] == torch.Size(size):
        return convolve(sources[0], weights[0], bias)

    def run(*xs: Tensor) -> Tensor:
        return convolve(concatenated(xs, size, interpolation), torch.cat(list(weights), dim=1), bias)

    # the last that backward asks for is the convolution's input: the convolution itself does not run again
    return recomputed(run, *sources)


def concatenated(sources: Sequence[Tensor], size: Sequence[int], interpolation: Interpolation) -> Tensor:
    """Sources `(B, C_k, *spatial_k)`, all brought to `size`, as one tensor."""
    return torch.cat([upsample(x, size, interpolation) for x in sources], dim=1)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution of `(B, C, *spatial)` that keeps the spatial size."""
    conv = F.conv3d if x.ndim == 5 else F.conv2d
    return conv(x, weight, bias, padding=[k // 2 for k in weight.shape[2:]])


def is_fused(in_size: Sequence[int], out_size: Sequence[int], weight: Tensor) -> bool:
    """Whether a source is fused: where the estimated time of its training step is less than that of upsampling it."""
    found = work(in_size, out_size, weight.shape)
    if found is None:
        return False
    (products, contracted, moved), (convolved, upsampled) = found
    return products + CONTRACTED * contracted + MOVED * moved < convolved + UPSAMPLED * upsampled


def work(
    in_size: Sequence[int], out_size: Sequence[int], weight: Sequence[int]
) -> tuple[tuple[int, int, int], tuple[int, int]] | None:
    """What a source of a batch of one takes in both forms; None where it cannot be fused.

    Fused: multiply-adds, those of contractions, values that these add to. Upsampled: multiply-adds, upsampled values.
    """
    out_channels, in_channels, *kernel = weight
    vectors = contractions(in_size, out_size, kernel)
    if not vectors or any(k > 1 for a, k in enumerate(kernel) if a not in vectors):
        return None
    if any(old > new for old, new in zip(in_size, out_size, strict=True)):
        return None
    contracted = moved = 0
    for a, n in vectors.items():
        contracted += kernel[a] * n * band_area(out_size[a], in_size[a], kernel[a])
        moved += kernel[a] * n * out_size[a]
    products, upsampled = in_channels * math.prod(kernel) * math.prod(in_size), in_channels * math.prod(out_size)
    fused = products * out_channels, contracted * out_channels, moved * out_channels
    return fused, (upsampled * math.prod(kernel) * out_channels, upsampled)

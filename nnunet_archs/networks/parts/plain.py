"""The exact form in a few plain operators, for graphs that are exported: no loop over chunks, no autograd function.

As in `separable.py` a kernel's taps are applied to channels first, where a map is small; then one axis after the other
has its taps and positions contracted, here in one product for all out channels. So a source is a convolution and one
product an axis. Its last axes may be interpolated before the convolution, which then goes along them as usual: that
leaves fewer taps to contract, and is faster where an axis doubles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .separable import BLOCK, Interpolation, bands, made_operator, upsample

# what takes the time of how many multiply-adds: a value that is upsampled, and one that is copied. Fitted to single
# sources in onnxruntime on a CPU (docs/fusion.md)
UPSAMPLED, COPIED = 150, 50

# a source whose taps are larger is computed in parts, of some of the out channels each, and at most in so many
PART_BYTES, MOST_PARTS = 256 * 2**20, 8


def is_exported() -> bool:
    """Whether a graph is made that others will run: by torch.export, the exporter to ONNX, or torch.jit.trace."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined]


def plain_sum(sources: Sequence[Tensor], weights: Sequence[Tensor], size: Sequence[int], how: Interpolation) -> Tensor:
    """Sum over k of the convolutions of sources `(B, C_k, *spatial_k)`, upsampled: `(B, C_out, *size)`.

    Weights are `(C_out, C_k, *kernel)`; every source has axes to contract.
    """
    pairs = zip(sources, weights, strict=True)
    y = term(*next(pairs), size, how)
    for x, weight in pairs:  # each is added as soon as it is there: no two are in memory for long
        y = y + term(x, weight, size, how)
    return y


def term(x: Tensor, weight: Tensor, size: Sequence[int], how: Interpolation) -> Tensor:
    """A source's term of the sum."""
    axes = contracted_axes(x.shape[2:], size, weight)
    x_size = [old if a in axes else new for a, (old, new) in enumerate(zip(x.shape[2:], size, strict=True))]
    x = upsample(x, x_size, how)
    largest = x.element_size() * math.prod([weight.shape[0], *x_size, *(weight.shape[2 + a] for a in axes)])
    n_parts = min(-(-largest // PART_BYTES), MOST_PARTS, weight.shape[0])
    if n_parts == 1:
        return contracted(x, weight, size, axes, how)
    return torch.cat([contracted(x, part, size, axes, how) for part in weight.chunk(n_parts)], dim=1)


def contracted(x: Tensor, weight: Tensor, size: Sequence[int], axes: Sequence[int], how: Interpolation) -> Tensor:
    """Convolution of `(B, C, *spatial)`, upsampled along `axes` to `(B, C_out, *size)`."""
    dim, (out_channels, in_channels, *kernel) = len(size), weight.shape
    others = [a for a in range(dim) if a not in axes]
    # taps of the contracted axes are out channels, (C_out, taps, C_in, *kernel)
    taps = weight.permute(0, *(2 + a for a in axes), 1, *(2 + a for a in others))
    taps = taps.reshape(-1, in_channels, *(1 if a in axes else k for a, k in enumerate(kernel)))
    conv = F.conv3d if dim == 3 else F.conv2d
    z = conv(x, taps, padding=[0 if a in axes else k // 2 for a, k in enumerate(kernel)])
    # every axis' taps stand before its positions
    z = z.reshape(-1, out_channels, *(kernel[a] for a in axes), *x.shape[2:])
    first = 2 + len(axes)
    order = [d for a in range(dim) for d in ([2 + axes.index(a)] if a in axes else []) + [first + a]]
    positions = [n * kernel[a] if a in axes else n for a, n in enumerate(x.shape[2:])]
    z = z.permute(0, 1, *order).reshape(-1, out_channels, *positions)
    for a in reversed(axes):
        z = contract(z, 2 + a, x.shape[2 + a], size[a], kernel[a], how)
    return z


def contract(z: Tensor, axis: int, n_in: int, n_out: int, taps: int, how: Interpolation) -> Tensor:
    """An axis of maps `(B, ..., taps x n_in, ...)` to `(B, ..., n_out, ...)`, in as few operators as it takes."""
    key = (n_in, n_out, taps, how, z.dtype, z.device)
    if axis == z.ndim - 1:
        return F.linear(z, constant(matrix, *key))
    before, after = z.shape[1:axis], z.shape[axis + 1 :]
    n_after = math.prod(after)
    n_blocks = count_blocks(n_out, n_after)
    if n_blocks == 1 and len(after) == 1:
        return constant(matrix, *key) @ z
    z = z.reshape(-1, *before, taps * n_in, n_after)
    if n_blocks == 1:
        y = constant(matrix, *key) @ z
    else:
        z = z.index_select(axis, constant(rows_of_blocks, n_blocks, *key))
        z = z.reshape(-1, *before, n_blocks, z.shape[axis] // n_blocks, n_after)
        y = constant(blocks, n_blocks, *key) @ z
    return y.reshape(-1, *before, n_out, *after)


def matrix(*key: Any) -> Tensor:
    """The operator of an axis, its taps side by side: `(n_out, taps x n_in)`."""
    return made_operator(*key).transpose(0, 1).flatten(1)


def blocks(n_blocks: int, n_in: int, n_out: int, taps: int, *others: Any) -> Tensor:
    """The matrix in blocks of rows, each with the columns that are not zero there: `(n_blocks, rows, columns)`."""
    rows = made_operator(n_in, n_out, taps, *others).unflatten(1, (n_blocks, -1))
    starts, width = windows(n_blocks, n_in, n_out, taps)
    parts = [rows[:, i, :, start : start + width].transpose(0, 1).flatten(1) for i, start in enumerate(starts)]
    return torch.stack(parts)


def rows_of_blocks(
    n_blocks: int, n_in: int, n_out: int, taps: int, how: Interpolation, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Which of the matrix' columns each of the blocks has."""
    starts, width = windows(n_blocks, n_in, n_out, taps)
    found = [tap * n_in + start + i for start in starts for tap in range(taps) for i in range(width)]
    return torch.tensor(found, device=device)


def windows(n_blocks: int, n_in: int, n_out: int, taps: int) -> tuple[list[int], int]:
    """Where the positions that a block depends on begin, and how many they are, for all blocks the same."""
    reached = [columns for _, columns in bands(n_out, n_in, taps, block=n_out // n_blocks)]
    width = max([columns.stop - columns.start for columns in reached])
    return [min(columns.start, n_in - width) for columns in reached], width


def count_blocks(n_out: int, after: int) -> int:
    """Into how many blocks of one size the matrix is cut, of `BLOCK` rows at least; the last axis has it in one."""
    return 1 if after == 1 else max([1, *(n for n in range(2, n_out // BLOCK + 1) if n_out % n == 0)])


def constant(make: Callable[..., Tensor], *key: Any) -> Tensor:
    """A constant of the graph, one for all nodes that ask for the same."""
    # torch.compile's tracer, which strict export uses, takes nothing from outside: there the graph computes it
    return make(*key) if torch.compiler.is_dynamo_compiling() else kept(make, *key)


@lru_cache(maxsize=256)
def kept(make: Callable[..., Tensor], *key: Any) -> Tensor:
    """A tensor with values, made in a thread of its own: where a graph is traced, a new tensor would be part of it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make, *key).result()


def contracted_axes(in_size: Sequence[int], size: Sequence[int], weight: Tensor) -> list[int]:
    """The axes of a source that are contracted, as is estimated to be the fastest; the others are interpolated first.

    There are none where a source is best upsampled as a whole.
    """
    pairs = list(zip(in_size, size, strict=True))
    if any(old > new for old, new in pairs):
        return []
    upsampled = [a for a, (old, new) in enumerate(pairs) if old < new]
    choices = [upsampled[:n] for n in range(len(upsampled) + 1)]
    return min(choices, key=lambda axes: cost(in_size, size, weight, axes))


def cost(in_size: Sequence[int], size: Sequence[int], weight: Tensor, axes: Sequence[int]) -> int:
    """Estimated time of a source, in multiply-adds, if these axes are contracted."""
    out_channels, in_channels, *kernel = weight.shape
    shape = [old if a in axes else new for a, (old, new) in enumerate(zip(in_size, size, strict=True))]
    x = in_channels * math.prod(shape)
    total = out_channels * math.prod(kernel) * x
    if shape != list(in_size):
        total += UPSAMPLED * x
    if not axes:
        return total + COPIED * x  # into the concatenation
    taps = math.prod([kernel[a] for a in axes])
    if list(axes) != [0]:  # taps to their positions
        total += COPIED * out_channels * taps * math.prod(shape)
    for a in reversed(axes):
        n_blocks = count_blocks(size[a], math.prod(shape[a + 1 :]))
        _, width = windows(n_blocks, in_size[a], size[a], kernel[a])
        taps //= kernel[a]
        shape[a] = size[a]
        vectors = out_channels * taps * math.prod(shape) // size[a]
        total += vectors * kernel[a] * width * (size[a] + (COPIED * n_blocks if n_blocks > 1 else 0))
    return total

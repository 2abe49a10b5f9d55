"""The sum of convolved, upsampled feature maps, none of which is ever at the finest grid.

The kernel's taps act on channels alone, so they are applied where a map is small: one matrix product, to taps x out
channels. What is left, "upsample, then shift by the tap, zeros beyond the border", acts on one axis at a time and is
the same for all channels: a small matrix `(out, in)` for every tap. So an axis after the other its taps and positions
are contracted with these matrices, and nothing but tensors of the out channels grows. It is exact, borders included,
for every kernel and factor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

# how features are upsampled: linearly with corners aligned or not, or by repeating them
Interpolation = Literal["aligned", "linear", "nearest"]

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}

# so many out channels are computed at a time, one at least, that no tensor on the way is larger than this: on a CPU it
# stays in the cache, on a GPU it is small beside the activations
CHUNK_BYTES = {"cpu": 24 * 2**20}
OTHER_CHUNK_BYTES = 256 * 2**20

# the matrices are banded: they are applied in blocks of so many rows, each with the columns that are not zero there
BLOCK = 64


def upsample(x: Tensor, size: Sequence[int], interpolation: Interpolation) -> Tensor:
    """Interpolation of `(B, C, *spatial)` to `size`."""
    if x.shape[2:] == torch.Size(size):
        return x
    if interpolation == "nearest":
        return F.interpolate(x, size=tuple(size), mode="nearest")
    return F.interpolate(x, size=tuple(size), mode=LINEAR[x.ndim - 2], align_corners=interpolation == "aligned")


def fuse(sources: Sequence[Tensor], weights: Sequence[Tensor], size: Sequence[int], how: Interpolation) -> Tensor:
    """Sum over k of the convolutions of sources `(B, C_k, *spatial_k)`, upsampled: `(B, C_out, *size)`.

    Weights are `(C_out, C_k, *kernel)`, of kernel 1 along the axes that a source has at their full size already.
    Gradients have none of their own.
    """
    inputs = [*sources, *weights]
    device = inputs[0].device.type
    # the meta device has no autocast
    if device != "meta" and torch.is_autocast_enabled(device):
        # as torch's autocast: double precision stays
        half = torch.get_autocast_dtype(device)
        inputs = [x if x.dtype == torch.float64 else x.to(half) for x in inputs]
    if torch.compiler.is_compiling():
        return fused_operator(inputs, size, how).transpose(0, 1)
    differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    run = _Fuse.apply if differentiated else fused_sum
    return run(tuple(size), how, *inputs).transpose(0, 1)


def fused_sum(size: Sequence[int], how: Interpolation, *inputs: Tensor) -> Tensor:
    """`fuse`, to `(C_out, B, *size)`, without gradients."""
    n = len(inputs) // 2
    out = inputs[0].new_empty(inputs[n].shape[0], inputs[0].shape[0], *size)
    for k, (x, weight) in enumerate(zip(inputs[:n], inputs[n:], strict=True)):
        _Term(x, weight, size, how).add_to(out, add=k > 0)
    return out


def fused_gradients(size: Sequence[int], how: Interpolation, grad: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Gradients of `fused_sum`'s inputs, for that of the sum."""
    n = len(inputs) // 2
    grad = grad.contiguous()
    pairs = zip(inputs[:n], inputs[n:], strict=True)
    of_sources, of_weights = zip(*(_Term(x, weight, size, how).gradients(grad) for x, weight in pairs), strict=True)
    return [*of_sources, *of_weights]


class _Fuse(torch.autograd.Function):
    """`fused_sum` and its gradients; it keeps nothing for backward but its inputs."""

    @staticmethod
    def forward(ctx: Any, size: tuple[int, ...], how: Interpolation, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.size, ctx.how = size, how
        return fused_sum(size, how, *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        # checkpointing gives the saved tensors out once
        return (None, None, *fused_gradients(ctx.size, ctx.how, grad, *ctx.saved_tensors))


# the same for torch.compile, to which it is one operator: unrolled, the loops over chunks and axes would be thousands


@torch.library.custom_op("nnunet_archs::fused_sum", mutates_args=())
def fused_operator(inputs: list[Tensor], size: list[int], how: str) -> Tensor:
    """`fused_sum`."""
    return fused_sum(size, cast(Interpolation, how), *inputs)


@torch.library.custom_op("nnunet_archs::fused_gradients", mutates_args=())
def fused_gradients_operator(grad: Tensor, inputs: list[Tensor], size: list[int], how: str) -> list[Tensor]:
    """`fused_gradients`."""
    return [x.contiguous() for x in fused_gradients(size, cast(Interpolation, how), grad, *inputs)]


@fused_operator.register_fake
def _(inputs: list[Tensor], size: list[int], how: str) -> Tensor:
    return inputs[0].new_empty(inputs[len(inputs) // 2].shape[0], inputs[0].shape[0], *size)


@fused_gradients_operator.register_fake
def _(grad: Tensor, inputs: list[Tensor], size: list[int], how: str) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in inputs]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors, ctx.size, ctx.how = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return fused_gradients_operator(grad, list(ctx.saved_tensors), ctx.size, ctx.how), None, None


fused_operator.register_autograd(_backward, setup_context=_save)


class _Term:
    """One source's term of the sum, and its adjoint.

    Tensors between two axes are laid out `(taps of the axes to come, C_out, B, *spatial)`.
    """

    def __init__(self, x: Tensor, weight: Tensor, size: Sequence[int], how: Interpolation) -> None:
        self.size, self.in_size, self.kernel = tuple(size), tuple(x.shape[2:]), weight.shape[2:]
        self.batch = x.shape[0]
        vectors = contractions(self.in_size, self.size, self.kernel)
        self.axes = list(vectors)
        self.operators = {a: operator(self.in_size[a], size[a], self.kernel[a], how, x) for a in self.axes}
        self.columns = x.transpose(0, 1).flatten(1)
        # (a dimension for each axis' taps, C_out, C_in)
        self.order = [*(2 + a for a in self.axes), 0, 1, *(2 + a for a in range(len(size)) if a not in self.axes)]
        self.taps = weight.permute(self.order).flatten(len(self.axes) + 1)
        largest = max(math.prod([*self.kernel, *self.in_size]), *(n * size[a] for a, n in vectors.items()))
        budget = CHUNK_BYTES.get(x.device.type, OTHER_CHUNK_BYTES)
        chunk = max(1, budget // max(1, self.batch * largest * x.element_size()))
        self.chunks = [slice(o, o + chunk) for o in range(0, weight.shape[0], chunk)]

    def add_to(self, out: Tensor, *, add: bool) -> None:
        """Set `(C_out, B, *size)` to the term, or add it."""
        for chunk in self.chunks:
            taps, shape = self.taps[..., chunk, :], list(self.in_size)
            z = taps.flatten(0, -2) @ self.columns
            for step, a in enumerate(self.axes, 1):
                last = step == len(self.axes)
                shape[a] = self.size[a]
                maps = taps.shape[step:-1].numel() * self.batch
                parts, z = z.view(self.kernel[a], -1), out[chunk] if last else out.new_empty(maps, *shape)
                contract(parts, self.operators[a], z, before=maps * math.prod(shape[:a]), add=add and last)

    def gradients(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of source and weight, for that of the sum: `(C_out, B, *size)`."""
        # float32 at least: it is a sum over chunks
        grad_columns = torch.zeros_like(self.columns, dtype=torch.promote_types(self.columns.dtype, torch.float32))
        grad_taps = torch.empty_like(self.taps, memory_format=torch.contiguous_format)
        for chunk in self.chunks:
            z = grad[chunk].flatten(0, 1)
            for a in reversed(self.axes):
                parts = spread(z, self.operators[a], before=z.shape[: 1 + a].numel())
                z = parts.view(-1, *z.shape[1 : 1 + a], self.in_size[a], *z.shape[2 + a :])
            rows, grad_chunk = z.view(-1, self.columns.shape[1]), grad_taps[..., chunk, :]
            grad_columns += self.taps[..., chunk, :].flatten(0, -2).T @ rows
            grad_chunk.copy_((rows @ self.columns.T).view(grad_chunk.shape))
        inverse = [self.order.index(axis) for axis in range(len(self.order))]
        ones = [1] * (len(self.size) - len(self.axes))
        return (
            grad_columns.to(self.columns.dtype).view(-1, self.batch, *self.in_size).transpose(0, 1),
            grad_taps.unflatten(-1, (-1, *ones)).permute(inverse),
        )


def contractions(in_size: Sequence[int], size: Sequence[int], kernel: Sequence[int]) -> dict[int, int]:
    """The axes that are upsampled, the last first, and how many vectors along each are made for an out channel."""
    shape, vectors = list(in_size), {}
    axes = [a for a in reversed(range(len(size))) if in_size[a] != size[a]]
    for done, a in enumerate(axes, 1):
        shape[a] = 1
        vectors[a] = math.prod([*shape, *(kernel[b] for b in axes[done:])])
        shape[a] = size[a]
    return vectors


def band_area(n_to: int, n_from: int, taps: int) -> int:
    """Entries of the blocks of a tap's matrix."""
    return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in bands(n_to, n_from, taps))


def idle_multiply_adds(in_size: Sequence[int], size: Sequence[int], kernel: Sequence[int], how: Interpolation) -> int:
    """Multiply-adds of `fuse` that fall on zeros of the matrices, for an out channel of an image."""
    idle = 0
    for a, vectors in contractions(in_size, size, kernel).items():
        matrices = operator(in_size[a], size[a], kernel[a], how, torch.empty(0, device="cpu"))
        entries = kernel[a] * band_area(size[a], in_size[a], kernel[a])
        idle += vectors * (entries - int(matrices.count_nonzero()))
    return idle


def contract(parts: Tensor, operators: Tensor, out: Tensor, *, before: int, add: bool) -> None:
    """Apply the operator of tap t to an axis of `parts[t]`, and set `out` to the sum, or add it.

    `before` is the product of the sizes before that axis, in the parts as in `out`.
    """
    taps, n_out, n_in = operators.shape
    ys = parts.view(taps, before, n_in, -1).unbind()
    multiply(operators.unbind(), ys, out.view(before, n_out, -1), bands(n_out, n_in, taps), add=add)


def spread(z: Tensor, operators: Tensor, *, before: int) -> Tensor:
    """The adjoint of `contract`: a part `(before, n, after)` for every tap, all in one tensor."""
    taps, n_out, n_in = operators.shape
    blocks = bands(n_in, n_out, taps)
    z = z.view(before, n_out, -1)
    parts = z.new_empty(taps, before, n_in, z.shape[2])
    for matrix, part in zip(operators.unbind(), parts.unbind(), strict=True):
        multiply([matrix.T], [z], part, blocks, add=False)
    return parts


def multiply(
    matrices: Sequence[Tensor],
    ys: Sequence[Tensor],
    out: Tensor,
    blocks: Sequence[tuple[slice, slice]],
    *,
    add: bool,
) -> None:
    """Set `out`, or add to it, the sum of matrices `(n, m)` applied to the middle axes of `(before, m, after)`."""
    if out.shape[2] == 1:
        for t, (matrix, y) in enumerate(zip(matrices, ys, strict=True)):
            for rows, columns in blocks:
                target = out[:, rows, 0]
                target.addmm_(y[:, columns, 0], matrix[rows, columns].T, beta=1 if add or t > 0 else 0)
        return
    for rows, columns in blocks:
        target = out[:, rows]
        # the fast product is of matrices that lie one behind the other
        direct = target.is_contiguous()
        z = target if direct else torch.empty_like(target, memory_format=torch.contiguous_format)
        for t, (matrix, y) in enumerate(zip(matrices, ys, strict=True)):
            block = matrix[rows, columns].expand(len(y), -1, -1)
            z.baddbmm_(block, y[:, columns], beta=1 if t > 0 or (add and direct) else 0)
        if not direct:
            target.copy_(target + z if add else z)


def bands(n_to: int, n_from: int, taps: int, block: int | None = None) -> list[tuple[slice, slice]]:
    """Blocks of the positions of one grid, each with the positions of another that it depends on.

    A position p of the fine grid, shifted by a tap, lies between two of the coarse one: floor(p / factor), one less
    where corners are aligned, and the next.
    """
    reach, blocks, block = taps // 2, [], block or BLOCK
    for start in range(0, n_to, block):
        stop = min(start + block, n_to)
        if n_to >= n_from:
            low, high = (start - reach) * n_from // n_to - 1, (stop - 1 + reach) * n_from // n_to + 2
        else:
            low, high = (start - 2) * n_from // n_to - reach, (stop + 2) * n_from // n_to + reach + 1
        blocks.append((slice(start, stop), slice(max(0, low), min(n_from, high))))
    return blocks


def operator(n_in: int, n_out: int, taps: int, how: Interpolation, like: Tensor) -> Tensor:
    """Matrices `(taps, n_out, n_in)`: interpolate along an axis, then shift by the tap, zeros beyond the border.

    They are made once for every size, type and device; where `like` is traced they are part of its graph, and on the
    meta device, where memory is measured, they have no values.
    """
    if like.is_meta:
        return like.new_empty(taps, n_out, n_in)
    traced = torch.compiler.is_compiling() or type(like) is not Tensor
    make = made_operator if traced else cached_operator
    return make(n_in, n_out, taps, how, like.dtype, like.device)


@lru_cache(maxsize=256)
def cached_operator(
    n_in: int, n_out: int, taps: int, how: Interpolation, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """`made_operator`, kept."""
    # a tensor made in inference mode could not be used in training
    with torch.inference_mode(False):
        return made_operator(n_in, n_out, taps, how, dtype, device)


def made_operator(
    n_in: int, n_out: int, taps: int, how: Interpolation, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """`operator`'s matrices: the identity, interpolated by torch itself, so that the weights are its own."""
    identity = torch.eye(n_in, device=device, dtype=torch.promote_types(dtype, torch.float32))[None]
    rows = upsample(identity, (n_out,), how)[0].T
    rows = F.pad(rows, (0, 0, taps // 2, taps // 2))
    return rows.unfold(0, n_out, 1).transpose(1, 2).to(dtype)

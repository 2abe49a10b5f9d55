"""What a network takes, counted without running it: parameters, multiply-adds, memory for backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_archs.networks.parts.fusion import FusionConv

from .memory import kept_compiled, kept_for_backward


def product_flops(out: Sequence[int], a: Sequence[int], b: Sequence[int], **_: Any) -> int:
    """Flops of `out += a @ b`, from the shapes."""
    return 2 * math.prod(out) * a[-1]


# torch's counter knows these only where they give a new tensor
IN_PLACE = dict.fromkeys((torch.ops.aten.addmm_, torch.ops.aten.baddbmm_), product_flops)


@dataclass(frozen=True)
class Counts:
    """What a network takes for an input of one shape, known without running it.

    `multiply_adds` are those of a forward pass in training; `needed` leaves out those on zeros of upsampling operators.
    `kept_compiled` is what the graph of torch.compile keeps for backward, or None where that was not asked for.
    """

    parameters: int
    multiply_adds: int
    needed: int
    kept_bytes: int
    kept_compiled: int | None = None


def count(build: Callable[[], nn.Module], shape: Sequence[int], *, compiled: bool = False) -> Counts:
    """The counts of a network for an input `(B, C, *spatial)`, on the meta device."""
    with torch.device("meta"):
        network, x = build(), torch.empty(*shape)
    kept_bytes = kept_for_backward(network, shape)
    compiled_bytes = kept_compiled(network, shape) if compiled else None
    idle: list[int] = []

    def add(conv: Any, args: Any, kwargs: Any) -> None:
        idle.append(conv.idle_multiply_adds(*args, **kwargs))

    for module in network.modules():
        if isinstance(module, FusionConv) and module.fusion == "exact":
            module.register_forward_pre_hook(add, with_kwargs=True)
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        network(x)
    multiply_adds = counter.get_total_flops() // 2
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Counts(parameters, multiply_adds, multiply_adds - sum(idle), kept_bytes, compiled_bytes)

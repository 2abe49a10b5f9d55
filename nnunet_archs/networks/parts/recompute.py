"""Results that are made again for backward, in place of being kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .plain import is_exported

Result = TypeVar("Result", Tensor, tuple[Tensor, Tensor])


def recomputed(function: Callable[..., Result], *inputs: Tensor, when: bool = True) -> Result:
    """`function(*inputs)`; of it, where `when` is true, nothing but the inputs is kept for backward.

    There it runs again, dropping the same values, as far as to the last result that backward asks for.
    """
    if not when or not torch.is_grad_enabled() or is_exported():
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False)

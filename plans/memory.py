"""Measure what a network keeps in memory between forward and backward, without a GPU and without that memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def kept_for_backward(network: nn.Module, shape: Sequence[int]) -> int:
    """Bytes that a forward pass of an input `(B, C, *spatial)` leaves alive for backward, its outputs among them.

    All that autograd and activation checkpointing hold counts, each storage once; parameters, buffers and the input
    are apart. The network has to be on the meta device: build it under `torch.device("meta")`.

    Raises:
        ValueError: if it is elsewhere.
    """
    own = [*network.parameters(), *network.buffers()]
    if elsewhere := {tensor.device.type for tensor in own} - {"meta"}:
        raise ValueError(
            f"{type(network).__name__} is on {', '.join(sorted(elsewhere))}; build it under torch.device('meta')"
        )
    x = torch.empty(tuple(shape), device="meta")
    apart = {StorageWeakRef(tensor.untyped_storage()) for tensor in (x, *own)}
    with torch.enable_grad(), StorageRecorder() as recorder:
        outputs = network(x)
    kept = sum(size for storage, size in recorder.sizes.items() if storage not in apart and not storage.expired())
    del outputs  # backward starts from them: they, and what they hold, had to live until here
    return kept


class StorageRecorder(TorchDispatchMode):
    """Weak references to the storages of all that is computed, and their bytes.

    Saved-tensor hooks would not see what activation checkpointing holds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and note what it gives."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.sizes[StorageWeakRef(storage)] = storage.nbytes()
        return result

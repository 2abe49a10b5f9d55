"""Measure the memory that a network's training takes, without a GPU and without that memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FLOAT = 4  # bytes
GIB = 2**30

Outputs = Tensor | list[Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Memory of a training step, in bytes.

    `state` is always there: input, parameters, the optimiser's moments, under autocast the parameters' halves. Beside
    it stand first `activations`, the peak of maps and gradients during forward and backward, and then `update`, the
    gradients with the optimiser's copy of them. `kept` is what forward and loss leave for backward.
    """

    state: int
    kept: int
    activations: int
    update: int

    @property
    def peak(self) -> int:
        """The most that is in use at once."""
        return self.state + max(self.activations, self.update)

    def scaled(self, factor: float) -> TrainingMemory:
        """The least that a step takes whose maps are larger by a factor: gradients of parameters do not grow."""
        maps = max(self.kept, self.activations - self.update // 2)
        return replace(self, kept=round(self.kept * factor), activations=round(maps * factor))


def kept_for_backward(network: nn.Module, shape: Sequence[int]) -> int:
    """Bytes that a forward pass of an input `(B, C, *spatial)` keeps for the backward pass, its outputs included.

    Everything that autograd and activation checkpointing hold counts once, except parameters, buffers and the input.
    The network has to be on the meta device: build it under `torch.device("meta")`.

    Raises:
        ValueError: if it is elsewhere.
    """
    check_meta(network)
    x = torch.empty(tuple(shape), device="meta")
    with torch.enable_grad(), LiveStorages((x, *network.parameters(), *network.buffers())) as live:
        outputs = network(x)
    kept = live.bytes
    del outputs  # backward starts from them: they, and what they hold, had to live until here
    return kept


def kept_compiled(network: nn.Module, shape: Sequence[int]) -> int:
    """What `kept_for_backward` counts, of the forward graphs that torch.compile makes of the network: one, of ours.

    Inductor's decompositions and the rules by which it divides forward and backward decide; nothing is generated.

    Raises:
        ValueError: if the network is not on the meta device.
    """
    import torch._inductor.lowering  # what its decompositions ask, and do not import
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch._aot_autograd.utils import make_boxed_func
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table

    check_meta(network)
    kept: list[int] = []

    def forward(graph: Callable[..., Any], _: Any) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:
            with LiveStorages(x for x in inputs if isinstance(x, Tensor)) as live:
                results = graph(*inputs)
                kept.append(live.bytes)
            return results

        return make_boxed_func(run)

    torch.compiler.reset()
    backend = aot_autograd(
        fw_compiler=forward,
        bw_compiler=lambda graph, _: make_boxed_func(graph),
        partition_fn=min_cut_rematerialization_partition,
        decompositions=select_decomp_table,
    )
    with torch.enable_grad():
        torch.compile(network, backend=backend, dynamic=False)(torch.empty(tuple(shape), device="meta"))
    return sum(kept)


def training_memory(
    network: nn.Module,
    shape: Sequence[int],
    loss: Callable[[Any], Tensor],
    *,
    half: bool,
    moments: int = 1,
) -> TrainingMemory:
    """Memory of a training step with an input `(B, C, *spatial)` and a `loss` of the outputs.

    With `half`, memory is that of autocast: maps and their gradients take two bytes a value, parameters and their
    gradients four, and the loss keeps its own precision. `moments` is how many tensors the optimiser keeps for each
    parameter (SGD 1, Adam 2). The workspace of convolutions is not known here. The network has to be on the meta
    device.

    Raises:
        ValueError: if it is elsewhere.
    """
    check_meta(network)
    network = deepcopy(network)
    x = torch.empty(tuple(shape), device="meta")
    parameters = FLOAT * sum(parameter.numel() for parameter in network.parameters())
    state = x.untyped_storage().nbytes() + parameters * (1 + moments)
    if half:
        network, x = network.half(), x.half()
        state += parameters // 2
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = FLOAT * sum(parameter.numel() for parameter in trained)
    with torch.enable_grad(), LiveStorages((x, *network.parameters(), *network.buffers())) as live:
        if half:
            for parameter in trained:  # its gradient has four bytes a value, of which two are seen
                parameter.register_post_accumulate_grad_hook(partial(_add_other_half, live))
        outputs = network(x)  # nnU-Net's step holds them to its end
        value = loss(outputs)
        kept = live.bytes
        value.backward()
    return TrainingMemory(state=state, kept=kept, activations=live.peak, update=2 * gradients)


def _add_other_half(live: LiveStorages, parameter: Tensor) -> None:
    live.add(2 * parameter.numel())


def check_meta(network: nn.Module) -> None:
    """Check that a network is on the meta device.

    Raises:
        ValueError: if it is not.
    """
    if elsewhere := {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} - {"meta"}:
        raise ValueError(
            f"{type(network).__name__} is on {', '.join(sorted(elsewhere))}; build it under torch.device('meta')"
        )


class LiveStorages(TorchDispatchMode):
    """Bytes of the storages alive of all that is computed, and the most they were; `apart` are not counted.

    Saved-tensor hooks would not see what activation checkpointing holds.
    """

    def __init__(self, apart: Iterable[Tensor]) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        # Python's object of a storage lives as long as the storage does
        self.known = weakref.WeakSet(tensor.untyped_storage() for tensor in apart)

    def add(self, n: int) -> None:
        """Count bytes that come, or go if negative."""
        self.bytes += n
        self.peak = max(self.peak, self.bytes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it gives."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage not in self.known:
                    self.known.add(storage)
                    self.add(storage.nbytes())
                    weakref.finalize(storage, self.add, -storage.nbytes())
        return result

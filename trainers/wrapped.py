"""Networks as nnU-Net trains them: within DistributedDataParallel, or what torch.compile makes of them."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel


def plain(network: nn.Module) -> Any:
    """A network without what nnU-Net wraps around it."""
    if isinstance(network, DistributedDataParallel):
        network = network.module
    return network._orig_mod if isinstance(network, OptimizedModule) else network

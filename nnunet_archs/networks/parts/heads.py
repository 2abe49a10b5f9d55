"""From the features of supervised nodes to logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from .topology import Axes, Topology


class Heads(nn.Module):
    """A convolution to logits at every supervised node, of kernel 1 where `kernels` names no other.

    nnU-Net leaves `.seg_layers.` out when it loads pretrained weights, hence the name.
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        num_classes: int,
        topology: Topology,
        *,
        kernels: Mapping[str, Axes] | None = None,
    ) -> None:
        super().__init__()
        self.seg_layers = nn.ModuleDict()
        for node, width in channels.items():
            kernel = (kernels or {}).get(node, (1,) * topology.dim)
            padding = tuple(k // 2 for k in kernel)
            self.seg_layers[node] = topology.conv_op(width, num_classes, kernel, padding=padding)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features `(B, C_k, *spatial_k)` of the first nodes, or of all, to their logits."""
        return [head(x) for head, x in zip(self.seg_layers.values(), features)]  # noqa: B905 (the first are enough)

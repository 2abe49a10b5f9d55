"""The triangular grid of nodes X[i, j], and the wiring rules of U-Net, UNet++ and UNet#.

Stage i runs from 0 (full resolution) to L, column j from 0 (the encoder) to L - i. A wiring names, for every node of
the decoder in the order of computation, the nodes that are brought onto its grid and concatenated, its own stage first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor, nn

from .blocks import ConvStack
from .fusion import Fusion, FusionConv
from .topology import Topology

Node = tuple[int, int]
Wiring = Mapping[Node, Sequence[Node]]


def unet(last: int) -> Wiring:
    """U-Net: X[i, L-i] from the encoder's X[i, 0] and the node below."""
    return {(i, last - i): [(i, 0), (i + 1, last - i - 1)] for i in reversed(range(last))}


def unet_plus_plus(last: int) -> Wiring:
    """UNet++ (Zhou et al. 2018): every node sees all earlier nodes of its stage and the node below."""
    return {
        (i, j): [*((i, k) for k in range(j)), (i + 1, j - 1)] for j in range(1, last + 1) for i in range(last - j + 1)
    }


def unet_sharp(last: int, *, without: Collection[Node] = ()) -> Wiring:
    """UNet# (arXiv:2205.11759, Eq. 1): as UNet++, and X[i+t, j-t], t = 2..j, except at the nodes `without`.

    Raises:
        ValueError: where `without` is told for the paper's 5 stages and there are others.
    """
    if without and last != 4:
        raise ValueError(f"the table's wiring is told for 5 stages, not for {last + 1}; give wiring='equation'")
    return {
        (i, j): [*sources, *((i + t, j - t) for t in range(2, j + 1) if (i, j) not in without)]
        for (i, j), sources in unet_plus_plus(last).items()
    }


def node_name(node: Node) -> str:
    """X[i, j] as a module's name."""
    return f"X_{node[0]}_{node[1]}"


class Grid(nn.Module):
    """The decoder's nodes: X[i, j] = f²(cat of its sources, each upsampled to stage i)."""

    def __init__(self, wiring: Wiring, topology: Topology, *, fusion: Fusion) -> None:
        super().__init__()
        self.wiring = wiring
        self.nodes = nn.ModuleDict()
        for node, sources in wiring.items():
            stage = node[0]
            channels = [topology.features_per_stage[i] for i, _ in sources]
            width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
            first = FusionConv(channels, width, kernel, topology, fusion=fusion)
            self.nodes[node_name(node)] = ConvStack(first, topology, stage)

    def forward(self, encoder: Sequence[Tensor]) -> dict[Node, Tensor]:
        """The encoder's feature maps `(B, C_i, *spatial_i)` to the feature map of every node."""
        x: dict[Node, Tensor] = {(i, 0): features for i, features in enumerate(encoder)}
        for node, sources in self.wiring.items():
            x[node] = self.nodes[node_name(node)]([x[source] for source in sources])
        return x

"""The triangular grid of nodes X[i, j], and the wiring rules of U-Net, UNet++, UNet 3+, UNet#, DLA and CAggNet.

Stage i runs from 0 (full resolution) to L, column j from 0 (the encoder) to L - i. A wiring names, for every node of
the decoder in the order of computation, the nodes that are brought onto its grid and concatenated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from torch import Tensor, nn

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
        raise ValueError(
            f"wiring='table': the paper's table tells it for 5 stages, and these are {last + 1}; leave it out (in a "
            "trainer's name _table), or plan with 5 stages"
        )
    return {
        (i, j): [*sources, *((i + t, j - t) for t in range(2, j + 1) if (i, j) not in without)]
        for (i, j), sources in unet_plus_plus(last).items()
    }


def unet_3_plus(last: int) -> Wiring:
    """UNet 3+ (Huang et al. 2020): the encoder's nodes down to its own stage, pooled, and all deeper decoder nodes."""
    return {
        (i, last - i): [*((k, 0) for k in range(i + 1)), *((k, last - k) for k in range(i + 1, last + 1))]
        for i in reversed(range(last))
    }


def dla(last: int) -> Wiring:
    """DLA (Yu et al. 2018): the node to the left and the one below it."""
    return {(i, j): [(i, j - 1), (i + 1, j - 1)] for j in range(1, last + 1) for i in range(last - j + 1)}


def caggnet(last: int) -> Wiring:
    """CAggNet (Eq. 1): the node to the left, the one above in the same column, the one below in the column before.

    Equation 1 prints the same column for both; below, that node is not there yet.
    """
    return {
        (i, j): [(i, j - 1), *([(i - 1, j)] if i > 0 else []), (i + 1, j - 1)]
        for j in range(1, last + 1)
        for i in range(last - j + 1)
    }


def up_to_level(wiring: Wiring, level: int) -> Wiring:
    """The nodes with i + j <= level, which see no other: the network that pruning leaves."""
    return {node: sources for node, sources in wiring.items() if sum(node) <= level}


def node_name(node: Node) -> str:
    """X[i, j] as a module's name."""
    return f"X_{node[0]}_{node[1]}"


class Grid(nn.Module):
    """The decoder's nodes, each made by `make_node(node, sources)` and called with its sources' feature maps."""

    def __init__(self, wiring: Wiring, make_node: Callable[[Node, Sequence[Node]], nn.Module]) -> None:
        super().__init__()
        self.wiring = wiring
        self.nodes = nn.ModuleDict({node_name(node): make_node(node, sources) for node, sources in wiring.items()})

    def forward(self, encoder: Sequence[Tensor]) -> dict[Node, Tensor]:
        """The encoder's feature maps `(B, C_i, *spatial_i)` to the feature map of every node."""
        x: dict[Node, Tensor] = {(i, 0): features for i, features in enumerate(encoder)}
        for node, sources in self.wiring.items():
            x[node] = self.nodes[node_name(node)]([x[source] for source in sources])
        return x

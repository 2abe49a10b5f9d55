"""UNet# and V-Net#, with the U-Net, UNet++, V-Net and V-Net++ that their paper measures them against.

UNet-sharp: "UNet#: A UNet-like Redesigning Skip Connections for Medical Image Segmentation", arXiv:2205.11759.

Figure 1 and Eq. 1: a triangular grid of nodes X[i, j]; column 0 is the encoder, and every later node joins all earlier
nodes of its stage with one node of every deeper stage, upsampled (`grid.py`). Section 2.2 and Figure 2: supervision of
the nodes X[0, j], by which the network can be pruned, and of the decoder X[i, L-i], against targets of its resolution.
Table 1: the V-Net forms put the same decoders on V-Net's encoder.

Where this departs from the paper or settles what it leaves open:

- Normalisation and activation are the plan's, V-Net's encoder apart, which keeps its PReLU. The paper has BatchNorm and
  ReLU.
- Eq. 1 is taken at every node with j >= 2; `wiring="table"` leaves links out as Table 1's counts ask.
- The ReLU after each supervised head (section 2.2) is left out: it would forbid logits below 0.
- Upsampling is linear with corners aligned, by each stage's strides.
- Targets of lower resolution are nnU-Net's, nearest neighbours; Figure 2 pools the maximum.
- Not here: the classification-guided modules (section 2.3), pruning (2.4), and the mean over branches at inference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, cast, get_args

from torch import Tensor, nn
from typing_extensions import Unpack

from .contract import SegmentationNetwork, Supervision, check_choice
from .encoders import ConvEncoder, VNetEncoder
from .fusion import Fusion
from .grid import Grid, Node, Wiring, node_name, unet, unet_plus_plus, unet_sharp
from .topology import Topology, TopologyKwargs


class GridNetwork(SegmentationNetwork):
    """An encoder, a grid of nodes, and a head at every supervised node.

    `supervision` names these: "none", X[0, L] alone; "nnunet", X[i, L-i] for i < L, as nnU-Net's own networks have
    it; "paper", as the network's paper has it. `wiring` names one of the network's `wirings`.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    encoder_class: ClassVar[type[ConvEncoder | VNetEncoder]] = ConvEncoder
    wirings: ClassVar[Mapping[str, Callable[[int], Wiring]]]

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        supervision: Supervision = "nnunet",
        wiring: str = "equation",
        fusion: Fusion = "exact",
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        if foreign := sorted(topology_kwargs.keys() - TopologyKwargs.__annotations__.keys()):
            raise ValueError(f"{type(self).__name__} takes no {', '.join(foreign)}; leave that out of its arguments")
        topology = Topology(**cast(Any, topology_kwargs))
        branches = self.branches(topology.last, supervision)
        super().__init__(topology, branch_stages=tuple(i for i, _ in branches), deep_supervision=deep_supervision)
        check_choice("wiring", wiring, self.wirings)
        self.encoder = self.encoder_class(input_channels, topology)
        self.grid = Grid(self.wirings[wiring](topology.last), topology, fusion=fusion)
        self.heads = Heads(branches, num_classes, topology, hierarchical=supervision == "paper")

    @classmethod
    def paper_branches(cls, last: int) -> list[Node]:
        """The nodes that the paper supervises, the output first."""
        return [(0, last)]

    @classmethod
    def branches(cls, last: int, supervision: Supervision) -> list[Node]:
        """The supervised nodes, the output first."""
        check_choice("supervision", supervision, get_args(Supervision))
        if supervision == "paper":
            return cls.paper_branches(last)
        return [(i, last - i) for i in range(last if supervision == "nnunet" else 1)]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Image `(B, C, *spatial)` to logits `(B, num_classes, *spatial)`, or the list of the branches' logits."""
        logits = self.heads(self.grid(self.encoder(x)), all_branches=self.deep_supervision)
        return logits if self.deep_supervision else logits[0]


class Heads(nn.Module):
    """A convolution to logits at every supervised node.

    Kernel 1, as X[0, j] has in Figure 2; with `hierarchical` the deeper nodes have the stage's kernel (3 x 3 there).
    nnU-Net leaves `.seg_layers.` out when it loads pretrained weights, hence the name.
    """

    def __init__(self, branches: list[Node], num_classes: int, topology: Topology, *, hierarchical: bool) -> None:
        super().__init__()
        self.branches = branches
        self.seg_layers = nn.ModuleDict()
        for i, j in branches:
            kernel = topology.kernel_sizes[i] if hierarchical and i > 0 else (1,) * topology.dim
            padding = tuple(k // 2 for k in kernel)
            width = topology.features_per_stage[i]
            self.seg_layers[node_name((i, j))] = topology.conv_op(width, num_classes, kernel, padding=padding)

    def forward(self, x: Mapping[Node, Tensor], *, all_branches: bool) -> list[Tensor]:
        """The nodes' features to the logits of all branches, or of the first alone."""
        branches = self.branches if all_branches else self.branches[:1]
        return [self.seg_layers[node_name(node)](x[node]) for node in branches]


class UNet(GridNetwork):
    """U-Net with linear upsampling, the baseline of Table 1; WUNet is a matter of its features."""

    wirings: ClassVar = {"equation": unet}


class UNetPlusPlus(GridNetwork):
    """UNet++ (Zhou et al. 2018, arXiv:1807.10165); supervised at X[0, j], all at full resolution."""

    wirings: ClassVar = {"equation": unet_plus_plus}

    @classmethod
    def paper_branches(cls, last: int) -> list[Node]:
        """X[0, L], ..., X[0, 1]."""
        return [(0, j) for j in range(last, 0, -1)]


class UNetSharp(GridNetwork):
    """UNet# (Eq. 1); supervised at X[0, L], X[1, L-1], ..., X[L, 0] and X[0, L-1], ..., X[0, 1] (Figure 2).

    `wiring="table"` (5 stages) leaves the links of full scale out at X[1, 3] and X[2, 2]: 9.71M, as Table 1 prints.
    """

    wirings: ClassVar = {"equation": unet_sharp, "table": partial(unet_sharp, without=[(1, 3), (2, 2)])}

    @classmethod
    def paper_branches(cls, last: int) -> list[Node]:
        """The decoder from X[0, L] down to the bottleneck, then the pruning branches X[0, L-1], ..., X[0, 1]."""
        return [*((i, last - i) for i in range(last + 1)), *((0, j) for j in range(last - 1, 0, -1))]


class VNet(UNet):
    """V-Net's encoder with U-Net's decoder, as Table 1 counts it; WV-Net is a matter of its features."""

    encoder_class = VNetEncoder


class VNetPlusPlus(UNetPlusPlus):
    """V-Net's encoder with UNet++'s decoder, as Table 1 counts it."""

    encoder_class = VNetEncoder


class VNetSharp(UNetSharp):
    """V-Net's encoder with UNet#'s decoder.

    `wiring="table"` (5 stages) leaves the links of full scale out at X[0, 4]: 28.37M, as Table 1 prints.
    """

    encoder_class = VNetEncoder
    wirings: ClassVar = {"equation": unet_sharp, "table": partial(unet_sharp, without=[(0, 4)])}

"""UNet# and V-Net#, with the U-Net, UNet++, V-Net and V-Net++ that their paper measures them against.

UNet-sharp: "UNet#: A UNet-like Redesigning Skip Connections for Medical Image Segmentation", arXiv:2205.11759.

Figure 1 and Eq. 1: a triangular grid of nodes X[i, j]; column 0 is the encoder, and every later node joins all earlier
nodes of its stage with one node of each of the j stages below, upsampled (`grid.py`). Section 2.2 and Figure 2:
supervision of the nodes X[0, j], by which the network can be pruned, and of the decoder X[i, L-i], against targets of
its resolution. Table 1: sizes of all, and of V-Net forms.

Where this departs from the paper or settles what it leaves open:

- Normalisation and activation are the plan's, V-Net's encoder apart, which keeps its PReLU. The paper has BatchNorm and
  ReLU.
- The V-Net forms put the same decoders on V-Net's encoder: the paper describes neither, but their sizes ask for that.
- Eq. 1 is taken at every node with j >= 2, as in the authors' code. `wiring="table"` leaves out the links that the
  sizes in Table 1 leave no room for; which ones is a guess, for other choices have the same size.
- Kernels and pooling are the plan's: a head of 3 x 3 has the stage's kernel.
- The ReLU after each supervised head (section 2.2) is left out: it would forbid logits below 0.
- Upsampling is linear with corners aligned, by each stage's strides; corners are not aligned in the canonical UNet 3+.
- Targets of lower resolution are nnU-Net's, nearest neighbours; Figure 2 pools the maximum.
- The loss is the mean over the branches (section 2.2, "accurate mode"), prediction is X[0, L] alone.

The classification-guided modules (section 2.3) are in `guidance.py`. Pruning (section 2.4) is `level`: what it leaves
is a network of its own, whose modules have the names that they have in the whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .guidance import Guidance
from .parts.backbones import RESIDUAL, begin_as_identity, make_encoder
from .parts.blocks import ConvStack
from .parts.contract import SegmentationNetwork, Supervision, check_choice
from .parts.encoders import ConvEncoder, Encoder, VNetEncoder
from .parts.fusion import Fusion, FusionConv
from .parts.grid import Grid, Node, Wiring, node_name, unet, unet_3_plus, unet_plus_plus, unet_sharp, up_to_level
from .parts.heads import Heads
from .parts.topology import Axes, Topology, TopologyKwargs

# what brings UNet++'s nodes up a stage: interpolation, or a transposed convolution for every node
Upsampling = Literal["linear", "transposed"]


class GridKwargs(TopologyKwargs, total=False):
    """The keywords that every grid takes."""

    deep_supervision: bool
    supervision: Supervision
    wiring: str
    level: int | None
    fusion: Fusion
    encoder: str
    n_blocks_per_stage: int | Sequence[int] | None


class GridNetwork(SegmentationNetwork):
    """An encoder, a grid of nodes, and a head at every supervised node.

    `supervision` names these: "none", X[0, L] alone; "nnunet", X[i, L-i] for i < L, as nnU-Net's own networks have
    it; "paper", as the network's paper has it. `wiring` names one of the network's `wirings`. With `level` the nodes
    i + j <= level alone are built, and `level` stands for L: the network that pruning leaves (section 2.4).

    `encoder` puts the decoder on another's encoder (`parts/backbones.py`): "resenc" is nnU-Net's residual encoder,
    with `n_blocks_per_stage` or those of nnU-Net's presets, every other name a model of timm, in 2D.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    encoder_class: ClassVar[type[Encoder]] = ConvEncoder
    wirings: ClassVar[Mapping[str, Callable[[int], Wiring]]]

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        supervision: Supervision = "nnunet",
        wiring: str = "equation",
        level: int | None = None,
        fusion: Fusion = "exact",
        encoder: str = "",
        n_blocks_per_stage: int | Sequence[int] | None = None,
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        topology = Topology.of(self, topology_kwargs)
        check_choice("wiring", wiring, self.wirings)
        if n_blocks_per_stage is not None and encoder != RESIDUAL:
            raise ValueError(
                f"n_blocks_per_stage={n_blocks_per_stage}: the encoder {encoder or 'of the network itself'} has none; "
                f"leave that out of its arguments, or give encoder={RESIDUAL!r}"
            )
        full = self.wirings[wiring](topology.last)
        last = topology.last if level is None else level
        if (0, last) not in full:
            levels = ", ".join(str(j) for i, j in sorted(full) if i == 0)
            raise ValueError(
                f"level={level}: {type(self).__name__} of {topology.n_stages} stages has the levels {levels}; give one"
            )
        branches = self.branches(last, supervision)
        super().__init__(topology, branch_stages=tuple(i for i, _ in branches), deep_supervision=deep_supervision)
        self.supervised = branches
        self.encoder: Encoder = (
            make_encoder(encoder, input_channels, topology, last=last, n_blocks_per_stage=n_blocks_per_stage)
            if encoder
            else self.encoder_class(input_channels, topology, last=last)
        )
        self.grid = Grid(up_to_level(full, last), partial(self.make_node, fusion=fusion))
        self.heads = Heads(
            {node_name(node): self.head_channels(node) for node in branches},
            num_classes,
            topology,
            kernels={node_name(node): self.head_kernel(node, supervision) for node in branches},
        )

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

    def width(self, node: Node) -> int:
        """Channels of a node: the encoder's own, and the plan's in the decoder."""
        stage, column = node
        return self.encoder.widths[stage] if column == 0 else self.topology.features_per_stage[stage]

    def head_channels(self, node: Node) -> int:
        """Channels that the head of a node sees: the node's."""
        return self.width(node)

    def head_kernel(self, node: Node, supervision: Supervision) -> Axes:
        """Kernel 1, as X[0, j] has in Figure 2; with the paper's supervision the deeper nodes have their stage's."""
        hierarchical = supervision == "paper" and node[0] > 0
        return self.topology.kernel_sizes[node[0]] if hierarchical else (1,) * self.topology.dim

    def make_node(self, node: Node, sources: Sequence[Node], *, fusion: Fusion) -> nn.Module:
        """X[i, j] = f²(cat of its sources, each brought to stage i)."""
        kernel = self.topology.kernel_sizes[node[0]]
        first = FusionConv([self.width(s) for s in sources], self.width(node), kernel, self.topology, fusion=fusion)
        return ConvStack(first, self.width(node), kernel, self.topology)

    def features(self, x: Tensor) -> list[Tensor]:
        """Features of the supervised nodes, or of the first alone."""
        nodes = self.grid(self.encoder(x))
        return [nodes[node] for node in (self.supervised if self.deep_supervision else self.supervised[:1])]

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of the supervised nodes, or of the first alone."""
        return self.heads(self.features(x))

    @staticmethod
    @override
    def initialize(module: nn.Module) -> None:
        """He initialisation; residual blocks start as the identity. Both as in nnU-Net's own networks."""
        SegmentationNetwork.initialize(module)
        begin_as_identity(module)


class UNet(GridNetwork):
    """U-Net with linear upsampling, the baseline of Table 1."""

    wirings: ClassVar = {"equation": unet}


class UNetPlusPlus(GridNetwork):
    """UNet++ (Zhou et al. 2018, arXiv:1807.10165); supervised at X[0, j], all at full resolution.

    `upsampling="transposed"` has a transposed convolution of its own, to the node's width, for what every node takes
    from below: the `Nest_Net` that FocusNet++'s Table 2 counts.
    """

    wirings: ClassVar = {"equation": unet_plus_plus}

    def __init__(
        self, input_channels: int, num_classes: int, *, upsampling: Upsampling = "linear", **kwargs: Unpack[GridKwargs]
    ) -> None:
        check_choice("upsampling", upsampling, get_args(Upsampling))
        self.upsampling = upsampling  # the nodes, which the next line makes, depend on it
        super().__init__(input_channels, num_classes, **kwargs)

    @classmethod
    def paper_branches(cls, last: int) -> list[Node]:
        """X[0, L], ..., X[0, 1]."""
        return [(0, j) for j in range(last, 0, -1)]

    def make_node(self, node: Node, sources: Sequence[Node], *, fusion: Fusion) -> nn.Module:
        """As in the other grids, or with what comes from below brought up first."""
        if self.upsampling == "linear":
            return super().make_node(node, sources, fusion=fusion)
        return Raised(super().make_node(node, [node] * len(sources), fusion=fusion), node[0], self.topology)


class UNetSharp(GridNetwork):
    """UNet# (Eq. 1); supervised at X[0, L], X[1, L-1], ..., X[L, 0] and X[0, L-1], ..., X[0, 1] (Figure 2).

    `wiring="table"` (5 stages) leaves the links of full scale out at X[1, 3] and X[2, 2]: 9.716M, which Table 1 cuts.
    `cgm` puts a classification-guided module (section 2.3) at every supervised node: in training its answers follow
    the logits, for the loss to learn from, and in evaluation they gate them.
    """

    wirings: ClassVar = {"equation": unet_sharp, "table": partial(unet_sharp, without=[(1, 3), (2, 2)])}

    def __init__(
        self, input_channels: int, num_classes: int, *, cgm: bool = False, **kwargs: Unpack[GridKwargs]
    ) -> None:
        super().__init__(input_channels, num_classes, **kwargs)
        self.guidance: Guidance | None = None
        if cgm:
            last = self.topology.last
            deep = [node_name(node) for node in ((last, 0), (last - 1, 1)) if node[0] > 0]
            channels = {node_name(node): self.width(node) for node in self.supervised}
            self.guidance = Guidance(channels, num_classes, deep=deep)

    @classmethod
    def paper_branches(cls, last: int) -> list[Node]:
        """The decoder from X[0, L] down to the bottleneck, then the pruning branches X[0, L-1], ..., X[0, 1]."""
        return [*((i, last - i) for i in range(last + 1)), *((0, j) for j in range(last - 1, 0, -1))]

    @override
    def outputs(self, x: Tensor) -> list[Tensor]:
        if self.guidance is None:
            return super().outputs(x)
        features = self.features(x)
        return self.guidance(features, self.heads(features))


class UNet3Plus(GridNetwork):
    """UNet 3+ (Huang et al. 2020, arXiv:2004.08790) as Table 1 counts it: all scales concatenated as is, then f²."""

    wirings: ClassVar = {"equation": unet_3_plus}

    @classmethod
    def paper_branches(cls, last: int) -> list[Node]:
        """The decoder from X[0, L] down to the bottleneck (UNet 3+, section 2.2)."""
        return [(i, last - i) for i in range(last + 1)]

    def make_node(self, node: Node, sources: Sequence[Node], *, fusion: Fusion) -> nn.Module:
        """As in the other grids, shallower stages pooled first."""
        return Pooled(super().make_node(node, sources, fusion=fusion), node, sources, self.topology)


class CanonicalUNet3Plus(UNet3Plus):
    """UNet 3+ as its own paper has it: every scale is convolved to the first stage's width, their concatenation again.

    Upsampling is linear with corners not aligned, as in its authors' code. They bring logits of lower resolution to
    full size before the loss; here the target is brought to theirs, as in the other networks.
    """

    @property
    def projected(self) -> int:
        """Channels that every scale is convolved to."""
        return self.topology.features_per_stage[0]

    def width(self, node: Node) -> int:
        """The encoder's widths; in the decoder those of the projections of all stages."""
        return super().width(node) if node[1] == 0 else self.projected * self.topology.n_stages

    def head_kernel(self, node: Node, supervision: Supervision) -> Axes:
        """The stage's kernel (3 x 3 there), the output's too."""
        return self.topology.kernel_sizes[node[0]]

    def make_node(self, node: Node, sources: Sequence[Node], *, fusion: Fusion) -> nn.Module:
        """As the raw form, with a convolution of its own for every source."""
        kernel = self.topology.kernel_sizes[node[0]]
        first = Projections([self.width(s) for s in sources], self.projected, kernel, self.topology, fusion=fusion)
        return Pooled(ConvStack(first, self.width(node), kernel, self.topology), node, sources, self.topology)


class Pooled(nn.Module):
    """A node some of whose sources are of shallower stages: these are pooled to its own."""

    def __init__(self, node: nn.Module, at: Node, sources: Sequence[Node], topology: Topology) -> None:
        super().__init__()
        stage = at[0]
        self.pools = nn.ModuleList(
            topology.max_pool(stage, source=i) if i < stage else nn.Identity() for i, _ in sources
        )
        self.node = node

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """Sources `(B, C_k, *spatial_k)` to the node's features."""
        return self.node([pool(x) for pool, x in zip(self.pools, sources, strict=True)])


class Raised(nn.Module):
    """A node whose last source, of the stage below, comes through a transposed convolution to the node's width."""

    def __init__(self, node: nn.Module, stage: int, topology: Topology) -> None:
        super().__init__()
        width, below = topology.features_per_stage[stage : stage + 2]
        self.up = topology.transposed_conv(below, width, stage + 1)
        self.node = node

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """Sources `(B, C_k, *spatial_k)` to the node's features."""
        *same, below = sources
        return self.node([*same, self.up(below)])


class Projections(nn.Module):
    """cat(conv_0(up(x_0)), ..., conv_k(up(x_k))), each to the same number of channels."""

    def __init__(
        self, in_channels: Sequence[int], channels: int, kernel: Axes, topology: Topology, *, fusion: Fusion
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            FusionConv([c], channels, kernel, topology, interpolation="linear", fusion=fusion) for c in in_channels
        )

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """Sources `(B, C_k, *spatial_k)`, the first at the finest grid, to all channels on that grid."""
        size = sources[0].shape[2:]
        return torch.cat([conv([x], size) for conv, x in zip(self.convs, sources, strict=True)], dim=1)


class VNet(UNet):
    """V-Net's encoder with U-Net's decoder, as Table 1 counts it."""

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


class VNet3Plus(UNet3Plus):
    """V-Net's encoder with UNet 3+'s decoder, as Table 1 counts it."""

    encoder_class = VNetEncoder


class CanonicalVNet3Plus(CanonicalUNet3Plus):
    """V-Net's encoder with the decoder of UNet 3+'s own paper."""

    encoder_class = VNetEncoder

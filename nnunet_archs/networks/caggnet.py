"""CAggNet: "CAggNet: Crossing Aggregation Network for Medical Image Segmentation", arXiv:2004.08237.

Figure 3: on the triangular grid of UNet++ every node joins its three neighbours (`grid.py`). Figure 4, Eqs. 1 and 2:
the crossing aggregation module (CAM), which is such a node. Figure 5 and section III.C: the weighted aggregation module
(WAM), which joins the last node of every stage but the deepest, from the bottom up, and gives the output.

Where this departs from the paper or settles what it leaves open:

- Eq. 1 has the node below in the same column, which is not computed yet: the column before is meant, as in the authors'
  code. The node above is of the same column, so a column is computed from the top down.
- The text adds "stage N-1" to the module's output, which has another shape; Eq. 2 adds X[i, j-1], and so does this.
- Two convolutions a node (Eq. 2, text); the authors' code has models with three, and a residual inside the
  node.
- The WAM concatenates, and gates every stage, as the text says; `wam="add"` is the authors' code, which adds, and
  leaves stage 0 without a gate.
- The encoder's X[L, 0], which no crossing aggregation computes, is no part of the WAM (their code).
- Down-sampling is max pooling, up-sampling a transposed convolution, both by the stage's stride (their code).
- Supervised at every stage of the WAM, by choice: the paper draws one output, and does not say where its loss is taken.
- Widths, normalisation and activation are the plan's; the paper has BatchNorm and ReLU, and states no widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from .parts.blocks import ConvStack, SqueezeExcite
from .parts.contract import SegmentationNetwork, Supervision, check_choice
from .parts.encoders import ConvEncoder
from .parts.fusion import Fusion, FusionConv
from .parts.grid import Grid, Node, caggnet
from .parts.heads import Heads
from .parts.recompute import recomputed
from .parts.topology import Topology, TopologyKwargs

Aggregation = Literal["concat", "add"]


class CAggNet(SegmentationNetwork):
    """CAggNet (Figure 3), its output and, unless `supervision` is "none", those of the stages below from the WAM.

    Nothing is upsampled here, so `fusion` only decides whether the neighbours are concatenated.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        supervision: Supervision = "nnunet",
        wam: Aggregation = "concat",
        fusion: Fusion = "exact",
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        topology = Topology.of(self, topology_kwargs)
        check_choice("supervision", supervision, get_args(Supervision))
        check_choice("wam", wam, get_args(Aggregation))
        stages = tuple(range(1 if supervision == "none" else topology.last))
        super().__init__(topology, branch_stages=stages, deep_supervision=deep_supervision)
        self.encoder = ConvEncoder(input_channels, topology)
        self.grid = Grid(caggnet(topology.last), partial(CrossingAggregation, topology=topology, fusion=fusion))
        self.wam = WeightedAggregation(topology, wam)
        self.heads = Heads({f"P_{i}": self.wam.channels[i] for i in stages}, num_classes, topology)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of the WAM's stages, or of the full resolution alone."""
        nodes = self.grid(self.encoder(x))
        last = self.topology.last
        p = self.wam([nodes[i, last - i] for i in range(last)])
        return self.heads(p if self.deep_supervision else p[:1])


class CrossingAggregation(nn.Module):
    """CAM (Figure 4): X[i, j] = X[i, j-1] + f²(cat(X[i, j-1], DS(X[i-1, j]), US(X[i+1, j-1]))), Eqs. 1 and 2."""

    def __init__(self, node: Node, sources: Sequence[Node], *, topology: Topology, fusion: Fusion) -> None:
        super().__init__()
        stage, widths = node[0], topology.features_per_stage
        width, kernel = widths[stage], topology.kernel_sizes[stage]
        self.down = topology.max_pool(stage)
        self.up = topology.transposed_conv(widths[stage + 1], width, stage + 1)
        # the nodes to the left and above as they are, the one below brought to this stage's width
        channels = [*(widths[i] for i, _ in sources[:-1]), width]
        self.convs = ConvStack(FusionConv(channels, width, kernel, topology, fusion=fusion), width, kernel, topology)
        self.checkpoint = topology.checkpoint

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """The nodes to the left, above (but at stage 0) and below, `(B, C_k, *spatial_k)`, to X[i, j]."""
        # of the recomputed neighbours the first convolution sees again, it does not itself run again
        y = recomputed(self.begin, *sources, when=self.checkpoint)
        return sources[0] + self.convs.end(y)[1]

    def begin(self, left: Tensor, *others: Tensor) -> Tensor:
        """What the first convolution gives."""
        *above, below = others
        return self.convs.begin([left, *(self.down(x) for x in above), self.up(below)])


class WeightedAggregation(nn.Module):
    """WAM (section III.C): P[i] = cat(WAB(X[i, L-i]), US(P[i+1])), from the bottom up.

    The block WAB (Figure 5) weighs channels by the mean of each: squeeze and excitation without reduction.
    """

    def __init__(self, topology: Topology, aggregation: Aggregation) -> None:
        super().__init__()
        widths, last = topology.features_per_stage, topology.last
        self.concatenates = aggregation == "concat"
        joined = 2 if self.concatenates else 1
        self.channels = [joined * width for width in widths[: last - 1]] + [widths[last - 1]]
        self.gates = nn.ModuleList(
            SqueezeExcite(width, width, topology, bias=True) if i > 0 or self.concatenates else nn.Identity()
            for i, width in enumerate(widths[:last])
        )
        self.ups = nn.ModuleList(
            topology.transposed_conv(self.channels[i + 1], widths[i], i + 1) for i in range(last - 1)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """X[i, L-i], `(B, C_i, *spatial_i)`, to P[i] of the same size, both from the highest resolution down."""
        gated = [gate(x) for gate, x in zip(self.gates, features, strict=True)]
        p = gated[-1:]
        for x, up in zip(reversed(gated[:-1]), reversed(self.ups), strict=True):
            below = up(p[0])
            p.insert(0, torch.cat([x, below], dim=1) if self.concatenates else x + below)
        return p

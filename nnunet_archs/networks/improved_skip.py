"""The improved-skip U-Net of Di et al., and the classical U-Net that it is measured against.

Jing Di, Shuai Ma, Jing Lian, Guodong Wang: "A U-Net Network Model for Medical Image Segmentation Based on Improved Skip
Connections".

Section III.A: the skip connection leaves an encoder stage after its first convolution, not its second, which pooling
takes. "Ours1" also joins both convolutions of the fifth stage before it is upsampled; "Ours2" does not.

Where this departs from the paper or settles what it leaves open:

- Upsampling is a transposed convolution to the width of the stage above, which the sizes of Table 2 ask for.
- The first convolution's result is taken after its activation, and joined where U-Net joins it: with what comes from
  below, before the decoder's first convolution.
- Part of the prose swaps Ours1 and Ours2; Table 2's legend is followed, which its sizes confirm.
- Dropout is "added after the convolution", at a rate and in layers unstated: here of whole channels, 0.1, after every
  convolution and before the normalisation as in nnU-Net. A plan that has a dropout of its own keeps that. The classical
  U-Net has none.
- The fifth stage is the plan's last.
- Normalisation and activation are the plan's. The paper names neither; the improved networks have the size of ones with
  BatchNorm, its classical U-Net that of one without. The one here has the plan's too.
- Two convolutions a stage, whatever a plan for another network says.
- `supervision="paper"` is the output alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_dropout
from torch import Tensor, nn
from typing_extensions import Unpack

from .parts.blocks import ConvStack
from .parts.contract import SegmentationNetwork, Supervision, supervised_stages
from .parts.decoder import Decoder
from .parts.encoders import ConvEncoder
from .parts.fusion import Fusion, FusionConv
from .parts.heads import Heads
from .parts.topology import Topology, TopologyKwargs


class ClassicalUNet(SegmentationNetwork):
    """U-Net (Ronneberger et al. 2015, arXiv:1505.04597) with transposed convolutions.

    `fusion` has nothing to upsample here: it decides whether the skip connection is concatenated.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    skip: ClassVar[int] = 1  # the convolution of a stage from which its skip connection leaves
    bottom: ClassVar[tuple[int, ...]] = (1,)  # those of the last stage that are upsampled
    dropout: ClassVar[float] = 0.0

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        supervision: Supervision = "nnunet",
        fusion: Fusion = "exact",
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        topology = Topology.of(self, topology_kwargs)
        if self.dropout and topology.dropout_op is None:
            dropout_op = get_matching_dropout(dimension=topology.dim)
            topology = replace(topology, dropout_op=dropout_op, dropout_op_kwargs={"p": self.dropout})
        stages = supervised_stages(self, topology, supervision)
        super().__init__(topology, branch_stages=stages, deep_supervision=deep_supervision)
        widths, last = topology.features_per_stage, topology.last
        self.encoder = ConvEncoder(input_channels, topology)
        below = [*widths[1:last], len(self.bottom) * widths[last]]
        self.stages = Decoder(DecoderStage(below[i], i, topology, fusion=fusion) for i in range(last))
        self.heads = Heads({f"D_{i}": widths[i] for i in stages}, num_classes, topology)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of the decoder's stages, or of the full resolution alone."""
        *convs, deepest = self.encoder.both(x)
        bottom = torch.cat([deepest[i] for i in self.bottom], dim=1)
        decoded = self.stages(bottom, [both[self.skip] for both in convs])
        return self.heads(decoded if self.deep_supervision else decoded[:1])


class ImprovedSkipUNet(ClassicalUNet):
    """U-Net whose skip connections leave after the first convolution of a stage ("Ours2")."""

    skip: ClassVar = 0
    dropout: ClassVar = 0.1


class ImprovedSkipConcatUNet(ImprovedSkipUNet):
    """The same, both convolutions of the last stage joined before they are upsampled ("Ours1")."""

    bottom: ClassVar = (0, 1)


class DecoderStage(nn.Module):
    """f²(cat(skip, up(x))), up a transposed convolution out of the stage below."""

    def __init__(self, in_channels: int, stage: int, topology: Topology, *, fusion: Fusion) -> None:
        super().__init__()
        width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
        self.up = topology.transposed_conv(in_channels, width, stage + 1)
        self.convs = ConvStack(FusionConv([width] * 2, width, kernel, topology, fusion=fusion), width, kernel, topology)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Features of the stage below and the skip connection's to `(B, width, *spatial)` at this stage."""
        return self.convs([skip, self.up(x)])

"""FCN-8s: VGG16's convolutions, its classifier made convolutional, and the sum of the scores of three stages.

Evan Shelhamer, Jonathan Long, Trevor Darrell: "Fully Convolutional Networks for Semantic Segmentation",
arXiv:1605.06211.

Section 4.3, Figure 3: the classifier's scores at the deepest stage are upsampled and added to scores of the stage
above, these to scores of the stage above that, and the sum is upsampled to the image (8 times, hence the name).

Where this departs from the paper or settles what it leaves open:

- The stages are the plan's: 2, 2, 3, 3, 3, ... convolutions, each stage then pooled by the stride of the next. The
  classifier stands at the last stage, whose features are its own `fc`, not the plan's. With 6 stages of stride 2 it is
  the paper's network.
- `fc` is 4096, as in VGG16, in 2D, and 512 in 3D, where the kernel of 7 would make 719 million parameters of it.
- The kernel of 7 is 1 along an axis where the plan's is 1, and padded by zeros; the paper pads the image by 100 pixels.
- Normalisation and activation are the plan's; the paper has ReLU alone. Dropout of 0.5 is the paper's.
- Upsampling is linear and not learned. The paper's transposed convolutions begin as that, and the last one stays so.
- The paper scales the scores of the pools by constants. Here they begin as they are, with He initialisation.
- The paper supervises the output alone. nnU-Net's supervision is of all three sums, FCN-8s, 16s and 32s, upsampled to
  stages 0, 1 and 2.
- `released` is the FCN of CAggNet's authors: two convolutions a stage, no dropout, one score, and one transposed
  convolution of the whole stride.
"""

from __future__ import annotations

from itertools import accumulate
from typing import ClassVar

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp
from torch import Tensor, nn
from typing_extensions import Unpack

from .parts.blocks import ConvNormAct, ConvStack
from .parts.contract import SegmentationNetwork, Supervision, check_supervision
from .parts.encoders import widened
from .parts.heads import Heads
from .parts.separable import upsample
from .parts.topology import Topology, TopologyKwargs

HIDDEN = {2: 4096, 3: 512}
DROPOUT = 0.5


class FCN(SegmentationNetwork):
    """FCN-8s, or the FCN that CAggNet's authors released; `fc` is the width of the fully connected layers.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    citation: ClassVar = (
        'Shelhamer, Long, Darrell: "Fully Convolutional Networks for Semantic Segmentation", IEEE Transactions on '
        "Pattern Analysis and Machine Intelligence 39(4), 640–651, 2017"
    )
    link: ClassVar = "https://arxiv.org/abs/1605.06211"

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        supervision: Supervision = "nnunet",
        fc: int | None = None,
        released: bool = False,
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        topology = Topology.of(self, topology_kwargs)
        check_supervision(self, supervision)
        hidden = HIDDEN[topology.dim] if fc is None else fc
        if hidden < 1:
            raise ValueError(f"fc={fc}: the fully connected layers need at least 1 feature; the paper has 4096")
        last, kernels = topology.last, topology.kernel_sizes
        scored = range(last, last - 1 if released else max(last - 3, 0), -1)  # deepest first
        branches = tuple(range(len(scored))) if supervision == "nnunet" else (0,)
        super().__init__(topology, branch_stages=branches, deep_supervision=deep_supervision)
        widths = (input_channels, *topology.features_per_stage[:last])
        self.stages = nn.ModuleList(
            ConvStack(
                topology.conv(widths[i], widths[i + 1], kernels[i]),
                widths[i + 1],
                kernels[i],
                topology,
                n_convs=2 if released or i < 2 else 3,
            )
            for i in range(last)
        )
        self.pools = nn.ModuleList(topology.max_pool(i) for i in range(1, topology.n_stages))
        dropout = 0.0 if released else DROPOUT
        self.fully_connected = nn.Sequential(
            ConvNormAct(topology.conv(widths[last], hidden, widened(kernels[last], by=4)), hidden, topology),
            nn.Dropout(dropout),
            ConvNormAct(topology.conv(hidden, hidden, (1,) * topology.dim), hidden, topology),
            nn.Dropout(dropout),
        )
        self.heads = Heads({f"score_{i}": hidden if i == last else widths[i] for i in scored}, num_classes, topology)
        # named as in `Heads`: pretrained weights of other classes do not fit
        self.enlarge = nn.ModuleDict()
        if released:
            transposed, stride = get_matching_convtransp(topology.conv_op), topology.total_stride
            self.enlarge["seg_layers"] = transposed(num_classes, num_classes, stride, stride, bias=False)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits: the sum of all scores at full resolution, and with nnU-Net's supervision sums of fewer below it."""
        sizes: list[torch.Size] = []
        pooled: list[Tensor] = []
        for stage, pool in zip(self.stages, self.pools, strict=True):
            sizes.append(x.shape[2:])
            x = pool(stage(x))
            pooled.insert(0, x)
        scores = self.heads([self.fully_connected(x), *pooled[1:]])
        if self.enlarge:
            return [self.enlarge["seg_layers"](scores[0])]
        sums = list(accumulate(scores, lambda y, score: score + upsample(y, score.shape[2:], "linear")))
        sums = sums[::-1][: len(self.branch_stages) if self.deep_supervision else 1]
        return [upsample(y, size, "linear") for y, size in zip(sums, sizes)]  # noqa: B905 (the first are enough)

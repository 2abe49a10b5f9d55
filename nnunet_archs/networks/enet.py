"""ENet, a network for real time: small, its features brought to an eighth of the resolution at once.

Adam Paszke, Abhishek Chaurasia, Sangpil Kim, Eugenio Culurciello: "ENet: A Deep Neural Network Architecture for
Real-Time Semantic Segmentation", arXiv:1606.02147.

Figure 2: the initial block and the bottleneck, a residual whose convolutions have a quarter of the channels. Table 1:
two stages that bring the resolution down, a third of the second's blocks without that, and two short ones that bring it
up again, by placing values where the maxima had been.

Where this departs from the paper or settles what it leaves open:

- Stages 1, 2 and 3 are the plan's, with its strides and features; in a plan of fewer stages the missing ones have
  stride 1, and in a deeper one the others are not used. The features of stage 0 are not used: at full resolution there
  is the image and the output alone. The paper's features are 16, 64 and 128.
- The convolutions of kernel 5 along one axis at a time are as many as there are axes, of kernel 1 along an axis where
  the plan's is 1. Dilated convolutions have the plan's kernel.
- The initial block's convolution makes what the image's channels leave of the features of stage 1, which are raised for
  an image that would leave none.
- Normalisation is the plan's; the paper has BatchNorm. Activations are the paper's, PReLU in the encoder, of one
  parameter each, and ReLU in the decoder.
- What a pooled input lacks in channels is zeros (section 3). If there are fewer channels below, the last ones are cut.
- There is no head at lower stages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp, get_matching_dropout
from torch import Tensor, nn
from typing_extensions import Unpack

from .parts.blocks import ConvNormAct
from .parts.contract import SegmentationNetwork, Supervision, check_supervision
from .parts.encoders import widened
from .parts.recompute import recomputed
from .parts.topology import Axes, Topology, TopologyKwargs

N_STAGES = 4
FEATURES = (16, 16, 64, 128)
# of a bottleneck's middle convolution: 0 is one axis at a time, other numbers are dilations
PLAIN = (1,) * 4
MIXED = (1, 2, 0, 4, 1, 8, 0, 16)


class ENet(SegmentationNetwork):
    """ENet on a plan's first strides.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    has_heads: ClassVar = False
    citation: ClassVar = (
        'Paszke, Chaurasia, Kim, Culurciello: "ENet: A Deep Neural Network Architecture for Real-Time Semantic '
        'Segmentation", arXiv:1606.02147, 2016'
    )
    link: ClassVar = "https://arxiv.org/abs/1606.02147"

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        supervision: Supervision = "none",
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        topology = Topology.of(self, topology_kwargs)
        check_supervision(self, supervision)
        super().__init__(topology, branch_stages=(0,), deep_supervision=deep_supervision)
        encoder = replace(four_stages(topology, input_channels), nonlin=nn.PReLU, nonlin_kwargs=None)
        decoder = replace(encoder, nonlin=nn.ReLU)
        self.initial = InitialBlock(input_channels, encoder)
        self.downs = nn.ModuleList(DownBlock(i, encoder, dropout=p) for i, p in ((2, 0.01), (3, 0.1)))
        self.encoders = nn.ModuleList(
            nn.Sequential(*(Bottleneck(i, encoder, kind=kind, dropout=p) for kind in kinds))
            for i, kinds, p in ((2, PLAIN, 0.01), (3, MIXED * 2, 0.1))
        )
        self.ups = nn.ModuleList(UpBlock(i, decoder, dropout=0.1) for i in (1, 2))
        self.decoders = nn.ModuleList(
            nn.Sequential(*(Bottleneck(i, decoder, kind=1, dropout=0.1) for _ in range(i))) for i in (1, 2)
        )
        kernel, stride = encoder.kernel_sizes[0], encoder.strides[1]
        # named as in `Heads`: pretrained weights of other classes do not fit
        self.output = nn.ModuleDict(
            {
                "seg_layers": get_matching_convtransp(topology.conv_op)(
                    encoder.features_per_stage[1],
                    num_classes,
                    kernel,
                    stride,
                    padding=tuple(k // 2 for k in kernel),
                    output_padding=tuple(s - 1 for s in stride),
                    bias=False,
                )
            }
        )

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of the full resolution."""
        x = self.initial(x)
        pooled: list[tuple[Tensor, torch.Size]] = []
        for down, stage in zip(self.downs, self.encoders, strict=True):
            size = x.shape[2:]
            x, indices = down(x)
            pooled.append((indices, size))
            x = stage(x)
        for up, stage in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            x = stage(up(x, *pooled.pop()))
        return [self.output["seg_layers"](x)]


def four_stages(topology: Topology, input_channels: int) -> Topology:
    """The first four stages of a topology; those that it lacks are as its last, without a stride."""
    lacking = max(0, N_STAGES - topology.n_stages)
    kernels, widths = topology.kernel_sizes, topology.features_per_stage
    unused, first, *others = (*widths, *[widths[-1]] * lacking)[:N_STAGES]
    return replace(
        topology,
        n_stages=N_STAGES,
        features_per_stage=[unused, max(first, input_channels + 1), *others],
        kernel_sizes=(*kernels, *[kernels[-1]] * lacking)[:N_STAGES],
        strides=(*topology.strides, *[(1,) * topology.dim] * lacking)[:N_STAGES],
    )


class InitialBlock(nn.Module):
    """cat(conv(x), pool(x)) (Figure 2a), the convolution with as many channels as the image leaves to it."""

    def __init__(self, input_channels: int, topology: Topology) -> None:
        super().__init__()
        width, kernel, stride = topology.features_per_stage[1], topology.kernel_sizes[1], topology.strides[1]
        self.conv = topology.conv(input_channels, width - input_channels, kernel, stride=stride)
        self.pool = topology.max_pool(1)
        self.finish = ConvNormAct(nn.Identity(), width, topology)

    def forward(self, x: Tensor) -> Tensor:
        """Image `(B, C, *spatial)` to `(B, width, *spatial / stride)`."""
        return self.finish(torch.cat([self.conv(x), self.pool(x)], dim=1))


class Bottleneck(nn.Module):
    """act(x + branch(x)) (Figure 2b), with a convolution of the `kind` that `MIXED` has."""

    def __init__(self, stage: int, topology: Topology, *, kind: int, dropout: float) -> None:
        super().__init__()
        width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
        inner = reduced(width)
        first = topology.conv(width, inner, (1,) * topology.dim)
        if kind:
            middle = [topology.conv(inner, inner, kernel, dilation=kind)]
        else:
            middle = [topology.conv(inner, inner, line) for line in lines(widened(kernel))]
        self.branch = branch([first, *middle], inner, width, topology, dropout=dropout)
        self.nonlin = topology.activation()
        self.checkpoint = topology.checkpoint

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, width, *spatial)` to the same shape."""
        return recomputed(self.block, x, when=self.checkpoint)

    def block(self, x: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        return self.nonlin(x + self.branch(x))


class DownBlock(nn.Module):
    """act(pad(pool(x)) + branch(x)), the branch's first convolution with the stride as its kernel."""

    def __init__(self, stage: int, topology: Topology, *, dropout: float) -> None:
        super().__init__()
        width_above, width = topology.features_per_stage[stage - 1 : stage + 1]
        stride, inner = topology.strides[stage], reduced(width_above)
        first = topology.conv_op(width_above, inner, stride, stride, bias=topology.conv_bias)
        middle = topology.conv(inner, inner, topology.kernel_sizes[stage])
        self.pool = topology.max_pool(stage, return_indices=True)
        self.padding = [0, 0] * topology.dim + [0, width - width_above]
        self.branch = branch([first, middle], inner, width, topology, dropout=dropout)
        self.nonlin = topology.activation()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, C, *spatial)` to `(B, width, *spatial / stride)`, and where its maxima are."""
        pooled, indices = self.pool(x)
        return self.nonlin(F.pad(pooled, self.padding) + self.branch(x)), indices


class UpBlock(nn.Module):
    """act(unpool(project(x)) + branch(x)), the branch's middle convolution transposed, without its last activation."""

    def __init__(self, stage: int, topology: Topology, *, dropout: float) -> None:
        super().__init__()
        width, width_below = topology.features_per_stage[stage : stage + 2]
        inner, unit, linear = reduced(width_below), (1,) * topology.dim, nn.Identity()
        first = topology.conv(width_below, inner, unit)
        middle = topology.transposed_conv(inner, inner, stage + 1)
        self.project = ConvNormAct(topology.conv(width_below, width, unit), width, topology, nonlin=linear)
        self.branch = branch([first, middle], inner, width, topology, dropout=dropout, nonlin=linear)
        self.nonlin = topology.activation()

    def forward(self, x: Tensor, indices: Tensor, size: Sequence[int]) -> Tensor:
        """Features `(B, C, *spatial)`, and the places of maxima in `size`, to `(B, width, *size)`."""
        return self.nonlin(unpooled(self.project(x), indices, size) + self.branch(x))


def branch(
    convs: Sequence[nn.Module],
    inner: int,
    width: int,
    topology: Topology,
    *,
    dropout: float,
    nonlin: nn.Module | None = None,
) -> nn.Sequential:
    """A bottleneck's convolutions, then one of kernel 1 to its width, and dropout of whole channels."""
    last = topology.conv(inner, width, (1,) * topology.dim)
    return nn.Sequential(
        *(ConvNormAct(conv, inner, topology) for conv in convs),
        ConvNormAct(last, width, topology, nonlin=nonlin),
        get_matching_dropout(dimension=topology.dim)(dropout),
    )


def reduced(width: int) -> int:
    """A bottleneck's inner channels."""
    return max(1, width // 4)


def lines(kernel: Axes) -> Iterator[Axes]:
    """A kernel's extent along one axis at a time."""
    for axis, k in enumerate(kernel):
        yield tuple(k if a == axis else 1 for a in range(len(kernel)))


def unpooled(x: Tensor, indices: Tensor, size: Sequence[int]) -> Tensor:
    """Values `(B, C, *spatial)` at their places in `(B, C, *size)`, as max pooling counts places; zeros elsewhere.

    torch's own operator has no counterpart in ONNX.
    """
    empty = x.new_zeros(*x.shape[:2], math.prod(size))
    return empty.scatter(2, indices.flatten(2), x.flatten(2)).unflatten(2, tuple(size))

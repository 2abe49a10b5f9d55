"""Inf-Net, which finds what an earlier guess of it has missed.

Deng-Ping Fan et al.: "Inf-Net: Automatic COVID-19 Lung Infection Segmentation From CT Images", IEEE Transactions on
Medical Imaging 39, 2020, arXiv:2004.14133.

Figure 2: a partial decoder of the three deepest stages makes a first, global map. At strides 32, 16 and 8 reverse
attention erases from the features what the map has already, and what is found in the rest is added to it; features
that tell edges, of a shallow stage, help.

Where this departs from the paper or settles what it leaves open:

- The encoder is timm's Res2Net-50 of version 1b (26w x 4s), without the authors' ImageNet weights; nothing is
  downloaded.
- The paper has one class and three channels. Any number of channels is taken. Of several classes the partial decoder
  gives a map each, and every map is refined by itself, with the same weights: one class is the paper's network.
- Edges are one map, of all classes together; it is returned for the loss, with `edges`, in training alone.
- Upsampling is bilinear, corners aligned in the partial decoder alone, as in the authors' code. As there, most of the
  convolutions are normalised but not activated.
- The first of the outputs is the last refinement, which is the prediction. Supervision "paper" adds the two others and
  the global map, all brought to the image's size. There are no heads at lower resolution.
- 2D only. Layers are the paper's, whatever the plan says. The authors' rescaling of every prediction to 0 and 1 is left
  out: it finds something in every image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import timm
import torch
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .parts.blocks import ConvNormAct
from .parts.contract import Supervision
from .parts.foreign import ForeignKwargs, ForeignNetwork, batch_normalised
from .parts.separable import upsample
from .parts.topology import Axes, Topology

REDUCED, EDGES = 32, 64  # channels of the partial decoder's sources, and of the features that tell edges
ENCODER = (256, 512, 1024, 2048)


class InfNet(ForeignNetwork):
    """Inf-Net, 2D; with `edges` the edges' logits `(B, 1, H, W)` follow the outputs in training.

    Raises:
        ValueError: for a topology, a patch or a supervision that it does not take.
    """

    citation: ClassVar = (
        'Fan et al.: "Inf-Net: Automatic COVID-19 Lung Infection Segmentation From CT Images", IEEE Transactions on '
        "Medical Imaging 39, 2020"
    )
    link: ClassVar = "https://arxiv.org/abs/2004.14133"
    dimensions: ClassVar = (2,)
    strides: ClassVar = (1, 2, 2, 2, 2, 2)
    has_width: ClassVar = False

    def __init__(
        self, input_channels: int, num_classes: int, *, edges: bool = False, **kwargs: Unpack[ForeignKwargs]
    ) -> None:
        self.edges = edges
        super().__init__(input_channels, num_classes, **kwargs)
        self.branch_stages = (0,) * len(self.branch_stages)

    @override
    def n_heads(self, topology: Topology, supervision: Supervision | None) -> int:
        return 4 if supervision in (None, "paper") else super().n_heads(topology, supervision)

    @override
    def build(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> nn.Module:
        return InfNetBody(input_channels, num_classes, batch_normalised(topology), edges=self.edges)

    @override
    def outputs(self, x: Tensor) -> list[Tensor]:
        maps, edges = self.body(x)
        wanted = maps[: len(self.branch_stages) if self.deep_supervision else 1]
        tail = [edges] if self.training and self.edges else []
        return [upsample(y, x.shape[2:], "linear") for y in [*wanted, *tail]]


class InfNetBody(nn.Module):
    """The encoder, the partial decoder, three refinements and the branch of edges."""

    def __init__(self, input_channels: int, num_classes: int, layers: Topology, *, edges: bool) -> None:
        super().__init__()
        net = timm.create_model("res2net50d", pretrained=False, in_chans=input_channels, num_classes=0)
        stem = nn.Sequential(net.conv1, net.bn1, net.act1, net.maxpool, net.layer1)
        self.encoder = nn.ModuleList([stem, net.layer2, net.layer3, net.layer4])
        self.reduce = nn.ModuleList(ReceptiveField(channels, layers) for channels in ENCODER[1:])
        self.decoder = PartialDecoder(num_classes, layers)
        self.edge_features = nn.Sequential(
            linear(ENCODER[0], EDGES, (1, 1), layers), *(linear(EDGES, EDGES, (3, 3), layers) for _ in range(2))
        )
        self.edge_head = linear(EDGES, 1, (3, 3), layers) if edges else None
        self.refinements = nn.ModuleList(
            [
                ReverseAttention(ENCODER[3], 256, layers, kernels=[(5, 5)] * 3 + [(1, 1)]),
                *(ReverseAttention(channels, 64, layers, kernels=[(3, 3)] * 3) for channels in (1024, 512)),
            ]
        )

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Image `(B, C, H, W)` to logits of the refinements, the last first, of the global map, and of the edges."""
        features = []
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        edges = self.edge_features(features[0])
        guess = self.decoder([reduce(y) for reduce, y in zip(self.reduce, features[1:], strict=True)])
        maps = [guess]
        for refine, y in zip(self.refinements, reversed(features), strict=False):
            guess = refine(y, edges, upsample(guess, y.shape[2:], "linear"))
            maps.insert(0, guess)
        return maps, None if self.edge_head is None else self.edge_head(edges)


def linear(in_channels: int, channels: int, kernel: Axes, layers: Topology, *, dilation: int = 1) -> ConvNormAct:
    """Convolution that keeps the size, and normalisation."""
    conv = nn.Conv2d(in_channels, channels, (kernel[0], kernel[1]), padding="same", dilation=dilation, bias=False)
    return ConvNormAct(conv, channels, layers, nonlin=nn.Identity())


class ReceptiveField(nn.Module):
    """Features at four widths of view, joined: relu(conv(cat(branches)) + project(x))."""

    def __init__(self, in_channels: int, layers: Topology) -> None:
        super().__init__()
        n = REDUCED
        self.branches = nn.ModuleList([linear(in_channels, n, (1, 1), layers)])
        for size in (3, 5, 7):
            self.branches.append(
                nn.Sequential(
                    linear(in_channels, n, (1, 1), layers),
                    linear(n, n, (1, size), layers),
                    linear(n, n, (size, 1), layers),
                    linear(n, n, (3, 3), layers, dilation=size),
                )
            )
        self.join = linear(4 * n, n, (3, 3), layers)
        self.project = linear(in_channels, n, (1, 1), layers)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, H, W)` to `(B, 32, H, W)`."""
        joined = self.join(torch.cat([branch(x) for branch in self.branches], dim=1))
        return (joined + self.project(x)).relu()


class PartialDecoder(nn.Module):
    """Three stages, finer ones multiplied by what coarser ones say of them, then concatenated from below."""

    def __init__(self, num_classes: int, layers: Topology) -> None:
        super().__init__()
        n = REDUCED
        self.of_coarse, self.of_coarse_fine, self.of_middle, self.beside_middle = (
            linear(n, n, (3, 3), layers) for _ in range(4)
        )
        self.beside_fine, self.join_middle = (linear(2 * n, 2 * n, (3, 3), layers) for _ in range(2))
        self.join_fine, self.last = (linear(3 * n, 3 * n, (3, 3), layers) for _ in range(2))
        # named as in `Heads`: pretrained weights of other classes do not fit
        self.seg_layers = nn.ModuleDict({"G": nn.Conv2d(3 * n, num_classes, 1)})

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features `(B, 32, H_i, W_i)`, the finest first, to logits `(B, num_classes, H_0, W_0)`."""
        fine, middle, coarse = features
        up = upsample(coarse, middle.shape[2:], "aligned")
        told = self.of_coarse_fine(upsample(up, fine.shape[2:], "aligned"))
        fine = told * self.of_middle(upsample(middle, fine.shape[2:], "aligned")) * fine
        both = self.join_middle(torch.cat([self.of_coarse(up) * middle, self.beside_middle(up)], dim=1))
        below = self.beside_fine(upsample(both, fine.shape[2:], "aligned"))
        return self.seg_layers["G"](self.last(self.join_fine(torch.cat([fine, below], dim=1))))


class ReverseAttention(nn.Module):
    """A guess, plus what is found where it has nothing: guess + convs(cat((1 - sigmoid(guess)) x, edges))."""

    def __init__(self, in_channels: int, width: int, layers: Topology, *, kernels: Sequence[Axes]) -> None:
        super().__init__()
        *earlier, last = kernels
        self.reduce = linear(in_channels, width, (1, 1), layers)
        channels = [width + EDGES, *[width] * (len(earlier) - 1)]
        self.convs = nn.Sequential(
            *(
                ConvNormAct(layers.conv(n, width, kernel), width, layers)
                for n, kernel in zip(channels, earlier, strict=True)
            )
        )
        self.found = linear(width, 1, last, layers)

    def forward(self, x: Tensor, edges: Tensor, guess: Tensor) -> Tensor:
        """Features `(B, C, H, W)`, those of edges and a guess `(B, K, H, W)` to a better guess."""
        n_maps = guess.shape[1]
        # a convolution of kernel 1 without a bias: erasing may as well follow it, where there are fewer channels
        missed = (1 - guess.sigmoid()).unsqueeze(2) * self.reduce.conv(x).unsqueeze(1)
        edges = upsample(edges, x.shape[2:], "linear").repeat_interleave(n_maps, dim=0)
        y = torch.cat([self.reduce.finish(missed.flatten(0, 1)), edges], dim=1)
        return guess + self.found(self.convs(y)).view(guess.shape)

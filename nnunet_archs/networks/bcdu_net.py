"""BCDU-Net: a U-Net whose skip connections are read by convolutional LSTMs, above a densely connected bottleneck.

Reza Azad, Maryam Asadi-Aghbolaghi, Mahmood Fathy, Sergio Escalera: "Bi-Directional ConvLSTM U-Net with Densley
Connected Convolutions", ICCV Workshops 2019, arXiv:1909.00166.

A U-Net of two convolutions a stage. Where U-Net concatenates, two feature maps are the steps of a sequence that a
convolutional LSTM reads: the skip connection's, and what a transposed convolution with batch normalisation brings up
from below. The last stage is dense: of its three blocks the third takes the results of both others, which is the
network that the paper calls D3.

Where this departs from the paper or settles what it leaves open:

- The paper's LSTM reads the sequence in both directions. The authors' code, whose size FocusNet++ prints, has one: what
  comes from below first, then the skip connection, and the state after both is what the decoder's convolutions take.
- As in the code, the state has half the stage's channels, gates are hard sigmoids (0.2 x + 0.5, cut at 0 and 1), the
  forget gate's bias begins with 1, and no gate looks at the cell. Candidate and output are tanh.
- As in the code, dropout of 0.5 acts on single values: of every dense block, and of the deepest skip connection.
- The dense stage is the plan's last, which is the paper's fourth.
- Normalisation is the plan's, after every convolution outside the LSTM; the paper has it after transposed convolutions
  alone. Activation is the plan's.
- `released=True` has normalisation where the paper has it, and the code's last convolution, to 2 channels with an
  activation: few, where there are many classes.
- Supervision: the paper's is of the output alone. nnU-Net's adds X[i, L-i], i < L.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .parts.blocks import ConvNormAct, ConvStack
from .parts.contract import SegmentationNetwork, Supervision, supervised_stages
from .parts.decoder import Decoder
from .parts.encoders import ConvEncoder
from .parts.heads import Heads
from .parts.recompute import recomputed
from .parts.topology import Axes, Topology, TopologyKwargs

DROPOUT = 0.5
RELEASED_TAIL = 2  # channels before the output


class BCDUNet(SegmentationNetwork):
    """BCDU-Net with three dense blocks (D3), in the paper's form or in that of the authors' code.

    Raises:
        ValueError: for an option that does not exist, or a topology that cannot work.
    """

    citation: ClassVar = (
        'Azad, Asadi-Aghbolaghi, Fathy, Escalera: "Bi-Directional ConvLSTM U-Net with Densley Connected Convolutions", '
        "ICCV Workshops 2019"
    )
    link: ClassVar = "https://arxiv.org/abs/1909.00166"

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        supervision: Supervision = "nnunet",
        released: bool = False,
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        topology = Topology.of(self, topology_kwargs)
        stages = supervised_stages(self, topology, supervision)
        super().__init__(topology, branch_stages=stages, deep_supervision=deep_supervision)
        convs = topology.unnormalised() if released else topology
        widths, last = topology.features_per_stage, topology.last
        self.encoder = ConvEncoder(input_channels, convs, last=last - 1)
        self.dropout = nn.Dropout(DROPOUT)
        self.pool = topology.max_pool(last)
        self.dense = DenseBlocks(widths[last - 1], convs)
        self.decoder_stages = Decoder(DecoderStage(i, topology, convs) for i in range(last))
        channels = {f"D_{i}": widths[i] for i in stages}
        self.tail: nn.Module = nn.Identity()
        if released:
            conv = topology.conv(widths[0], RELEASED_TAIL, topology.kernel_sizes[0])
            self.tail, channels["D_0"] = ConvNormAct(conv, RELEASED_TAIL, convs), RELEASED_TAIL
        self.heads = Heads(channels, num_classes, topology)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of the decoder's stages, or of the full resolution alone."""
        skips = self.encoder(x)
        y = self.dense(self.pool(skips[-1]))
        skips[-1] = self.dropout(skips[-1])
        decoded = self.decoder_stages(y, skips)
        decoded[0] = self.tail(decoded[0])
        return self.heads(decoded if self.deep_supervision else decoded[:1])

    @staticmethod
    @override
    def initialize(module: nn.Module) -> None:
        """He initialisation, and a forget gate that begins open."""
        SegmentationNetwork.initialize(module)
        if isinstance(module, ConvLSTM):
            module.open_forget_gate()


class DenseBlocks(nn.Module):
    """The last stage: f² three times, with dropout; the third takes the results of both others."""

    def __init__(self, in_channels: int, topology: Topology) -> None:
        super().__init__()
        width, kernel = topology.features_per_stage[-1], topology.kernel_sizes[-1]
        self.blocks = nn.ModuleList(
            ConvStack(topology.conv(channels, width, kernel), width, kernel, topology)
            for channels in (in_channels, width, 2 * width)
        )
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, C, *spatial)` to `(B, width, *spatial)`."""
        first, second, third = self.blocks
        a = self.dropout(first(x))
        b = self.dropout(second(a))
        return self.dropout(third(torch.cat([b, a], dim=1)))


class DecoderStage(nn.Module):
    """f²(lstm(act(norm(up(y))), skip)), up a transposed convolution out of the stage below."""

    def __init__(self, stage: int, topology: Topology, convs: Topology) -> None:
        super().__init__()
        width, below = topology.features_per_stage[stage : stage + 2]
        kernel, hidden = topology.kernel_sizes[stage], max(1, width // 2)
        self.up = ConvNormAct(topology.transposed_conv(below, width, stage + 1), width, topology)
        self.lstm = ConvLSTM(width, hidden, kernel, topology)
        self.convs = ConvStack(topology.conv(hidden, width, kernel), width, kernel, convs)

    def forward(self, y: Tensor, skip: Tensor) -> Tensor:
        """Features of the stage below and the skip connection's to `(B, width, *spatial)` at this stage."""
        return self.convs(self.lstm(self.up(y), skip))


class ConvLSTM(nn.Module):
    """A convolutional LSTM over a sequence of two steps; its last output.

    Of four times the hidden channels, the first quarter are the input gate's, then come forget gate, candidate and
    output gate.
    """

    def __init__(self, in_channels: int, hidden: int, kernel: Axes, topology: Topology) -> None:
        super().__init__()
        padding = tuple(k // 2 for k in kernel)
        self.input = topology.conv_op(in_channels, 4 * hidden, kernel, padding=padding, bias=False)
        self.recurrent = topology.conv_op(hidden, 4 * hidden, kernel, padding=padding)
        self.checkpoint = topology.checkpoint

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two steps `(B, C, *spatial)` to `(B, hidden, *spatial)`."""
        return recomputed(self.read, first, second, when=self.checkpoint)

    def read(self, first: Tensor, second: Tensor) -> Tensor:
        """The same, all of it kept for backward."""
        z = self.input(first)
        # output and cell begin as zeros: of the recurrent convolution the bias is left
        cell, y = self.step(z + self.bias.to(z.dtype).view(-1, *[1] * (z.ndim - 2)))
        return self.step(self.input(second) + self.recurrent(y), cell)[1]

    @staticmethod
    def step(z: Tensor, cell: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The new cell and the output."""
        enter, forget, candidate, leave = z.chunk(4, dim=1)
        entering = hard_sigmoid(enter) * candidate.tanh()
        cell = entering if cell is None else hard_sigmoid(forget) * cell + entering
        return cell, hard_sigmoid(leave) * cell.tanh()

    def open_forget_gate(self) -> None:
        """Set the forget gate's bias to 1."""
        with torch.no_grad():
            self.bias.chunk(4)[1].fill_(1.0)

    @property
    def bias(self) -> Tensor:
        """That of all gates."""
        return cast(Tensor, self.recurrent.bias)


def hard_sigmoid(x: Tensor) -> Tensor:
    """0.2 x + 0.5, cut at 0 and 1: steeper than torch's."""
    return (0.2 * x + 0.5).clamp(0, 1)

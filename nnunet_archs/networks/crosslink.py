"""Crosslink-Net, and the four networks of its ablation.

Yu et al.: "Crosslink-Net: Double-branch Encoder Segmentation Network via Fusing Vertical and Horizontal Convolutions",
arXiv:2107.11517; IEEE Transactions on Image Processing, 2022.

Figure 3 and Table I: an encoder of two branches, one of vertical kernels and one of horizontal, both of which see the
image; a decoder of up convolution residual blocks (UCRB, Figure 4b), each of which joins both branches' features of its
stage with the stage below, upsampled. Section III.B: a map of spatial attention for either branch at its third block,
which the loss alone sees. Section IV.C.2 and Table III: the single branches, square kernels, and all in one branch.

Where this departs from the paper or settles what it leaves open:

- The paper's five blocks and the 1 x 1 convolution that joins both branches after the fifth pooling (authors' code;
  not in the text) are six stages: the last stage of a plan is that convolution, "center".
- Table I has no kernel but 1 in the decoder, the text and the authors' code have 3, and so does this: the stage's
  kernel. `decoder_kernel=1` is the table.
- The paths of a block are concatenated and brought to its width by a 1 x 1 convolution, and the residual is added to
  that (authors' code; Table I prints "Add" alone). An RConv2d of the encoder has half its width inside, one of the
  decoder all of it (authors' code).
- Table I's third path of the horizontal block is 3 x 3. In the authors' code it is a plain 1 x 1 convolution, and the
  horizontal branch borrows the vertical one's 1 x 1 convolutions: `released=True`.
- SquareCrosslink has paths of 3 x 3 and 5 x 5, its 1 x 1 kernel is the residual's. Double2SingleNet has all five
  kernels and a plain 1 x 1 path. No reading gives the sizes that Table III prints for all of them. Figure 5's single
  branch of "the most conventional 3 x 3 kernel" has that kernel in all three paths of Table I.
- The attention head is the authors' code's: two convolutions and a normalisation, shared by the branches. It gives
  logits; the sigmoid is the loss'. Where attention is taken from every block (section IV.C.1, Figure 7), each block has
  a head of its own.
- Upsampling is linear, corners not aligned (authors' code).
- 3D: vertical and horizontal are the last two axes. Along the first, the coarsest in nnU-Net's plans, all kernels but
  the strip have the stage's extent. `branches=3` adds a branch of its own for it.
- Kernels are the plan's: 3 becomes 5 where the paper has 5, and 1 stays 1. Normalisation and activation are the plan's;
  the paper has BatchNorm (eps 1e-4), ReLU and convolutions without bias.
- Blocks are numbered from 1, as in the paper: the attention of VCRB3 and HCRB3 is at stage 2, or at the last stage
  before center where there are fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import ClassVar, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from .parts.blocks import ConvNormAct
from .parts.contract import SegmentationNetwork, Supervision, check_choice, supervised_stages
from .parts.fusion import Fusion, FusionConv
from .parts.heads import Heads
from .parts.recompute import recomputed
from .parts.topology import Axes, Topology, TopologyKwargs

# a path's kernel for the kernel of its stage; None for a plain 1 x 1 convolution
Path: TypeAlias = Callable[[Axes], Axes] | None
Paths: TypeAlias = tuple[Path, ...]

# the block whose features the attention is of
AttentionBlock: TypeAlias = int | Literal["all"]
PAPER_BLOCK = 3


def square(kernel: Axes) -> Axes:
    """3 x 3: the stage's own."""
    return kernel


def strip(kernel: Axes, *, axis: int) -> Axes:
    """3 x 1: the stage's along an axis."""
    return tuple(k if a == axis % len(kernel) else 1 for a, k in enumerate(kernel))


def longer(kernel: Axes, *, axes: Sequence[int]) -> Axes:
    """5 x 3: the stage's, wider by 2 along some axes, where it is not 1."""
    along = [axis % len(kernel) for axis in axes]
    return tuple(k + 2 if a in along and k > 1 else k for a, k in enumerate(kernel))


def directed(axis: int, middle: Path = square) -> Paths:
    """The paths of a branch along an axis (Table I): (3, 1), (3, 3) and (5, 3) for the vertical."""
    return partial(strip, axis=axis), middle, partial(longer, axes=[axis])


DEPTH, HEIGHT, WIDTH = -3, -2, -1
SQUARES: Paths = (square, partial(longer, axes=[HEIGHT, WIDTH]))


class BranchedUNet(SegmentationNetwork):
    """One or more encoder branches, and a decoder that joins them, with a head at every supervised UCRB.

    The paper supervises the output alone.

    Raises:
        ValueError: for an option that does not exist.
    """

    def __init__(
        self,
        encoder: BranchedEncoder,
        num_classes: int,
        *,
        deep_supervision: bool,
        supervision: Supervision,
        decoder_kernel: int,
        fusion: Fusion,
    ) -> None:
        topology = encoder.topology
        if decoder_kernel not in (1, 3):
            raise ValueError(f"decoder_kernel={decoder_kernel}: give 3 for the stage's kernel, or 1 as in Table I")
        stages = supervised_stages(self, topology, supervision)
        super().__init__(topology, branch_stages=stages, deep_supervision=deep_supervision)
        self.encoder = encoder
        widths, last, n_branches = topology.features_per_stage, topology.last, encoder.n_branches
        # Table I: UCRB1 ends at 16 channels, half of the first stage's 32, UCRB2 at 32, ..., UCRB5 at 256
        joined = [max(widths[0] // 2, 1), *widths[:last]]
        below = [*joined[1:last], widths[last]]
        self.ucrbs = nn.ModuleList()
        for i in range(last):
            kernel = topology.kernel_sizes[i] if decoder_kernel == 3 else (1,) * topology.dim
            # v, what is below, h: as in the authors' code
            channels = [widths[i], below[i], *[widths[i]] * (n_branches - 1)]
            first = FusionConv(channels, joined[i], kernel, topology, interpolation="linear", fusion=fusion)
            self.ucrbs.append(RConv(first, joined[i], joined[i], kernel, topology))
        self.heads = Heads({f"UCRB_{i}": joined[i] for i in stages}, num_classes, topology)

    def decode(self, features: Sequence[Sequence[Tensor]], center: Tensor) -> list[Tensor]:
        """Features of the branches a stage, and the center's, to logits of the UCRBs, or of the first alone."""
        decoded = [center]
        for ucrb, (v, *others) in zip(reversed(self.ucrbs), reversed(features), strict=True):
            decoded.insert(0, ucrb([v, decoded[0], *others]))
        return self.heads(decoded if self.deep_supervision else decoded[:1])

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of the UCRBs, or of the full resolution alone."""
        return self.decode(*self.encoder(x))


class CrosslinkNet(BranchedUNet):
    """Crosslink-Net (Figure 3).

    With `attention`, the branches' attention logits `(B, 1, *spatial)` follow the outputs in training: those of block
    number `attention_block`, or of "all" blocks one after the other. `branches=3` adds a branch along the first axis
    (3D). `released` has the horizontal branch of the authors' code.

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
        attention: bool = False,
        attention_block: AttentionBlock = PAPER_BLOCK,
        branches: int = 2,
        released: bool = False,
        decoder_kernel: int = 3,
        fusion: Fusion = "exact",
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        topology = Topology.of(self, topology_kwargs)
        if branches not in (2, 3):
            raise ValueError(f"branches={branches}: give 2, or 3 for a branch along the first axis of 3D too")
        if branches > topology.dim:
            raise ValueError(f"branches={branches}: a third branch needs a third axis; give 2, or a 3D configuration")
        if released and branches != 2:
            raise ValueError(f"released=True with branches={branches}: the authors' code has 2; leave one of them out")
        paths = [directed(HEIGHT), directed(WIDTH, None if released else square), directed(DEPTH)][:branches]
        super().__init__(
            BranchedEncoder(input_channels, topology, paths, shared=released),
            num_classes,
            deep_supervision=deep_supervision,
            supervision=supervision,
            decoder_kernel=decoder_kernel,
            fusion=fusion,
        )
        self.attention_stages = attention_stages(attention_block, topology.last) if attention else []
        heads = [attention_head(i, topology) for i in self.attention_stages]
        # one head has the name in the state dict that it had before there could be several
        self.attention = heads[0] if len(heads) == 1 else nn.ModuleList(heads)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of the UCRBs, or of the full resolution alone; in training, the attention's behind them."""
        features, center = self.encoder(x)
        logits = self.decode(features, center)
        if not self.training:
            return logits
        heads = [self.attention] if len(self.attention_stages) == 1 else self.attention.children()
        pairs = zip(heads, self.attention_stages, strict=True)
        return [*logits, *(head(branch) for head, stage in pairs for branch in features[stage])]


class Ablation(BranchedUNet):
    """A network of Table III, without attention: as Crosslink-Net but for the encoder's branches.

    `encoders` has the branches by their number, by which one is chosen; the first is the table's.
    """

    encoders: ClassVar[Mapping[int, tuple[Paths, ...]]]

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        supervision: Supervision = "nnunet",
        branches: int | None = None,
        decoder_kernel: int = 3,
        fusion: Fusion = "exact",
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        branches = next(iter(self.encoders)) if branches is None else branches
        check_choice("branches", branches, self.encoders)
        super().__init__(
            BranchedEncoder(input_channels, Topology.of(self, topology_kwargs), self.encoders[branches]),
            num_classes,
            deep_supervision=deep_supervision,
            supervision=supervision,
            decoder_kernel=decoder_kernel,
            fusion=fusion,
        )


class VerCrosslink(Ablation):
    """Crosslink-Net's vertical branch alone."""

    encoders: ClassVar = {1: (directed(HEIGHT),)}


class HorCrosslink(Ablation):
    """Crosslink-Net's horizontal branch alone."""

    encoders: ClassVar = {1: (directed(WIDTH),)}


class SquareCrosslink(Ablation):
    """Two branches, both of square kernels, 3 x 3 and 5 x 5; `branches=1` is Figure 5's, of three paths of 3 x 3."""

    encoders: ClassVar = {2: (SQUARES, SQUARES), 1: ((square, square, square),)}


class Double2SingleNet(Ablation):
    """One branch of all kernels: the vertical's and the horizontal's, 3 x 3 and 1 x 1."""

    encoders: ClassVar = {1: ((*directed(HEIGHT), *directed(WIDTH, None)),)}


class BranchedEncoder(nn.Module):
    """The encoder: branches that see the image and never each other, up to `center`, the last stage.

    A branch has a block (VCRB, HCRB) a stage, and is pooled by the stage's stride after it. `shared` is
    `BranchedStage`'s.
    """

    def __init__(
        self, input_channels: int, topology: Topology, branches: Sequence[Paths], *, shared: bool = False
    ) -> None:
        super().__init__()
        self.topology = topology
        self.n_branches = len(branches)
        widths, last = topology.features_per_stage, topology.last
        self.pools = nn.ModuleList(topology.max_pool(i) for i in range(1, topology.n_stages))
        self.stages = nn.ModuleList(
            BranchedStage(channels, i, topology, branches, shared=shared)
            for i, channels in enumerate([input_channels, *widths[: last - 1]])
        )
        joined = len(branches) * widths[last - 1]
        self.center = ConvNormAct(topology.conv(joined, widths[last], (1,) * topology.dim), widths[last], topology)

    def forward(self, x: Tensor) -> tuple[list[list[Tensor]], Tensor]:
        """Image `(B, C, *spatial)` to features of the branches a stage, highest resolution first, and the center's."""
        features: list[list[Tensor]] = []
        branches = [x] * self.n_branches
        for stage, pool in zip(self.stages, self.pools, strict=True):
            features.append(stage(branches))
            branches = [pool(branch) for branch in features[-1]]
        return features, self.center(torch.cat(branches, dim=1))


class BranchedStage(nn.Module):
    """The blocks of all branches at a stage: act(fuse(cat(path_0(x), ..., path_k(x))) + residual(x)), Figure 4a, c.

    `fuse` and `residual` are 1 x 1 convolutions with normalisation, a pair a branch, or with `shared` one for all.
    Of a block nothing is kept for backward but what its convolutions give.
    """

    def __init__(
        self, in_channels: int, stage: int, topology: Topology, branches: Sequence[Paths], *, shared: bool
    ) -> None:
        super().__init__()
        width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
        self.paths = nn.ModuleList(
            ParallelPaths(make_path(in_channels, width, path, kernel, topology) for path in paths) for paths in branches
        )
        self.joins = nn.ModuleList(
            Join(in_channels, len(paths) * width, width, topology) for paths in branches[: 1 if shared else None]
        )

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        """Every branch's features `(B, C, *spatial)` to `(B, width, *spatial)`."""
        joins = list(self.joins) * (len(branches) // len(self.joins))
        return [join(x, paths) for join, paths, x in zip(joins, self.paths, branches, strict=True)]


class ParallelPaths(nn.ModuleList):
    """cat(path_0(x), ..., path_k(x)), in steps, between which is what backward needs."""

    def first(self, x: Tensor) -> list[Tensor]:
        """Features `(B, C, *spatial)` to the results of the paths' first convolutions."""
        return [path.conv(x) for path in self.paths]

    def convolve(self, firsts: Sequence[Tensor]) -> list[Tensor]:
        """To these the results of the paths' last convolutions, behind the first of each."""
        return [y for path, first in zip(self.paths, firsts, strict=True) for y in path.both(first)]

    def finish(self, convolved: Sequence[Tensor]) -> Tensor:
        """The results of `convolve` to `(B, sum of widths, *spatial)`."""
        ys = iter(convolved)
        return torch.cat([path.finish(*islice(ys, path.n_kept)) for path in self.paths], dim=1)

    @property
    def paths(self) -> Sequence[RConv | PlainConv]:
        """All of it."""
        return cast("Sequence[RConv | PlainConv]", self)


class PlainConv(ConvNormAct):
    """A 1 x 1 convolution, normalised but not activated."""

    n_kept = 1

    def __init__(self, in_channels: int, width: int, topology: Topology) -> None:
        conv = topology.conv(in_channels, width, (1,) * topology.dim)
        super().__init__(conv, width, topology, nonlin=nn.Identity())

    def both(self, y: Tensor) -> tuple[Tensor]:
        """The result of its convolution, the first and the last of a path."""
        return (y,)


class Join(nn.Module):
    """act(fuse(y) + residual(x)), x a block's input and y its paths' results."""

    def __init__(self, in_channels: int, joined_channels: int, width: int, topology: Topology) -> None:
        super().__init__()
        self.fuse = PlainConv(joined_channels, width, topology)
        self.residual = PlainConv(in_channels, width, topology)
        self.nonlin = topology.activation()
        self.checkpoint, self.remakes = topology.checkpoint, topology.remakes

    def forward(self, x: Tensor, paths: ParallelPaths) -> Tensor:
        """A block's input `(B, C, *spatial)`, and its paths, to `(B, width, *spatial)`."""
        return recomputed(partial(self.join, paths), x, *paths.first(x), when=self.checkpoint)

    def join(self, paths: ParallelPaths, x: Tensor, *firsts: Tensor) -> Tensor:
        """The same, from what the paths' first convolutions give."""
        y = recomputed(lambda *ys: self.fuse.conv(paths.finish(ys)), *paths.convolve(firsts), when=self.remakes)
        return recomputed(self.add, y, self.residual.conv(x), when=self.remakes)

    def add(self, y: Tensor, residual: Tensor) -> Tensor:
        """The same, from what the convolutions of kernel 1 give."""
        return self.nonlin(self.fuse.finish(y) + self.residual.finish(residual))


class RConv(nn.Module):
    """Table I's RConv2d, "three consecutive convolution operations with a residual connection": y + conv(conv(y)).

    y is the first convolution's result, and nothing follows the sum, as in the authors' code.
    """

    n_kept = 2

    def __init__(self, first: nn.Module, width: int, inner: int, kernel: Axes, topology: Topology) -> None:
        super().__init__()
        self.first = ConvNormAct(first, width, topology)
        self.second_and_third = nn.Sequential(
            ConvNormAct(topology.conv(width, inner, kernel), inner, topology),
            ConvNormAct(topology.conv(inner, width, kernel), width, topology),
        )
        self.checkpoint, self.remakes = topology.checkpoint, topology.remakes

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """What the first convolution takes to `(B, width, *spatial)`."""
        return recomputed(self.block, self.conv(x), when=self.checkpoint)

    def block(self, y: Tensor) -> Tensor:
        """The same, from what `conv` gives."""
        return recomputed(self.finish, *self.both(y), when=self.remakes)

    def conv(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """What the first convolution gives; what follows it, with it where that cannot be made again."""
        y: Tensor = self.first.conv(x)
        return y if self.remakes else self.first.finish(y)

    def both(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """What `conv` gives, and from it what the third convolution gives."""
        second, third = self.others
        z = recomputed(lambda y: second.conv(self.activated(y)), y, when=self.remakes)
        return y, recomputed(lambda z: third.conv(second.finish(z)), z, when=self.remakes)

    def finish(self, y: Tensor, z: Tensor) -> Tensor:
        """The result, from what `both` gives."""
        return self.activated(y) + self.others[1].finish(z)

    def activated(self, y: Tensor) -> Tensor:
        """The first convolution's result, activated, from what `conv` gives."""
        return self.first.finish(y) if self.remakes else y

    @property
    def others(self) -> Sequence[ConvNormAct]:
        """The second and the third convolution."""
        return cast("Sequence[ConvNormAct]", self.second_and_third)


def make_path(in_channels: int, width: int, path: Path, kernel: Axes, topology: Topology) -> RConv | PlainConv:
    """An RConv of the path's kernel, half as wide inside, or a plain convolution."""
    if path is None:
        return PlainConv(in_channels, width, topology)
    conv = topology.conv(in_channels, width, path(kernel))
    return RConv(conv, width, max(width // 2, 1), path(kernel), topology)


def attention_stages(block: AttentionBlock, last: int) -> Sequence[int]:
    """Stages of the blocks that attention is taken from.

    Raises:
        ValueError: for a block that is not there; the paper's third is the last where there are fewer.
    """
    if block == "all":
        return range(last)
    if block != PAPER_BLOCK and not 1 <= block <= last:
        raise ValueError(
            f"attention_block={block}: a network of {last + 1} stages has {last} blocks before its center; give a "
            "number from 1 to that, or 'all'"
        )
    return [min(block, last) - 1]


def attention_head(stage: int, topology: Topology) -> nn.Module:
    """A branch's features at a stage to its attention's logits: two convolutions, the second not activated."""
    width, kernel = topology.features_per_stage[stage], topology.kernel_sizes[stage]
    inner = max(width // 2, 1)
    return nn.Sequential(
        ConvNormAct(topology.conv(width, inner, kernel), inner, topology),
        ConvNormAct(topology.conv(inner, 1, kernel), 1, topology, nonlin=nn.Identity()),
    )

"""Encoders that others made, under the decoders here: nnU-Net's residual encoder, and timm's models.

An encoder gives the column X[i, 0] in widths of its own; the decoder's widths stay the plan's.

The residual encoder has the plan's features, kernels, strides, normalisation and activation, in 2D and 3D.

A model of timm (`pip install 'nnunet-archs[encoders]'`) has stages, normalisation and activation of its own, in 2D. Of
the maps that it gives, the first five are taken: VGG's stand at strides 1 to 16, ResNet's at 2 to 32. Where the first
is not of the image's resolution, two convolutions of the image as the plan has them, f², are X[0, 0]. It begins
untrained, its convolutions initialised as all others are; `pretrained.py` loads weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.residual import BasicBlockD
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder as NnunetsResidualEncoder
from dynamic_network_architectures.initialization.weight_init import init_last_bn_before_add_to_0
from torch import Tensor, nn

from .blocks import ConvStack
from .encoders import Encoder
from .foreign import imported
from .recompute import recomputed
from .stages import check_dimensions, check_strides
from .topology import Topology

RESIDUAL = "resenc"  # nnU-Net's; every other name is timm's
MOST_MAPS = 5
PROBE = (1, 3, 128, 192)  # an image of no model's own size, to see what it makes of any

extra = partial(imported, install="pip install 'nnunet-archs[encoders]'")


def is_timms(encoder: str) -> bool:
    """Whether a network's option `encoder` names a model of timm."""
    return encoder not in ("", RESIDUAL)


def make_encoder(
    name: str,
    input_channels: int,
    topology: Topology,
    *,
    last: int,
    n_blocks_per_stage: int | Sequence[int] | None = None,
) -> Encoder:
    """The encoder of a name, down to the stage `last`.

    Raises:
        ValueError: for a name that there is not, or a topology or blocks that the encoder cannot have.
    """
    if name == RESIDUAL:
        return ResidualEncoder(input_channels, topology, last=last, n_blocks_per_stage=n_blocks_per_stage)
    return TimmEncoder(name, input_channels, topology, last=last)


class ResidualEncoder(Encoder):
    """nnU-Net's residual encoder, with the blocks a stage of its ResEnc presets where none are given.

    With the topology's `checkpoint`, of every block its input alone is kept for backward.

    Raises:
        ValueError: for blocks that are not one number a stage.
    """

    def __init__(
        self,
        input_channels: int,
        topology: Topology,
        *,
        last: int,
        n_blocks_per_stage: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        n = last + 1
        self.widths = topology.features_per_stage
        self.checkpoint = topology.checkpoint
        self.body = NnunetsResidualEncoder(
            input_channels,
            n,
            self.widths[:n],
            topology.conv_op,
            topology.kernel_sizes[:n],
            topology.strides[:n],
            blocks_of(topology, n_blocks_per_stage)[:n],
            topology.conv_bias,
            topology.norm_op,
            topology.norm_op_kwargs,
            topology.dropout_op,
            topology.dropout_op_kwargs,
            topology.nonlin,
            topology.nonlin_kwargs,
        )
        for block in (block for stage in self.body.stages for block in stage.blocks):
            for part in ("skip", "nonlin2"):
                if not isinstance(getattr(block, part), nn.Module):
                    setattr(block, part, nn.Identity())  # a lambda there, which cannot be pickled

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image `(B, C, *spatial)` to one feature map a stage, highest resolution first."""
        features: list[Tensor] = []
        x = recomputed(self.body.stem, x, when=self.checkpoint)
        for stage in self.body.stages:
            for block in stage.blocks:
                x = recomputed(block, x, when=self.checkpoint)
            features.append(x)
        return features


def preset_blocks(n_stages: int) -> list[int]:
    """Residual blocks a stage, as nnU-Net's ResEncUNetPlanner sets them."""
    return [*(1, 3, 4), *[6] * n_stages][:n_stages]


def blocks_of(topology: Topology, given: int | Sequence[int] | None) -> list[int]:
    """Residual blocks a stage.

    Raises:
        ValueError: if those given are not one number a stage, at least 1.
    """
    if given is None:
        return preset_blocks(topology.n_stages)
    blocks = [given] * topology.n_stages if isinstance(given, int) else list(given)
    if len(blocks) != topology.n_stages or min(blocks) < 1:
        raise ValueError(f"n_blocks_per_stage={given}: give at least 1 for each of the {topology.n_stages} stages")
    return blocks


def begin_as_identity(module: nn.Module) -> None:
    """Have a residual block add nothing at first, as nnU-Net has it; other modules stay as they are."""
    if isinstance(module, BasicBlockD) and getattr(getattr(module.conv2, "norm", None), "weight", None) is not None:
        init_last_bn_before_add_to_0(module)


class TimmEncoder(Encoder):
    """A model of timm; with the topology's `checkpoint`, f² alone is computed again for backward.

    Raises:
        ValueError: for a model that timm has not or that takes no image of any size, for a topology of other stages,
            and where timm is not installed.
    """

    def __init__(self, name: str, input_channels: int, topology: Topology, *, last: int) -> None:
        super().__init__()
        check_dimensions(f"timm's {name}", topology, (2,))
        check_strides(f"timm's {name}", topology, timm_strides(name))
        widths, steps = timm_maps(name)
        self.model = name
        self.stem: ConvStack | None = None
        self.widths = widths
        if steps[0] > 1:
            width, kernel = topology.features_per_stage[0], topology.kernel_sizes[0]
            self.stem = ConvStack(topology.conv(input_channels, width, kernel), width, kernel, topology)
            self.widths = (width, *widths)
            last -= 1
        self.body = timm_model(name, in_chans=input_channels, out_indices=tuple(range(last + 1)))
        for key in unused_parameters(name, last + 1):
            self.body.get_parameter(key).requires_grad_(False)  # DDP would wait for its gradient

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image `(B, C, *spatial)` to one feature map a stage, highest resolution first."""
        features = self.body(x)
        return [*features] if self.stem is None else [self.stem(x), *features]


class TimmLevels(nn.Module):
    """The maps of a model of timm that stand at the given strides: what a feature pyramid is built on.

    Raises:
        ValueError: for a model that timm has not or that has no such maps, and where timm is not installed.
    """

    def __init__(self, name: str, input_channels: int, steps: Sequence[int]) -> None:
        super().__init__()
        timm_maps(name)
        with torch.device("meta"):
            maps: Any = timm_model(name).feature_info
        there = list(maps.reduction())
        if missing := [step for step in steps if step not in there]:
            raise ValueError(f"encoder={name!r}: it has no map at stride {missing[0]}, but at {there}; name another")
        indices = [there.index(step) for step in steps]
        self.widths = [int(maps.channels()[i]) for i in indices]
        self.body = timm_model(name, in_chans=input_channels, out_indices=tuple(indices))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image `(B, C, H, W)` to the maps, highest resolution first."""
        return [*self.body(x)]


def timm_strides(name: str) -> tuple[int, ...]:
    """The stride of every stage that an encoder of a model has.

    Raises:
        ValueError: as `timm_maps`.
    """
    _, steps = timm_maps(name)
    column = steps if steps[0] == 1 else (1, *steps)
    return (1, *(below // above for above, below in pairwise(column)))


@cache
def timm_maps(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels of the maps that a model gives, and pixels of the image, along an axis, to one of theirs.

    Raises:
        ValueError: for a model that timm has not or that takes no image of any size, and where timm is not installed.
    """
    timm = extra("timm")
    if not timm.is_model(name):
        nearest = get_close_matches(name, timm.list_models(), n=1)
        guess = f"did you mean {nearest[0]}? " if nearest else ""
        raise ValueError(
            f"encoder={name!r}: timm {timm.__version__} has no such model; {guess}timm.list_models() has all"
        )
    refusal = f"encoder={name!r}: timm's model gives no maps of images of any size, at least two of them; name another"
    try:
        with torch.device("meta"), torch.no_grad():
            maps = timm_model(name).eval()(torch.empty(PROBE))[:MOST_MAPS]
    except Exception as error:  # whatever a model that cannot do it raises
        raise ValueError(f"{refusal} ({str(error).splitlines()[0]})") from error
    steps = tuple(PROBE[2] // y.shape[2] for y in maps)
    shapes = [tuple(n // step for n in PROBE[2:]) for step in steps]
    if len(maps) < 2 or [tuple(y.shape[2:]) for y in maps] != shapes or any(b % a for a, b in pairwise(steps)):
        raise ValueError(refusal)
    return tuple(y.shape[1] for y in maps), steps


@cache
def unused_parameters(name: str, n_maps: int) -> tuple[str, ...]:
    """Parameters that a model keeps though none of its first `n_maps` maps depends on them: some, at lower levels."""
    with torch.device("meta"), torch.enable_grad():
        model = timm_model(name, out_indices=tuple(range(n_maps)))
        torch.stack([y.sum() for y in model(torch.empty(PROBE))]).sum().backward()
    return tuple(key for key, parameter in model.named_parameters() if parameter.grad is None)


def timm_model(name: str, **options: Any) -> nn.Module:
    """A model of timm without its classifier, untrained, which gives maps, on torch's default device."""
    create = partial(extra("timm").create_model, name, features_only=True, pretrained=False, **options)
    try:
        model: nn.Module = create()
    except NotImplementedError:  # some read values while they are built, which the meta device has not
        with torch.device("cpu"):
            model = create()
    return model.to(torch.empty(0).device)

"""Augmentation that papers train with, in nnU-Net's transforms; images are in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from batchgeneratorsv2.helpers.scalar_type import RandomScalar, sample_scalar
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform, ImageOnlyTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.rot90 import Rot90Transform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import OneOfTransform, RandomTransform
from torch import Tensor
from typing_extensions import override

Augmentation: TypeAlias = Callable[[Sequence[int]], list[BasicTransform]]
"""Transforms for a patch size."""


class HueSaturationValueTransform(ImageOnlyTransform):
    """Shift hue (in parts of its circle), saturation and value of an RGB image `(3, *spatial)` in [0, 1].

    Images of other than three channels have no colour, and stay as they are.
    """

    def __init__(self, hue: RandomScalar, saturation: RandomScalar, value: RandomScalar) -> None:
        super().__init__()
        self.ranges = (hue, saturation, value)

    @override
    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        return {"shifts": [float(sample_scalar(scalar)) for scalar in self.ranges]}

    @override
    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        if len(img) != 3:
            return img
        (hue, saturation, value), shifts = to_hsv(img), params["shifts"]
        shifted = (hue + shifts[0]) % 1, (saturation + shifts[1]).clamp(0, 1), (value + shifts[2]).clamp(0, 1)
        return to_rgb(torch.stack(shifted))


class BrightnessTransform(ImageOnlyTransform):
    """Add one number to all channels."""

    def __init__(self, shift: RandomScalar) -> None:
        super().__init__()
        self.shift = shift

    @override
    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        return {"shift": float(sample_scalar(self.shift))}

    @override
    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        return img + params["shift"]


def to_hsv(rgb: Tensor) -> Tensor:
    """Hue, saturation and value `(3, *spatial)`, each in [0, 1], of red, green and blue."""
    value, largest = rgb.max(dim=0)
    chroma = value - rgb.min(dim=0).values
    red, green, blue = rgb
    grey = chroma == 0
    # how far the hue is from the largest channel's own, which are two apart
    sides = torch.stack([green - blue, blue - red, red - green]).gather(0, largest[None])[0] / chroma.masked_fill(
        grey, 1
    )
    return torch.stack([(2 * largest + sides) / 6 % 1, chroma / value.masked_fill(grey, 1), value])


def to_rgb(hsv: Tensor) -> Tensor:
    """Red, green and blue `(3, *spatial)` of hue, saturation and value."""
    hue, saturation, value = hsv
    # a channel is at its full value within a sixth of its own hue, and falls over the next sixth
    distances = torch.stack([(hue * 6 - centre + 3) % 6 - 3 for centre in (0, 2, 4)]).abs()
    return value * (1 - saturation * (distances - 1).clamp(0, 1))


def zoomed_and_rotated(patch: Sequence[int]) -> list[BasicTransform]:
    """Crosslink-Net's, of COVID19-I and -II: zoom by 0.5 to 1.75, rotation by up to 30 degrees, horizontal flip."""
    spatial = SpatialTransform(
        tuple(patch),
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=1,
        rotation=(-np.pi / 6, np.pi / 6),
        p_scaling=1,
        scaling=inverse_zoom,
        p_synchronize_scaling_across_axes=1,
    )
    return [spatial, MirrorTransform((len(patch) - 1,))]


def inverse_zoom(**_: Any) -> float:
    """What SpatialTransform calls scaling: the object becomes smaller by it."""
    return 1 / float(np.random.uniform(0.5, 1.75))


def enlarged(patch: Sequence[int]) -> list[BasicTransform]:
    """Crosslink-Net's, of cardiac images: as they are, or enlarged twice, or also rotated by 8 or -8 degrees."""
    spatial = partial(SpatialTransform, tuple(patch), 0, False, p_rotation=1, p_scaling=1, scaling=0.5)
    rotated = [spatial(rotation=float(np.deg2rad(degrees))) for degrees in (0, 8, -8)]
    return [OneOfTransform([ComposeTransforms([]), *rotated])]


def turned_and_coloured(patch: Sequence[int]) -> list[BasicTransform]:
    """UNet#'s: quarter turns, flips, and one of HSV, brightness and contrast, by the defaults of albumentations."""
    rows, columns = len(patch) - 2, len(patch) - 1
    # of a patch that is no square, only half turns keep the shape
    turns = (0, 1, 2, 3) if patch[rows] == patch[columns] else (0, 2)
    colour = [
        HueSaturationValueTransform((-20 / 180, 20 / 180), (-30 / 255, 30 / 255), (-20 / 255, 20 / 255)),
        BrightnessTransform((-0.2, 0.2)),
        MultiplicativeBrightnessTransform((0.8, 1.2), synchronize_channels=True, p_per_channel=1),
    ]
    return [
        RandomTransform(Rot90Transform(1, turns, {rows, columns}), apply_probability=0.5),
        MirrorTransform((rows, columns)),
        OneOfTransform(colour),
    ]


def no_augmentation(patch: Sequence[int]) -> list[BasicTransform]:
    """None at all."""
    return []

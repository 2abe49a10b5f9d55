"""Pictures and volumes in memory: read whole or not at all, resized, windowed, filled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import SimpleITK
from PIL import Image, UnidentifiedImageError
from skimage.draw import polygon2mask

from nnunet_archs.instances import encode
from nnunet_archs.lengths import Length
from nnunet_archs.nnunet.whole import check_whole

HALF = 127  # of a mask of bytes: what is above is foreground
WHITE = 255

Array: TypeAlias = npt.NDArray[Any]
Mask: TypeAlias = npt.NDArray[np.bool_]
Window: TypeAlias = tuple[float, float]  # the values that become 0 and 255


def read_picture(file: Path, mode: str | None = None) -> Array:
    """A picture's bytes: (y, x) for the mode "L", (y, x, colour) for "RGB"; without a mode its values as they are.

    Raises:
        ValueError: for a file that is no picture, or not whole.
    """
    check_whole(file)
    try:
        with Image.open(file) as picture:
            # what is transparent keeps its colours, which are as the microscope gave them
            return np.asarray(picture.convert(mode) if mode else picture)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{file} cannot be read as a picture: replace it") from error


def read_volume(file: Path) -> SimpleITK.Image:
    """A volume with its grid.

    Raises:
        ValueError: for a file that is none, or not whole.
    """
    check_whole(file)
    try:
        return SimpleITK.ReadImage(str(file))
    except RuntimeError as error:
        raise ValueError(f"{file} cannot be read as an image: replace it") from error


def array_of(volume: SimpleITK.Image) -> Array:
    """A volume's values (z, y, x)."""
    array: Array = SimpleITK.GetArrayFromImage(volume)
    return array


def check_same_size(image: Array, label: Array, image_file: Path, label_file: Path) -> None:
    """Check that a label map has its image's size. Raises ValueError where it has not."""
    if image.shape[:2] != label.shape[:2]:
        sizes = f"{label_file} has {label.shape[:2]} pixels and its image {image_file} {image.shape[:2]}"
        raise ValueError(f"{sizes}: both must be equal; replace one")


def check_same_shape(image: Sequence[int], label: Sequence[int], image_file: Path, label_file: Path) -> None:
    """Check that the label maps of a file have the shape of its images. Raises ValueError where they have not."""
    if tuple(image) != tuple(label):
        sizes = f"{label_file} has shape {tuple(label)} and {image_file} {tuple(image)}"
        raise ValueError(f"{sizes}: they must be equal; replace one")


def resized_picture(picture: Array, shape: Sequence[int]) -> Array:
    """A picture of bytes in another size; each pixel is a weighted mean of what it covers: nothing is aliased."""
    return resized(picture, shape, Image.Resampling.BILINEAR)


def resized_mask(mask: Array, shape: Sequence[int]) -> Array:
    """A label map in another size, each pixel as its nearest."""
    return resized(mask.astype(np.int32), shape, Image.Resampling.NEAREST).astype(mask.dtype)


def objects(ids: Array, border: Length | None) -> Array:
    """The objects of a picture as a mask, or as cores and borders of this width."""
    return ids > 0 if border is None else encode(ids, border.length, border.units((1.0,) * ids.ndim))


def resized_edge(mask: Mask, shape: Sequence[int]) -> Mask:
    """A mask in another size: pixels that are foreground by more than half."""
    return resized(mask.astype(np.float32), shape, Image.Resampling.BILINEAR) > 0.5


def resized(array: Array, shape: Sequence[int], how: Image.Resampling) -> Array:
    """By Pillow, whose filters widen as pictures become smaller; scikit-image takes some forty times as long."""
    rows, columns = shape
    return np.asarray(Image.fromarray(array).resize((columns, rows), how))


def windowed(values: Array, window: Window) -> npt.NDArray[np.uint8]:
    """Bytes of a window of values: its lower end and all below become 0, its upper end and all above 255."""
    low, high = window
    return np.rint((np.clip(values, low, high).astype(np.float64) - low) * (WHITE / (high - low))).astype(np.uint8)


def in_window(values: Array, window: Window | None) -> Array:
    """Bytes of a window, or the values as they are."""
    return values if window is None else windowed(values, window)


def filled(outline: Array, shape: Sequence[int]) -> Mask:
    """The pixels whose centres lie within a polygon of points (x, y), pixel centres being at whole numbers."""
    return np.asarray(polygon2mask(tuple(shape), np.asarray(outline)[:, ::-1]), dtype=bool)

"""Objects as labels: the core and the border of each, so that a segmentation tells those that touch apart.

A data set with this encoding has the labels `LABELS` and says so in its dataset.json (`KEY`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CORE, BORDER = 1, 2
LABELS = {"background": 0, "core": CORE, "border": BORDER}
KEY = "instances"  # of dataset.json


def described(border: str) -> dict[str, Any]:
    """What a dataset.json says of the encoding, the border's width as the user gave it."""
    return {"labels": LABELS, KEY: {"encoding": "border-core", "border": border}}


def is_encoded(dataset_json: Mapping[str, Any]) -> bool:
    """Whether a data set's labels are cores and borders of objects."""
    return KEY in dataset_json and dataset_json.get("labels") == LABELS


def encode(instances: NDArray[Any], width: float, spacing: Sequence[float]) -> NDArray[np.uint8]:
    """Cores and borders of an instance map `(*spatial)`, the border being within each object.

    A voxel is border where the nearest voxel that is not of its object is no farther than `width`, in the units of
    `spacing`, or where it touches another object with a face, so that cores of two objects never do. What lies beyond
    the image's edge is unknown, and makes no border.
    """
    labels = np.zeros(instances.shape, dtype=np.uint8)
    for number, box in enumerate(ndimage.find_objects(instances.astype(np.int64)), start=1):
        if box is None:
            continue
        box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        mask = instances[box] == number
        # of an object that fills the image, nothing else is known
        inner = ndimage.distance_transform_edt(mask, spacing) > width if not mask.all() else mask
        labels[box][mask] = np.where(inner[mask], CORE, BORDER)
    labels[touching(instances)] = BORDER
    return labels


def touching(instances: NDArray[Any]) -> NDArray[np.bool_]:
    """The voxels that touch a voxel of another object with a face."""
    found = np.zeros(instances.shape, dtype=bool)
    for axis in range(instances.ndim):
        ahead, behind = (np.moveaxis(instances, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        differ = (ahead != behind) & (ahead > 0) & (behind > 0)
        view = np.moveaxis(found, axis, 0)
        view[1:] |= differ
        view[:-1] |= differ
    return found


def decode(
    labels: NDArray[Any], spacing: Sequence[float], *, smallest_core: int = 0, smallest_border: int = 0
) -> NDArray[np.uint32]:
    """An instance map of cores and borders `(*spatial)`: each border voxel joins the nearest core it is connected to.

    A core of up to `smallest_core` voxels counts as border. A border without a core is an object if it has more than
    `smallest_border` voxels. (acvl_utils grows cores by maxima: where objects touch, higher ids take of lower.)
    """
    cores = components(labels == CORE)
    cores[np.bincount(cores.ravel())[cores] <= smallest_core] = 0
    last = int(cores.max(initial=0))
    instances = np.zeros(labels.shape, dtype=np.uint32)
    joined = components(labels > 0)
    for number, box in enumerate(ndimage.find_objects(joined.astype(np.int64)), start=1):
        mask = joined[box] == number
        inside = np.where(mask, cores[box], 0)
        if inside.any():
            nearest = ndimage.distance_transform_edt(inside == 0, spacing, return_distances=False, return_indices=True)
            instances[box][mask] = inside[tuple(nearest)][mask]
        elif np.count_nonzero(mask) > smallest_border:
            last += 1
            instances[box][mask] = last
    return consecutive(instances)


def components(mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """An instance map of a mask, whose objects are what hangs together by faces."""
    return ndimage.label(mask)[0].astype(np.uint32)


def consecutive(instances: NDArray[Any]) -> NDArray[np.uint32]:
    """An instance map with the ids 1, 2, 3 and so on, in the order of the ids that there are."""
    ids, numbers = np.unique(instances, return_inverse=True)
    first = 0 if ids[0] == 0 else 1
    return (numbers + first).astype(np.uint32).reshape(instances.shape)


def object_scores(instances: NDArray[Any], foreground: NDArray[Any]) -> list[float]:
    """A score of each object, in the order of ids: the mean, over its voxels, of the probability of `foreground`."""
    ids = np.unique(instances[instances > 0])
    return [float(score) for score in ndimage.mean(foreground, instances, ids)] if len(ids) else []

"""From segmentations to instance maps: what `nnunet-archs instances` does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas
import SimpleITK
from tqdm import tqdm

from nnunet_archs.files import atomic_folder, read_json
from nnunet_archs.instances import LABELS, components, decode, is_encoded, object_scores
from nnunet_archs.measure.coco import HAS_COCO, coco_metrics
from nnunet_archs.measure.instances import instance_metrics
from nnunet_archs.nnunet.images import read_foreground

from .cut import NIFTI, read_voxels
from .folders import ENDINGS, ending_of
from .pixels import Array, read_volume

MOST_OF_16_BITS = np.iinfo(np.uint16).max
PARENTS = 3  # from fold_0/validation up to the model, where dataset.json lies
SCORES, METRICS = "scores.json", "metrics.csv"


def write_instances(
    folder: Path,
    output: Path,
    *,
    border_core: bool = False,
    smallest_core: int = 0,
    smallest_border: int = 0,
    references: Path | None = None,
) -> dict[str, int]:
    """Write an instance map of every segmentation in a folder; the number of objects by case.

    Labels are cores and borders where the data set says so, or `border_core` does; a mask falls into components. Where
    nnU-Net saved probabilities beside cores and borders, `scores.json` has the objects' scores, of each file by their
    ids. With instance maps of equal names to compare with, `metrics.csv` has the metrics of every image.

    Raises:
        ValueError: for a folder without segmentations, one whose labels are of another kind, a file that is none, and a
            reference that is missing or of another shape.
    """
    files = segmentations(folder)
    dataset_json = dataset_json_of(folder)
    encoded = border_core or is_encoded(dataset_json)
    counts, scores, metrics = {}, {}, []
    with atomic_folder(output) as unfinished:
        for file in tqdm(files, desc="Making instances", unit="case", leave=False, disable=None):
            labels, spacing = read_voxels(file)
            check_kind(labels, file, encoded=encoded)
            found, of_objects = components(labels > 0), None
            if encoded:
                # the file's axes are x, y, z
                found = decode(labels.T, spacing[::-1], smallest_core=smallest_core, smallest_border=smallest_border).T
                of_objects = scores_of(file, labels, found)
            write_like(found, file, unfinished / file.name)
            counts[file.name] = int(found.max(initial=0))
            if of_objects is not None:
                scores[file.name] = dict(enumerate(of_objects, start=1))
            if references is not None:
                metrics.append({"file": file.name, **compared(references / file.name, found, of_objects)})
        if scores:
            (unfinished / SCORES).write_text(json.dumps(scores, indent=1))
        if metrics:
            pandas.DataFrame(metrics).to_csv(unfinished / METRICS, index=False)
    return counts


def scores_of(file: Path, labels: Array, found: Array) -> list[float] | None:
    """The scores of the objects in a file, by the probabilities beside it; None where there are none."""
    probabilities = file.with_name(f"{file.name.removesuffix(ending_of(file))}.npz")
    foreground = read_foreground(probabilities, on_volume(labels))
    return None if foreground is None else object_scores(on_volume(found), foreground)


def on_volume(array: Array) -> Array:
    """A file's voxels (x, y) or (x, y, z) as nnU-Net has them (z, y, x), a picture in one slice."""
    return array.T.reshape((1,) * (3 - array.ndim) + array.T.shape)


def compared(reference: Path, found: Array, scores: Sequence[float] | None) -> dict[str, float]:
    """The metrics of an instance map; COCO's where its objects have scores and pycocotools is installed.

    Raises:
        ValueError: for a reference that is none, or of another shape.
    """
    truth, _ = read_voxels(reference)
    try:
        scored = coco_metrics(truth, found, scores) if HAS_COCO and scores is not None else {}
        return {**instance_metrics(truth, found), **scored}
    except ValueError as error:
        raise ValueError(f"{reference}: {error}") from error


def segmentations(folder: Path) -> list[Path]:
    """The images in a folder. Raises ValueError where there are none."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give one with predictions")
    files = sorted(file for file in folder.glob("[!.]*") if file.name.lower().endswith(tuple(ENDINGS)))
    if not files:
        raise ValueError(f"{folder} holds no segmentations ({', '.join(ENDINGS)}): give a folder of predictions")
    return files


def dataset_json_of(folder: Path) -> Mapping[str, Any]:
    """The dataset.json that nnU-Net wrote beside predictions, or into the model's folder above; {} without one."""
    folder = folder.resolve()
    places = [folder, *folder.parents[: PARENTS - 1]]
    file = next((place / "dataset.json" for place in places if (place / "dataset.json").is_file()), None)
    return read_json(file) if file else {}


def check_kind(labels: Array, file: Path, *, encoded: bool) -> None:
    """Check that labels are what they are taken for. Raises ValueError where there are others."""
    most = max(LABELS.values()) if encoded else 1
    if (highest := labels.max(initial=0)) <= most and labels.min(initial=0) >= 0:
        return
    if encoded:
        raise ValueError(f"{file} holds the label {highest}: cores and borders are 1 and 2; give another folder")
    raise ValueError(
        f"{file} holds the label {highest}, and no dataset.json beside it says that labels are cores and borders; if "
        "they are, add --border-core, else give masks of one label"
    )


def write_like(instances: Array, source: Path, target: Path) -> None:
    """Write an instance map on the grid of its segmentation. Raises ValueError where its format cannot hold the ids."""
    highest = int(instances.max(initial=0))
    typed = instances.astype(np.uint16 if highest <= MOST_OF_16_BITS else np.uint32)
    if source.name.endswith(NIFTI):
        nifti = nibabel.load(source)
        nibabel.save(nibabel.Nifti1Image(typed, nifti.affine, nifti.header, dtype=typed.dtype), target)
        return
    image = SimpleITK.GetImageFromArray(typed.T)
    image.CopyInformation(read_volume(source))
    try:
        SimpleITK.WriteImage(image, str(target), True)
    except RuntimeError as error:
        raise ValueError(f"{target.name} cannot hold {highest} objects; predict into .nii.gz or .tif") from error

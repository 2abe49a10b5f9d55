"""COCO's average precision of objects with scores, by pycocotools (`pip install 'nnunet-archs[coco]'`)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .instances import check_shapes

COCO_METRICS = ("coco_ap50", "coco_ap")
HAS_COCO = find_spec("pycocotools") is not None


def coco_metrics(reference: NDArray[Any], prediction: NDArray[Any], scores: Sequence[float]) -> dict[str, float]:
    """COCO's AP of an image's instance maps `(*spatial)`: at an IoU of 0.5, and the mean over 0.5, 0.55, ..., 0.95.

    `scores` are of the predicted objects, in the order of their ids. NaN where neither map has an object, and 0 where
    one of them has none.

    Raises:
        ValueError: if the shapes differ, or there is not a score for every object.
    """
    check_shapes(reference, prediction)
    shown = (reference > 0) | (prediction > 0)  # the voxels' places do not matter
    truth, found = as_annotations(reference[shown]), as_annotations(prediction[shown])
    if len(found) != len(scores):
        raise ValueError(f"{len(scores)} scores for {len(found)} objects; give one for each")
    if not (truth and found):
        return dict.fromkeys(COCO_METRICS, 0.0 if truth or found else math.nan)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(io.StringIO()):
        known = COCO()
        image = {"id": 1, "height": int(shown.sum()), "width": 1}
        known.dataset = {"images": [image], "categories": [{"id": 1}], "annotations": truth}
        known.createIndex()
        scored = [{**one, "score": score} for one, score in zip(found, scores, strict=True)]
        evaluation = COCOeval(known, known.loadRes(scored), "segm")
        evaluation.params.maxDets = [len(scored)]  # 100 by default
        evaluation.evaluate()
        evaluation.accumulate()
    # IoU, recall, category, size (all sizes first), detections
    precision = evaluation.eval["precision"][:, :, 0, 0, 0].mean(axis=1)
    return dict(zip(COCO_METRICS, (float(precision[0]), float(precision.mean())), strict=True))


def as_annotations(voxels: NDArray[Any]) -> list[dict[str, Any]]:
    """The objects of ids `(n,)`, as pycocotools takes those of an image of one column."""
    from pycocotools import mask

    objects = [(voxels == number)[:, None] for number in np.unique(voxels[voxels > 0])]
    return [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "area": int(one.sum()),
            "segmentation": mask.encode(np.asfortranarray(one, dtype=np.uint8)),
        }
        for number, one in enumerate(objects, start=1)
    ]

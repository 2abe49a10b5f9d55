import math

import numpy as np
import pytest
import torch
from monai.metrics.panoptic_quality import compute_panoptic_quality
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nnunet_archs.measure.coco import coco_metrics
from nnunet_archs.measure.instances import instance_metrics


def squares(*boxes, shape=(20, 20)):
    found = np.zeros(shape, dtype=np.uint16)
    for number, (row, column, size) in enumerate(boxes, start=1):
        found[row : row + size, column : column + size] = 10 * number
    return found


def scattered(seed, n=25, shape=(60, 60)):
    rng = np.random.default_rng(seed)
    return squares(*zip(*rng.integers(0, 52, (2, n)), rng.integers(3, 9, n), strict=True), shape=shape)


@pytest.mark.parametrize("seed", range(4))
def test_panoptic_quality_is_monais(seed):
    reference, prediction = scattered(seed), np.roll(scattered(seed), 1, axis=seed % 2)
    prediction[prediction > 150] = 0
    given = [torch.from_numpy(image.astype(np.int64)) for image in (prediction, reference)]
    theirs = float(compute_panoptic_quality(*given, metric_name="pq", remap=True))
    assert 0 < theirs < 1
    assert instance_metrics(reference, prediction)["pq"] == pytest.approx(theirs, abs=1e-6)


def test_numbers_worked_out_by_hand():
    """16 of 16 pixels; 12 of 16 and 8 more, which is 0.6; one that is missed; two that are not there."""
    reference = squares((0, 0, 4), (8, 0, 4), (0, 10, 4))
    prediction = squares((0, 0, 4), (9, 0, 4), (14, 14, 3), (18, 0, 2))
    metrics = instance_metrics(reference, prediction)
    assert metrics["object_f1"] == 2 * 2 / 7
    assert metrics["pq"] == (1 + 0.6) / (2 + 1 / 2 + 2 / 2)
    assert metrics["aji"] == (16 + 12) / (16 + 20 + 16 + 9 + 4)
    assert metrics["ap50"] == 2 / 5
    # 0.6 is reached at 0.5, 0.55 and 0.6
    assert metrics["ap"] == pytest.approx((3 * 2 / 5 + 7 * 1 / 6) / 10)


def test_an_object_in_halves_is_matched_once():
    whole, halves = np.ones((4, 4), int), np.ones((4, 4), int)
    halves[:, 2:] = 2
    metrics = instance_metrics(whole, halves)
    assert (metrics["ap50"], metrics["object_f1"], metrics["aji"]) == (1 / 2, 0, 8 / 24)


def test_ids_and_axes_do_not_matter():
    reference, prediction = scattered(5), np.roll(scattered(5), 1, axis=0)
    first = instance_metrics(reference, prediction)
    assert instance_metrics(reference[None] * 7, (prediction[None].astype(np.int64) * 900)) == first


def test_maps_without_objects():
    none, some = np.zeros((20, 20), int), squares((2, 2, 5))
    assert all(math.isnan(value) for value in instance_metrics(none, none).values())
    for pair in ((none, some), (some, none)):
        assert set(instance_metrics(*pair).values()) == {0.0}
    assert set(instance_metrics(some, some).values()) == {1.0}
    with pytest.raises(ValueError, match=r"the prediction is \(3, 3\), its reference \(20, 20\)"):
        instance_metrics(some, np.zeros((3, 3)))


def by_pycocotools(reference, prediction, scores):
    """COCO's own summary of a picture's masks: AP over 0.5, 0.55, ..., 0.95, and at 0.5."""

    def masks(image):
        each = (image == number for number in np.unique(image[image > 0]))
        return [mask.encode(np.asfortranarray(one, dtype=np.uint8)) for one in each]

    place = {"image_id": 7, "category_id": 1, "iscrowd": 0}
    known = COCO()
    known.dataset = {
        "images": [{"id": 7, "height": reference.shape[0], "width": reference.shape[1]}],
        "categories": [{"id": 1}],
        "annotations": [
            {**place, "id": i, "segmentation": one, "area": float(mask.area(one))}
            for i, one in enumerate(masks(reference), start=1)
        ],
    }
    known.createIndex()
    found = [{**place, "segmentation": m, "score": s} for m, s in zip(masks(prediction), scores, strict=True)]
    evaluation = COCOeval(known, known.loadRes(found), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[:2]


@pytest.mark.parametrize("seed", range(3))
def test_scored_ap_is_pycocotools(seed):
    reference, prediction = scattered(seed), np.roll(scattered(seed), 1, axis=seed % 2)
    prediction[prediction > 150] = 0
    prediction[50:, :9] = 999
    scores = np.random.default_rng(seed).random(len(np.unique(prediction)) - 1)
    theirs = by_pycocotools(reference, prediction, scores)
    assert 0 < theirs[0] < theirs[1] < 1
    ours = coco_metrics(reference, prediction, scores)
    assert (ours["coco_ap"], ours["coco_ap50"]) == pytest.approx(tuple(theirs), abs=1e-9)
    assert coco_metrics(reference.reshape(4, 15, 60), prediction.reshape(4, 15, 60), scores) == ours


def test_scores_decide_the_order_and_more_than_100_objects_count():
    reference, prediction = squares((0, 0, 4), (8, 0, 4)), squares((0, 0, 4), (8, 0, 4), (14, 14, 3))
    values = [coco_metrics(reference, prediction, [0.9, 0.6, score])["coco_ap50"] for score in (0.5, 0.7, 0.95)]
    assert values == pytest.approx([1, (51 + 50 * 2 / 3) / 101, 2 / 3])
    many = np.arange(1, 301)[None]
    assert coco_metrics(many, many, [0.5] * 300)["coco_ap"] == 1


def test_scored_ap_without_objects_and_without_a_score_of_each():
    none, some = np.zeros((20, 20), int), squares((2, 2, 5))
    assert all(math.isnan(value) for value in coco_metrics(none, none, []).values())
    assert set(coco_metrics(some, none, []).values()) == set(coco_metrics(none, some, [0.9]).values()) == {0.0}
    with pytest.raises(ValueError, match="2 scores for 1 objects"):
        coco_metrics(some, some, [0.9, 0.8])

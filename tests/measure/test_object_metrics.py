import math

import numpy as np
import pytest
import torch
from monai.metrics.panoptic_quality import compute_panoptic_quality

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

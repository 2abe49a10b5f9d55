import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nnunet_archs.study.overlays import BACKGROUND, COLOURS, DPI, PANEL, draw_overlay, extremes, fullest_slice

NAMES = {0: "background", 1: "anterior", 2: "posterior"}


def case(shape=(6, 40, 30)):
    labels = np.zeros(shape, int)
    labels[shape[0] // 2, 10:20, 5:15] = 1
    labels[shape[0] // 2, 10:20, 15:22] = 2
    return np.random.default_rng(0).normal(size=shape), labels


def drawn(*args):
    return np.asarray(Image.open(io.BytesIO(draw_overlay(*args)[0])).convert("RGB"))


def has(pixels, colour):
    return bool((np.abs(pixels.astype(int) - [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).sum(-1) < 12).any())


def test_contours_of_all_labels_are_drawn():
    image, labels = case()
    pixels = drawn(image, labels, {"a": labels, "$b$": np.roll(labels, 2, 1)}, (3, 1, 1), NAMES)
    assert has(pixels, BACKGROUND)
    assert has(pixels, COLOURS[0])
    assert has(pixels, COLOURS[1])


def test_a_panel_a_network_and_one_for_the_reference():
    image, labels = case()
    widths = [
        drawn(image, labels, dict.fromkeys(names, labels), (3, 1, 1), NAMES).shape[1] for names in ("a", "ab", "abcd")
    ]
    assert np.diff(widths).tolist() == pytest.approx([PANEL * DPI, 2 * PANEL * DPI], abs=2)


def test_what_stands_over_the_panels():
    image, labels = case()
    none = np.zeros_like(labels)
    _, titles = draw_overlay(image, labels, {"a": labels, "b": none}, (3, 1, 1), NAMES, {"a": 0.9126, "b": 0.0})
    assert titles == "reference, slice 4 of 6; a, Dice 0.913; b, Dice 0.000, no foreground predicted"
    _, titles = draw_overlay(image, labels, {"a": none}, (3, 1, 1), NAMES)
    assert titles.endswith("; a, no foreground predicted")


def test_a_title_of_several_lines_is_not_cut():
    image, labels = (array.swapaxes(1, 2) for array in case())  # a tall one
    pixels = drawn(image, labels, {"a name of several lines " * 4: labels}, (3, 1, 1), NAMES)
    assert (pixels[:5] == pixels[0, 0]).all()


@pytest.mark.parametrize("shape", [(1, 40, 30), (6, 40, 30)])
@pytest.mark.parametrize("empty", ["reference", "prediction", "both"])
def test_a_case_without_labels_can_be_drawn(shape, empty):
    image, labels = case(shape)
    none = np.zeros_like(labels)
    reference = none if empty != "prediction" else labels
    prediction = none if empty != "reference" else labels
    assert drawn(image, reference, {"a": prediction}, (999, 1, 1), NAMES).size


def test_slices_lie_across_the_thickest_voxels():
    image, labels = case()
    assert fullest_slice(labels, 0) == 3
    upright = drawn(image.T, labels.T, {"a": labels.T}, (1, 1, 3), NAMES)
    assert has(upright, COLOURS[1])


def test_extremes_are_those_of_the_scores():
    scores = pd.Series({"a": 0.5, "b": 0.9, "c": 0.1, "d": np.nan})
    assert extremes(scores) == {"best": "b", "median": "a", "worst": "c"}
    assert extremes(scores[["a", "b"]]) == {"best": "b", "worst": "a"}
    assert extremes(scores[["a", "d"]]) == {"best": "a"}
    assert extremes(scores[["d"]]) == {}

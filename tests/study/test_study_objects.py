"""Data sets that tell objects apart, in studies: what is measured, reported and drawn."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from made_up import make_study
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from skimage.io import imsave

from nnunet_archs.instances import described, encode
from nnunet_archs.measure.coco import coco_metrics
from nnunet_archs.measure.instances import instance_metrics
from nnunet_archs.study.collection import object_metrics
from nnunet_archs.study.examples import draw_files
from nnunet_archs.study.metrics import COUNTS, METRICS, OBJECT_METRICS
from nnunet_archs.study.report import write_report


def rows_of_squares():
    """Nine squares, four of which touch their neighbours, and a prediction that lacks one and joins two."""
    truth = np.zeros((40, 40), int)
    for number, (row, column) in enumerate(np.ndindex(3, 3), start=1):
        truth[2 + 12 * row : 12 + 12 * row, 2 + 10 * column : 12 + 10 * column] = number
    found = truth.copy()
    found[truth == 1] = 0
    found[truth == 6] = 5
    return truth, found


def test_objects_are_measured_and_all_of_their_voxels_together():
    truth, found = rows_of_squares()
    labels = [encode(image, 2, (1, 1))[None] for image in (truth, found)]
    measured = object_metrics(*labels, (999, 1, 1), 1.0)
    assert [*measured] == [*METRICS, *COUNTS, "background_iou", *OBJECT_METRICS]
    unscored = instance_metrics(truth, found)
    assert {name: measured[name] for name in unscored} == unscored
    assert measured["dice"] == 2 * 800 / 1700
    assert math.isnan(measured["coco_ap"])
    likely = np.where(found == 5, 0.9, 0.6)[None]  # what joins two ranks first
    scored = object_metrics(*labels, (999, 1, 1), 1.0, likely)
    wanted = coco_metrics(truth, found, [0.6, 0.6, 0.6, 0.9, 0.6, 0.6, 0.6])
    assert {name: scored[name] for name in wanted} == pytest.approx(wanted)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = make_study(tmp_path_factory.mktemp("study"), configurations=("2d",), missing_fold=None)
    cases = pd.read_csv(folder / "cases.csv")
    for i, name in enumerate(OBJECT_METRICS):
        cases[name] = cases["dice"] - 0.1 * i
    cases.to_csv(folder / "cases.csv", index=False)
    write_report(folder)
    return folder


def test_a_report_has_the_metrics_of_objects_and_compares_them(study):
    (section,) = json.loads((study / "report.json").read_text())["sections"]
    for row, summary in zip(section["objects"], section["summary"], strict=True):
        assert row["object_f1"] == pytest.approx(summary["dice"])
        assert row["ap"] == pytest.approx(summary["dice"] - 0.4)
        assert row["pq_low"] < row["pq"] < row["pq_high"]
    compared = section["comparisons"]
    assert [*compared] == ["dice", "surface_dice", "pq", "ap50", "coco_ap"]
    assert [one["p"] for one in compared["pq"]] == pytest.approx([one["p"] for one in compared["dice"]])
    page = (study / "report.html").read_text()
    assert "<h3>Objects</h3>" in page
    assert "Panoptic quality" in page


def test_other_reports_have_none(tmp_path):
    folder = make_study(tmp_path, configurations=("2d",), missing_fold=None)
    write_report(folder)
    assert json.loads((folder / "report.json").read_text())["sections"][0]["objects"] == []
    assert "<h3>Objects</h3>" not in (folder / "report.html").read_text()


def test_objects_are_drawn_in_several_colours(tmp_path):
    truth, found = rows_of_squares()
    for name, image in (("truth", encode(truth, 2, (1, 1))), ("found", encode(found, 2, (1, 1))), ("image", truth)):
        imsave(tmp_path / f"{name}.png", image.astype(np.uint8), check_contrast=False)
    files = {name: tmp_path / f"{name}.png" for name in ("image", "truth", "found")}
    content = {**described("2voxels")}
    png, text = draw_files(NaturalImage2DIO(), [files["image"]], files["truth"], {"a": files["found"]}, content)
    plain, _ = draw_files(
        NaturalImage2DIO(), [files["image"]], files["truth"], {"a": files["found"]}, {"labels": content["labels"]}
    )
    assert png.startswith(b"\x89PNG")
    assert png != plain
    assert "a" in text

"""Cases to look at in a report: the best, the median and the worst, with every network's contours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.instances import decode, is_encoded
from nnunet_archs.nnunet.datasets import label_names
from nnunet_archs.nnunet.images import read_image, read_labels

from .definition import Study
from .job import Job, Part
from .overlays import Overlay, draw_overlay, extremes
from .statistics import case_scores

# a case may be called 001
NAMES = dict.fromkeys(("dataset", "configuration", "network", "part", "fold", "case", "label"), str)


def draw_examples(study: Study, measured: Sequence[Job]) -> list[Overlay]:
    """Overlays of every data set and configuration, where the raw images are at hand; of test sets the ensembles'."""
    cases = pandas.read_csv(study.folder / "cases.csv", dtype=NAMES)
    compared = [job for job in measured if job.part == "validation" or job.folds == study.folds]
    groups = groupby(sorted(compared, key=place_of), key=place_of)
    return [overlay for place, jobs in groups for overlay in draw_place(cases, place, list(jobs))]


def place_of(job: Job) -> tuple[str, str, Part]:
    """Data set, configuration, and part."""
    return job.dataset, job.configuration, job.part


def draw_place(cases: pandas.DataFrame, place: tuple[str, str, Part], jobs: Sequence[Job]) -> Iterator[Overlay]:
    """The best, the median and the worst case, by Dice, of the network that is best on average."""
    dataset, configuration, part = place
    images = jobs[0].images()
    here = cases[(cases["dataset"] == dataset) & (cases["configuration"] == configuration) & (cases["part"] == part)]
    here = here[here["fold"].isin({job.by for job in jobs})]
    scores = case_scores(here, "dice").dropna()
    if scores.empty or images is None:
        return
    network = str(scores.mean().idxmax())
    fold_of = here.set_index("case")["fold"].to_dict()
    for which, case in extremes(scores[network]).items():
        of_case = {job.network.name: job for job in jobs if job.by == fold_of[case]}
        dice = {name: float(score) for name, score in scores.loc[case].items()}
        png, titles = draw_case(case, of_case, images[case], dice)
        text = f"{case}: contours of the reference and of every network. {titles}"
        yield Overlay(dataset, configuration, case, which, dice[network], network, png, text, 1 + len(of_case), part)


def draw_case(
    case: str, jobs: Mapping[str, Job], images: Sequence[str], dice: Mapping[str, float]
) -> tuple[bytes, str]:
    """The first channel of a case, with the reference and every network's prediction; and what stands over them."""
    first = next(iter(jobs.values()))
    dataset_json = load_json(str(first.model / "dataset.json"))
    reader = PlansManager(load_json(str(first.model / "plans.json"))).image_reader_writer_class()
    file = f"{case}{dataset_json['file_ending']}"
    truth = first.references / file
    predictions = {name: job.predicted / file for name, job in jobs.items()}
    return draw_files(reader, [Path(name) for name in images], truth, predictions, dataset_json, dice)


def draw_files(
    reader: BaseReaderWriter,
    images: Sequence[Path],
    truth: Path,
    predictions: Mapping[str, Path],
    dataset_json: Mapping[str, Any],
    dice: Mapping[str, float] | None = None,
) -> tuple[bytes, str]:
    """An overlay of the first of a case's images, the reference and predictions, by name; of objects, if so encoded."""
    (image, *_), spacing = read_image(reader, images)
    reference, *predicted = (read_labels(reader, file)[0].astype(int) for file in (truth, *predictions.values()))
    names = label_names(dataset_json["labels"])
    if is_encoded(dataset_json):
        reference, *predicted = (decode(labels, spacing).astype(int) for labels in (reference, *predicted))
        names = dict.fromkeys(
            range(1, 1 + max(int(labels.max()) for labels in (reference, *predicted))), "objects, in several colours"
        )
    by_name = dict(zip(predictions, predicted, strict=True))
    return draw_overlay(image, reference, by_name, spacing, names, dice)

"""What a study found on one dataset and configuration: every number that its report claims."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from .metrics import OBJECT_METRICS
from .statistics import Comparison, Interval, Spread, average, case_scores, compare, friedman, rank, spread
from .tallies import NOTHING, by_size, in_all, pooled, with_background

MEANS = ("dice", "surface_dice", "recall", "precision", "iou")
DISTANCE = "hausdorff95"  # can be infinite, so that it has quartiles and no mean
COMPARED = ("dice", "surface_dice")
MAIN = COMPARED[0]  # of the verdict
COMPARED_OF_OBJECTS = ("pq", "ap50", "coco_ap")  # where the data set tells objects apart
MEAN_IOU = "mean_iou"  # over the classes, background among them
UNKNOWN = Interval(math.nan, math.nan, math.nan)

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A dataset and configuration: the networks with cases, in the study's order, their entries, cases, missing runs.

    `baseline` is what the others are compared with; without one, all pairs are compared. `part` is whose cases these
    are: those of validation, each predicted by its fold, or those of the test set, predicted by all of `folds`
    together, and in `alone` by each of these alone.
    """

    dataset: str
    configuration: str
    part: str
    folds: list[str]
    networks: list[str]
    baseline: str | None
    entries: dict[str, Row]
    cases: pd.DataFrame
    alone: pd.DataFrame
    missing: list[Row]

    def scores(self, metric: str) -> pd.DataFrame:
        """Scores by case and network, of the cases in which the metric is defined for all networks."""
        return self._scores(metric).dropna()

    def scores_where_any(self, metric: str) -> pd.DataFrame:
        """The same without networks for which it never is, as precision is not of one that predicts nothing."""
        return self._scores(metric).dropna(axis=1, how="all").dropna()

    def _scores(self, metric: str) -> pd.DataFrame:
        return case_scores(self.cases, metric).reindex(columns=self.networks)

    def fold_of(self) -> pd.Series:
        """The fold that validates a case, by case."""
        return self.cases.drop_duplicates("case").set_index("case")["fold"]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The numbers of a setting; nothing is compared where one network is alone, or no case has all of them."""

    dataset: str
    configuration: str
    part: str
    folds: list[str]
    networks: list[str]
    baseline: str | None
    paired_cases: list[str]
    left_out: dict[str, list[str]]  # networks that lack a case, by case
    undefined: list[str]  # cases that all networks have, without a score for all
    summary: list[Row]
    labels: list[Row]
    objects: list[Row]  # their metrics, where the data set tells them apart
    strata: list[Row]
    alone: list[Row]  # a test set's, by every fold
    comparisons: dict[str, list[Comparison]]  # by metric: against the baseline, or all pairs
    pairs: list[Comparison]  # all pairs
    ranks: dict[str, Interval]
    friedman_p: float
    spread: Spread | None
    missing: list[Row]

    @property
    def title(self) -> str:
        """What a reader calls the setting."""
        return f"{self.dataset}, {self.configuration}" + (", test set" if self.part == "test" else "")

    def pair(self, a: str, b: str) -> Comparison | None:
        """The comparison of a with b, whichever of them comes first; None for one with itself."""
        for pair in self.pairs:
            if (pair.a, pair.b) == (a, b):
                return pair
            if (pair.a, pair.b) == (b, a):
                of = pair.difference
                return replace(pair, a=a, b=b, difference=Interval(-of.value, -of.high, -of.low))
        return None


def find(setting: Setting) -> Findings:
    """All numbers of a setting."""
    scores = setting.scores(MAIN)
    told_apart = bool(setting.cases[list(OBJECT_METRICS)].notna().any(axis=None))
    metrics = (*COMPARED, *COMPARED_OF_OBJECTS) if told_apart else COMPARED
    compared = {metric: comparisons(setting, metric, setting.baseline) for metric in metrics}
    folds, common = setting.fold_of(), in_all(setting.cases, setting.networks)
    tallied, classes = pooled(common), with_classes(setting)
    lacking = {
        str(case): [name for name in setting.networks if name not in {*present}]
        for case, present in setting.cases.groupby("case")["network"]
    }
    left_out = {case: names for case, names in lacking.items() if names}
    return Findings(
        dataset=setting.dataset,
        configuration=setting.configuration,
        part=setting.part,
        folds=setting.folds,
        networks=setting.networks,
        baseline=setting.baseline,
        paired_cases=list(scores.index),
        left_out=left_out,
        undefined=[case for case in lacking if case not in left_out and case not in scores.index],
        summary=[
            {"network": name} | row | classes[name] | tallied.get(name, NOTHING) | costs(setting.entries[name])
            for name, row in measures(setting).items()
        ],
        labels=[
            {"label": label, "network": name} | row
            for label in setting.cases["label"].unique()
            for name, row in measures(of_label(setting, label)).items()
        ],
        objects=[{"network": name} | row for name, row in measures(setting, OBJECT_METRICS).items()]
        if told_apart
        else [],
        strata=by_size(common),
        alone=by_fold(setting),
        comparisons=compared,
        pairs=compared[MAIN] if setting.baseline is None else comparisons(setting, MAIN, None),
        ranks=rank(scores, higher_is_better=True) if compared[MAIN] else {},
        friedman_p=friedman(scores) if compared[MAIN] and len(setting.networks) > 2 else math.nan,
        spread=spread(scores, folds) if compared[MAIN] and folds[scores.index].nunique() > 1 else None,
        missing=setting.missing,
    )


def of_label(setting: Setting, label: str) -> Setting:
    """The setting with one label alone."""
    return replace(setting, cases=setting.cases[setting.cases["label"] == label])


def by_fold(setting: Setting) -> list[Row]:
    """The mean main score of every fold's network alone, over the cases that all of these have, and the interval."""
    rows = []
    for fold, cases in setting.alone.groupby("fold", sort=False):
        scores = replace(setting, cases=cases).scores_where_any(MAIN)
        rows += [
            {"network": name, "fold": str(fold), **mean(scores[name]), "cases": len(scores)}
            for name in setting.networks
            if name in scores
        ]
    return rows


def comparisons(setting: Setting, metric: str, baseline: str | None) -> list[Comparison]:
    """Comparisons against a baseline, or of all pairs; none without two networks and a case."""
    scores = setting.scores(metric)
    return compare(scores, baseline) if len(setting.networks) > 1 and len(scores) else []


def measures(setting: Setting, metrics: Iterable[str] = (*MEANS, DISTANCE)) -> dict[str, Row]:
    """Of every network, each metric's mean with its interval, or its quartiles, and the number of cases."""
    rows: dict[str, Row] = {name: {} for name in setting.networks}
    for metric in metrics:
        summarise = quartiles if metric == DISTANCE else mean
        scores = setting.scores_where_any(metric)
        for name, row in rows.items():
            own = scores.get(name, pd.Series(dtype=float))
            values = {**summarise(own), "cases": len(own)}
            row |= {metric if key == "value" else f"{metric}_{key}": value for key, value in values.items()}
    return rows


def with_classes(setting: Setting) -> dict[str, Row]:
    """Of every network the mean IoU over classes, background among them, and over cases."""
    scores = replace(setting, cases=with_background(setting.cases)).scores_where_any("iou")
    return {name: {MEAN_IOU: float(scores[name].mean()) if name in scores else math.nan} for name in setting.networks}


def mean(scores: pd.Series) -> Row:
    """The mean with its interval."""
    return asdict(average(scores) if len(scores) else UNKNOWN)


def quartiles(scores: pd.Series) -> Row:
    """Median and quartiles, infinite where one of the two scores that a quartile lies between is, and their number."""
    ordered = np.sort(scores.to_numpy())
    places = {key: share * (len(ordered) - 1) for key, share in (("median", 0.5), ("lower", 0.25), ("upper", 0.75))}
    found = {key: interpolate(ordered, place) if len(ordered) else math.nan for key, place in places.items()}
    return {**found, "infinite": int(np.isinf(ordered).sum())}


def interpolate(ordered: np.ndarray[Any, Any], place: float) -> float:
    """The value at a place between two of an array's; unlike numpy's, it can be next to an infinite one."""
    low, high = float(ordered[math.floor(place)]), float(ordered[math.ceil(place)])
    return low if low == high else low + place % 1 * (high - low)


def costs(entry: Row) -> Row:
    """What a network costs; the time is the mean over its finished folds."""
    seconds = [fold["training_seconds"] for fold in entry["folds"].values()]
    return {
        "parameters": entry["parameters"],
        "multiply_adds": entry["multiply_adds"],
        "memory_gib": entry["memory_gib"],
        "training_seconds": float(np.mean(seconds)) if seconds else math.nan,
        "folds": len(seconds),
    }


def comparison_rows(findings: Findings) -> list[Row]:
    """Every comparison as a row, of which family it was corrected in."""
    families = [("all pairs" if findings.baseline is None else "against the baseline", findings.comparisons)]
    families += [] if findings.baseline is None else [("all pairs", {MAIN: findings.pairs})]
    return [
        {
            "dataset": findings.dataset,
            "configuration": findings.configuration,
            "part": findings.part,
            "metric": metric,
            "family": family,
            "a": comparison.a,
            "b": comparison.b,
            "cases": comparison.n,
            "difference": comparison.difference.value,
            "difference_low": comparison.difference.low,
            "difference_high": comparison.difference.high,
            "p": comparison.p,
            "adjusted_p": comparison.adjusted,
            "significant": comparison.significant,
        }
        for family, by_metric in families
        for metric, compared in by_metric.items()
        for comparison in compared
    ]


def summary_rows(findings: Findings) -> list[Row]:
    """The main table."""
    place = {"dataset": findings.dataset, "configuration": findings.configuration, "part": findings.part}
    return [place | row for row in findings.summary]

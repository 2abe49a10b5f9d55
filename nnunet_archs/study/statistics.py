"""What paired scores of networks on the same cases tell: differences, ranks, and what folds alone make of a score.

Scores are a table with a row a case and a column a network, of one data set, configuration and metric; cases of all
folds are pooled. Tests take cases as independent. Those of one fold share a network and those of two folds share
training data, so p-values are rather too small: say so beside them.

Intervals are percentile bootstraps over cases, of 95 %. BCa would be more exact for a mean, but it is not defined where
all cases are alike, and its leave-one-out says little of medians; percentiles stay within what a score can be.
The seed is fixed and all networks see the same resamples, so a report comes out the same again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series
from scipy.stats import bootstrap, friedmanchisquare, rankdata, wilcoxon

FloatArray: TypeAlias = NDArray[np.float64]
Pair: TypeAlias = tuple[str, str]

LEVEL = 0.05  # of significance
RESAMPLES = 2000
SEED = 0
BATCH_ELEMENTS = 2**22  # averages of two at a time in a bootstrap, 32 MiB
# inf has no differences and no means: this stands for it, and what is beyond its root is inf again
FAR = 1e18


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its 95 % interval, NaN if there is one case."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Network `a` against `b` on `n` cases: Hodges–Lehmann difference a - b, Wilcoxon's p, and p adjusted by Holm."""

    a: str
    b: str
    n: int
    difference: Interval
    p: float
    adjusted: float

    @property
    def significant(self) -> bool:
        """Whether the difference is, among all that were compared."""
        return self.adjusted < LEVEL


@dataclass(frozen=True)
class Spread:
    """Standard deviations: `between` networks, and `within` a network, between its folds."""

    between: float
    within: float

    @property
    def ratio(self) -> float:
        """Between by within: below 1, folds differ more than networks, and the data set hardly separates them."""
        return self.between / self.within if self.within else math.nan


class Statistic(Protocol):
    """A number of each row of samples."""

    def __call__(self, samples: FloatArray, /, *, axis: int) -> FloatArray:
        """`(..., n)` to `(...)`, along the last axis."""


def case_scores(cases: DataFrame, metric: str) -> DataFrame:
    """A metric of every case and network, the mean over the labels for which it is defined.

    NaN where it is for none, and where a network lacks the case. `cases` is of one data set and configuration.

    Raises:
        ValueError: if a network has a case's label twice.
    """
    twice = cases[cases.duplicated(["network", "case", "label"])]
    if len(twice):
        network, case, label = twice.iloc[0][["network", "case", "label"]]
        raise ValueError(f"{network} has case {case}, label {label}, twice; give one data set, configuration and fold")
    means = cases.groupby(["case", "network"])[metric].mean().unstack("network")
    return means[cases["network"].unique()]


def compare(scores: DataFrame, baseline: str | None) -> list[Comparison]:
    """Compare every network with the baseline, or all pairs if `baseline` is None.

    Raises:
        ValueError: for scores that are missing, or an unknown baseline.
    """
    return [
        Comparison(a, b, len(scores), interval(differences(scores, a, b), hodges_lehmann), p, adjusted)
        for (a, b), (p, adjusted) in p_values(scores, baseline).items()
    ]


def p_values(scores: DataFrame, baseline: str | None) -> dict[Pair, tuple[float, float]]:
    """Wilcoxon's p of every comparison, and Holm's adjusted one, of these comparisons together.

    Raises:
        ValueError: for scores that are missing, or an unknown baseline.
    """
    check_complete(scores)
    compared = pairs(list(scores), baseline)
    p = [wilcoxon_p(differences(scores, *pair)) for pair in compared]
    return dict(zip(compared, zip(p, holm(p), strict=True), strict=True))


def pairs(networks: Sequence[str], baseline: str | None) -> list[Pair]:
    """What is compared: every other network with the baseline, or all of them with one another if that is None.

    Raises:
        ValueError: for an unknown baseline.
    """
    if baseline is None:
        return list(combinations(networks, 2))
    if baseline not in networks:
        raise ValueError(f"the baseline {baseline} has no scores; give one of {', '.join(networks)}, or none")
    return [(network, baseline) for network in networks if network != baseline]


def differences(scores: DataFrame, a: str, b: str) -> FloatArray:
    """Of a and b in every case, a - b; 0 where both are infinitely far from the reference."""
    of_a, of_b = (scores[network].to_numpy(float) for network in (a, b))
    return np.subtract(of_a, of_b, out=np.zeros(len(scores)), where=of_a != of_b)


def wilcoxon_p(difference: FloatArray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, 1 if there is no difference at all.

    Zeros are left out, as Wilcoxon did: so p is exact up to 50 cases, or 13 with ties, and fewer than 6 cases that
    differ never make it less than 0.05.
    """
    nonzero = difference[difference != 0]
    return float(wilcoxon(nonzero).pvalue) if len(nonzero) else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: the smallest times their number, the next times one less; none below one before."""
    ascending = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[ascending] = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1).tolist()


def hodges_lehmann(samples: FloatArray, /, *, axis: int) -> FloatArray:
    """Median of the averages of all two values, each with itself too, `(..., n)` to `(...)`."""
    i, j = np.triu_indices(samples.shape[axis])
    sums = samples.take(i, axis)
    sums += samples.take(j, axis)
    return np.median(sums, axis, overwrite_input=True) / 2


def average(scores: Series) -> Interval:
    """Mean over cases.

    Raises:
        ValueError: for scores that are missing.
    """
    check_complete(scores.to_frame())
    return interval(scores.to_numpy(float), np.mean)


def rank(scores: DataFrame, *, higher_is_better: bool) -> dict[str, Interval]:
    """Mean rank of every network over cases, 1 the best; equal scores share the mean of their ranks.

    Raises:
        ValueError: for scores that are missing.
    """
    check_complete(scores)
    ranks = rankdata(-scores if higher_is_better else scores, axis=1)
    return {network: interval(ranks[:, i], np.mean) for i, network in enumerate(scores)}


def friedman(scores: DataFrame) -> float:
    """The p of Friedman's test that all networks rank alike; 1 if the scores of each case are equal.

    Raises:
        ValueError: for scores that are missing, or fewer than 3 networks.
    """
    check_complete(scores)
    if scores.shape[1] < 3:
        raise ValueError(f"Friedman's test of {scores.shape[1]} networks; it needs 3, compare two with Wilcoxon's")
    if (scores.nunique(axis=1) == 1).all():
        return 1.0
    return float(friedmanchisquare(*scores.to_numpy(float).T).pvalue)


def spread(scores: DataFrame, folds: Series) -> Spread:
    """How far networks' means lie apart, and the mean over networks of how far the means of one's folds do.

    `folds` has the fold of every case. NaN for one network or one fold.

    Raises:
        ValueError: for scores or folds that are missing.
    """
    check_complete(scores)
    of_case = folds.reindex(scores.index)
    if of_case.hasnans:
        raise ValueError(f"case {of_case.index[of_case.isna()][0]} has no fold; give the fold of every case")
    return Spread(float(scores.mean().std()), float(scores.groupby(of_case).mean().std().mean()))


def interval(sample: FloatArray, statistic: Statistic) -> Interval:
    """A statistic of the cases' values `(n,)`, and its bootstrap interval."""
    n = len(sample)
    finite = np.nan_to_num(sample, posinf=FAR, neginf=-FAR)
    ends = [float(statistic(finite, axis=-1)), math.nan, math.nan]
    if n > 1:
        batch = max(1, BATCH_ELEMENTS // (n * (n + 1) // 2))
        result = bootstrap(
            (finite,), statistic, n_resamples=RESAMPLES, batch=batch, vectorized=True, method="percentile", rng=SEED
        )
        ends[1:] = map(float, result.confidence_interval)
    return Interval(*(math.copysign(math.inf, end) if abs(end) > math.sqrt(FAR) else end for end in ends))


def check_complete(scores: DataFrame) -> None:
    """Check that there are cases and that every network has a score of each; leaving some out is not decided here.

    Raises:
        ValueError: if not.
    """
    if scores.empty:
        raise ValueError("no case has a score of every network; validate more of them")
    missing = np.argwhere(scores.isna().to_numpy())
    if len(missing):
        case, network = scores.index[missing[0, 0]], scores.columns[missing[0, 1]]
        raise ValueError(f"case {case} has no score of {network}; restrict the comparison to the cases that all have")

"""Statistics by hand, by published examples, and on simulated studies whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from pandas import DataFrame, Series
from scipy.special import expit
from scipy.stats import chi2

from nnunet_archs.study.statistics import (
    LEVEL,
    FloatArray,
    average,
    case_scores,
    compare,
    friedman,
    holm,
    p_values,
    rank,
    spread,
)

N_STUDIES = 1000
N_CASES = 50
NETWORKS = ["A", "B", "C", "D"]

# Hollander and Wolfe, Nonparametric Statistical Methods, Table 3.1: depression before and after a tranquilizer
DEPRESSION = DataFrame(
    {
        "before": [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30],
        "after": [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29],
    }
)
# Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006, Table 6
CLASSIFIERS = DataFrame(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],  # 0.975 in print, but ranked 2 and 3
        [0.957, 0.978, 0.946, 0.970],
    ],
    columns=NETWORKS,
)
FEW = CLASSIFIERS[:6]


def row(network: str, case: str, label: str, dice: float) -> dict[str, object]:
    return {"network": network, "case": case, "label": label, "dice": dice}


def test_case_scores_are_means_over_labels_that_are_defined() -> None:
    cases = DataFrame(
        [
            row("Z", "case2", "liver", 0.8),
            row("Z", "case2", "tumour", math.nan),
            row("Z", "case1", "liver", 0.9),
            row("Z", "case1", "tumour", 0.5),
            row("A", "case1", "liver", math.inf),
            row("A", "case1", "tumour", 0.5),
            row("A", "case3", "liver", math.nan),
        ]
    )
    scores = case_scores(cases, "dice")
    assert list(scores) == ["Z", "A"]  # as in the table
    assert list(scores.index) == ["case1", "case2", "case3"]
    np.testing.assert_array_equal(scores, [[0.7, math.inf], [0.8, math.nan], [math.nan, math.nan]])


def test_a_case_that_is_there_twice_is_refused() -> None:
    cases = DataFrame([row("A", "case1", "liver", 0.8), row("A", "case1", "liver", 0.9)])
    with pytest.raises(ValueError, match="A has case case1, label liver, twice"):
        case_scores(cases, "dice")


def test_published_comparison() -> None:
    (comparison,) = compare(DEPRESSION, "after")
    assert (comparison.a, comparison.b, comparison.n) == ("before", "after", 9)
    assert comparison.p == comparison.adjusted == pytest.approx(0.0390625)
    assert comparison.difference.value == pytest.approx(0.46, abs=0.001)
    assert 0 < comparison.difference.low < 0.46 < comparison.difference.high < 1.03
    assert comparison.significant


def test_what_is_compared() -> None:
    assert [(c.a, c.b) for c in compare(FEW, "B")] == [("A", "B"), ("C", "B"), ("D", "B")]
    assert [(c.a, c.b) for c in compare(FEW, None)] == [*zip("AAABBC", "BCDCDD", strict=True)]
    assert compare(FEW[["A"]], None) == []
    with pytest.raises(ValueError, match="the baseline E has no scores; give one of A, B, C, D, or none"):
        compare(FEW, "E")


def test_comparisons_come_out_the_same_again() -> None:
    assert compare(FEW, None) == compare(FEW, None)


def test_adjusted_p_values_are_those_of_all_comparisons() -> None:
    p, adjusted = zip(*p_values(FEW, "A").values(), strict=True)
    assert list(adjusted) == holm(p)


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6, 0.001], [1, 1, 0.003]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([], []),
    ],
)
def test_holm(p: list[float], adjusted: list[float]) -> None:
    assert holm(p) == pytest.approx(adjusted)


def test_equal_scores_have_no_difference() -> None:
    (comparison,) = compare(DataFrame({"A": [0.5, 0.9, 1.0], "B": [0.5, 0.9, 1.0]}), None)
    assert comparison.p == comparison.adjusted == 1
    assert comparison.difference.low == comparison.difference.value == comparison.difference.high == 0


def test_five_cases_that_differ_are_not_enough() -> None:
    a = np.linspace(0.5, 0.9, 20)
    few = DataFrame({"A": a, "B": a - np.linspace(0.01, 0.05, 20) * (np.arange(20) < 5)})
    (comparison,) = compare(few, "B")
    assert comparison.n == 20
    assert comparison.p == 2 / 2**5


def test_one_case_has_no_interval() -> None:
    (comparison,) = compare(DataFrame({"A": [0.9], "B": [0.8]}), "B")
    assert comparison.p == 1
    assert comparison.difference.value == pytest.approx(0.1)
    assert math.isnan(comparison.difference.low)
    assert math.isnan(comparison.difference.high)


def test_infinite_distances() -> None:
    inf = math.inf
    scores = DataFrame({"A": [1.0, 2.0, inf, inf, 3.0, 4.0, 5.0, 2.5], "B": [2.0, 2.5, inf, 3.0, inf, 6.5, 9.0, 6.0]})
    (comparison,) = compare(scores, None)
    # differences -1, -0.5, 0 for the tie, inf, -inf, -2.5, -4 and -3.5: ranks 2, 1, 6.5, 6.5, 3, 5 and 4, one positive;
    # 15 of 128 signs give 6.5 or less
    assert comparison.p == pytest.approx(2 * 15 / 2**7)
    assert comparison.difference.value == -1.875  # of 36 averages the 18th is -2, the 19th -1.75
    assert (comparison.difference.low, comparison.difference.high) == (-inf, inf)
    means = average(scores["A"])
    assert (means.value, means.high) == (inf, inf)
    assert means.low < inf
    assert {name: mean_rank.value for name, mean_rank in rank(scores, higher_is_better=False).items()} == {
        "A": pytest.approx((1 + 1 + 1.5 + 2 + 1 + 1 + 1 + 1) / 8),
        "B": pytest.approx((2 + 2 + 1.5 + 1 + 2 + 2 + 2 + 2) / 8),
    }


def test_interval_of_a_mean() -> None:
    scores = Series(np.random.default_rng(0).normal(0.8, 0.1, 100))
    mean = average(scores)
    half = 1.96 * scores.std() / 10
    assert mean.value == pytest.approx(scores.mean())
    assert [mean.low, mean.high] == pytest.approx([mean.value - half, mean.value + half], abs=0.1 * half)


def test_published_ranks() -> None:
    ranks = rank(CLASSIFIERS, higher_is_better=True)
    assert [round(mean.value, 3) for mean in ranks.values()] == [3.143, 2.000, 2.893, 1.964]
    assert all(1 <= mean.low <= mean.value <= mean.high <= 4 for mean in ranks.values())
    # the same cases in every resample
    two = rank(CLASSIFIERS[["A", "B"]], higher_is_better=True)
    assert two["A"].low + two["B"].high == pytest.approx(3)


def test_published_friedman() -> None:
    # the paper's 9.28 leaves out the correction for ties, which is 1 - (60 + 3 * 6) / (14 * 60)
    assert friedman(CLASSIFIERS) == pytest.approx(chi2.sf(9.28 / (1 - 78 / 840), 3), rel=0.01)


def test_friedman_of_equal_scores_and_of_two_networks() -> None:
    assert friedman(DataFrame({name: [0.5, 0.9] for name in NETWORKS})) == 1
    with pytest.raises(ValueError, match="Friedman's test of 2 networks"):
        friedman(CLASSIFIERS[["A", "B"]])


def test_spread() -> None:
    scores = DataFrame({"A": [0.7, 0.9, 0.8, 1.0], "B": [0.5, 0.5, 0.5, 0.9]}, index=["c1", "c2", "c3", "c4"])
    folds = Series({"c4": 1, "c3": 1, "c2": 0, "c1": 0, "c5": 2})
    # means 0.85 and 0.6; of the folds 0.8 and 0.9, 0.5 and 0.7
    found = spread(scores, folds)
    assert found.between == pytest.approx(0.25 / math.sqrt(2))
    assert found.within == pytest.approx((0.1 + 0.2) / 2 / math.sqrt(2))
    assert found.ratio == pytest.approx(0.25 / 0.15)
    assert math.isnan(spread(scores, folds * 0).ratio)  # one fold
    assert math.isnan(spread(scores * 0, folds).ratio)
    with pytest.raises(ValueError, match="case c4 has no fold"):
        spread(scores, folds.drop("c4"))


@pytest.mark.parametrize(
    "function",
    [
        lambda scores: compare(scores, None),
        lambda scores: average(scores["A"]),
        lambda scores: rank(scores, higher_is_better=True),
        friedman,
        lambda scores: spread(scores, Series(0, scores.index)),
    ],
    ids=["compare", "average", "rank", "friedman", "spread"],
)
def test_missing_scores_are_refused(function: Callable[[DataFrame], object]) -> None:
    scores = DataFrame({"A": [0.5, math.nan], "B": [math.nan, 0.5], "C": [0.1, 0.2]}, index=["case1", "case2"])
    with pytest.raises(ValueError, match=r"case case[12] has no score of [AB]; restrict"):
        function(scores)
    with pytest.raises(ValueError, match="no case has a score of every network"):
        function(scores.dropna())


def simulated(
    rng: np.random.Generator, n_cases: int = N_CASES, *, skewed: Callable[[FloatArray], FloatArray] = expit
) -> FloatArray:
    """Scores of networks that are equally good `(cases, networks)`: alike in a case, in [0, 1] and skewed as Dice."""
    difficulty = rng.normal(2, 1, (n_cases, 1))
    return skewed(difficulty + rng.normal(0, 0.5, (n_cases, len(NETWORKS))))


@pytest.mark.parametrize("baseline", [None, "A"])
def test_equal_networks_are_rarely_called_different(baseline: str | None) -> None:
    """Any comparison is significant in 5 % of studies at most: 4.3 % for all pairs, 4.0 % with a baseline."""
    rng = np.random.default_rng(0)
    studies = (p_values(DataFrame(simulated(rng), columns=NETWORKS), baseline) for _ in range(N_STUDIES))
    called = sum(min(adjusted for _, adjusted in p.values()) < LEVEL for p in studies)
    assert called / N_STUDIES <= 0.05


@pytest.mark.parametrize("skewed", [expit, np.asarray], ids=["skewed", "normal"])
@pytest.mark.parametrize("networks", [NETWORKS, NETWORKS[:2]], ids=["three comparisons", "one"])
def test_a_real_difference_is_found(networks: list[str], skewed: Callable[[FloatArray], FloatArray]) -> None:
    """Half a standard deviation of the paired differences, in 80 % of studies at least.

    94.1 % among three comparisons and 97.6 % alone; where scores are normal, without long tails, 84.6 % and 93.3 %.
    """
    rng = np.random.default_rng(0)
    population = simulated(rng, 100_000, skewed=skewed)
    half = (population[:, 0] - population[:, 1]).std() / 2
    found = 0
    for _ in range(N_STUDIES):
        scores = DataFrame(simulated(rng, skewed=skewed), columns=NETWORKS)[networks]
        scores["B"] -= half  # B alone is worse
        found += p_values(scores, "A")["B", "A"][1] < LEVEL
    assert found / N_STUDIES >= 0.8

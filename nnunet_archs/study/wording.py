"""Findings in words: the verdict, what a reader has to know beside it, and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .findings import MAIN, Findings
from .job import ENSEMBLE
from .metrics import METRICS
from .statistics import LEVEL, Comparison, Interval, Spread

SHOWN = 4  # comparisons with a difference, and as many without, that the verdict names
NOT_EQUAL = "which does not show that they are equal"


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits after the point; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0: no minus before zero


def signed(value: float) -> str:
    """A difference of scores."""
    text = number(value, 4)
    return f"+{text}" if value > 0 and text != number(0, 4) else text


def probability(p: float) -> str:
    """A p value with its sign of equality."""
    return "< 0.0001" if p < 0.0001 else f"= {number(p, 4)}"


def interval(of: Interval, digits: int = 3) -> str:
    """A value with its interval."""
    within = "no interval" if math.isnan(of.low) else f"{number(of.low, digits)} to {number(of.high, digits)}"
    return f"{number(of.value, digits)} ({within})"


def count(n: int, noun: str) -> str:
    """So many of something."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def thousands(n: float | None) -> str:
    """A large number with its thousands, millions or billions."""
    if n is None:
        return "–"
    for unit, sign in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= unit:
            return f"{n / unit:.2f}{sign}"
    return f"{n:.0f}"


def size(gib: float | None) -> str:
    """Memory, in MiB where it is less than a GiB."""
    if gib is None:
        return "–"
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib * 1024:.0f} MiB"


def duration(seconds: float) -> str:
    """A time as a reader would say it."""
    if math.isnan(seconds):
        return "–"
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names in a sentence."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def verdict(findings: Findings, *, guarded: bool) -> str:
    """What was found, in a sentence; where it is guarded, which scores are higher, and not which network is better."""
    compared, baseline = findings.comparisons[MAIN], findings.baseline
    if not compared:
        return nothing_compared(findings)
    against = f", compared with {baseline}" if baseline else ""
    different = sorted((one for one in compared if one.significant), key=lambda one: -abs(one.difference.value))
    found = [clause(one, baseline, guarded=guarded) for one in different[:SHOWN]]
    if len(different) > SHOWN:
        found.append(f"{count(len(different) - SHOWN, 'smaller difference')} found")
    others = sorted((one for one in compared if not one.significant), key=lambda one: one.adjusted)
    if others:
        found.append(no_difference(others, baseline))
    none = "No verdict, for the reasons above; as they stand, " if guarded else ""
    cases = count(compared[0].n, "paired test case" if findings.part == "test" else "paired case")
    by = f"{'by' if guarded else 'By'} {METRICS[MAIN].title} in {cases}"
    return f"{none}{by}{against}, {'; '.join(found)}."


def clause(one: Comparison, baseline: str | None, *, guarded: bool) -> str:
    """A difference that was found."""
    than = "" if baseline else f" than {one.b}"
    scores = "scores" if guarded else "is"
    return f"{one.a} {scores} {judged(one, guarded=guarded)}{than} ({effect(one)})"


def judged(one: Comparison, *, guarded: bool) -> str:
    """What a difference is called."""
    if not one.significant:
        return "no difference found"
    higher, lower = ("higher", "lower") if guarded else ("better", "worse")
    return higher if one.difference.value > 0 else lower


def no_difference(others: Sequence[Comparison], baseline: str | None) -> str:
    """The comparisons that found none, those of the smallest p by name."""
    preposition, joint = ("for", "or") if baseline else ("between", "or between")
    named = [f"{one.a if baseline else f'{one.a} and {one.b}'} ({effect(one)})" for one in others[:SHOWN]]
    more = [f"{len(others) - SHOWN} more"] if len(others) > SHOWN else []
    return f"no difference was found {preposition} {listed(named + more, joint)}, {NOT_EQUAL}"


def effect(comparison: Comparison) -> str:
    """Difference, interval and p."""
    of = comparison.difference
    within = "no interval" if math.isnan(of.low) else f"95% interval {signed(of.low)} to {signed(of.high)}"
    return f"{signed(of.value)}, {within}, adjusted p {probability(comparison.adjusted)}"


def nothing_compared(findings: Findings) -> str:
    """Why there is no comparison."""
    if len(findings.networks) > 1:
        names = listed(findings.networks)
        return f"Nothing can be compared: no case has a {METRICS[MAIN].title} for each of {names}."
    row = findings.summary[0]
    of = Interval(row[MAIN], row[f"{MAIN}_low"], row[f"{MAIN}_high"])
    cases = count(len(findings.paired_cases), "case")
    return f"{row['network']} stands alone, nothing is compared: mean {METRICS[MAIN].title} {interval(of)} in {cases}."


def notes(findings: Findings, baseline: str | None) -> Iterator[str]:
    """What limits the verdict; `baseline` is the study's."""
    n, compared = len(findings.paired_cases), findings.comparisons[MAIN]
    smallest = len(compared) * 2.0 ** (1 - n)  # of Holm's p, where all differences have one sign
    if compared and smallest >= LEVEL:
        yield (
            f"With {count(n, 'case')} and {count(len(compared), 'comparison')} no adjusted p can be below "
            f"{number(min(smallest, 1))}: a difference would not show here, however large."
        )
    if baseline not in (None, findings.baseline):
        yield f"The baseline {baseline} has no results here, so that all pairs are compared."
    if findings.missing:
        missing = [f"{one['network']} {run(one['fold'])}" for one in findings.missing]
        yield f"Runs are missing: {listed(missing)}. What follows is of the others alone."
    if findings.left_out:
        by_networks: dict[str, list[str]] = {}
        for case, lacking in findings.left_out.items():
            by_networks.setdefault(listed(lacking), []).append(case)
        left_out = [f"{listed(cases)} (missing for {names})" for names, cases in by_networks.items()]
        total = len(findings.left_out) + len(findings.undefined) + n
        yield f"Left out, for not all networks have them: {len(findings.left_out)} of {count(total, 'case')}, " + (
            f"{'; '.join(left_out)}."
        )
    if findings.undefined:
        yield (
            f"Left out, for {METRICS[MAIN].title} is not defined for every network (no label in reference and "
            f"prediction): {count(len(findings.undefined), 'case')}, {listed(findings.undefined)}."
        )


def run(fold: object) -> str:
    """What was trained or predicts: a fold, by its number, or the ensemble."""
    return ENSEMBLE if fold == ENSEMBLE else f"fold {fold}"


def compared_how(findings: Findings) -> str:
    """Whose predictions of which cases are measured and compared."""
    if findings.part == "validation":
        return (
            "Validation cases: each was predicted by the network of the fold that had left it out; the cases of all "
            "folds are pooled."
        )
    if len(findings.folds) == 1:
        who, by = f"the network of {run(findings.folds[0])}", "these predictions"
    else:
        who, by = f"the networks of {len(findings.folds)} folds together, as nnU-Net’s ensemble", "their ensembles"
    return (
        f"Held-out test cases, which no fold was trained or validated on: each was predicted by {who}. Networks are "
        f"compared by {by}, paired by test case."
    )


def separation(spread: Spread, *, guarded: bool) -> str:
    """Whether a dataset can tell methods apart; where the verdict is guarded, this is not known either."""
    numbers = (
        f"The networks' means differ by {number(spread.between, 4)} (standard deviation), one network's folds by "
        f"{number(spread.within, 4)}: a ratio of {number(spread.ratio, 2)}."
    )
    if guarded:
        return f"{numbers} It tells nothing here, for the reasons above."
    if math.isnan(spread.ratio):
        return f"{numbers} It tells nothing here."
    if spread.ratio < 1:
        return (
            f"{numbers} Below 1, it matters more which fold is looked at than which network: this dataset can hardly "
            "separate these methods, and a difference found here should be looked for on others."
        )
    return (
        f"{numbers} Above 1, it matters more which network is looked at than which fold: the dataset can separate them."
    )

"""docs/evidence.md, from the reports that landed beside this file.

    python docs/evidence/page.py         # writes ../evidence.md, and a figure for each study

Of a study it reads what `nnunet-archs study report` wrote: report.json and cases.csv.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from nnunet_archs.study.figures import looks
from nnunet_archs.study.report import read_cases
from nnunet_archs.study.statistics import LEVEL, Interval, Spread, case_scores, holm
from nnunet_archs.study.wording import (
    duration,
    interval,
    listed,
    number,
    probability,
    separation,
    signed,
    size,
    thousands,
)
from nnunet_archs.tables import markdown_table

Row: TypeAlias = dict[str, Any]

HERE = Path(__file__).parent
SEEDS = "seeds"  # the study of repeats, whose networks are called NETWORK, NETWORK (2), ...
COMPARED = {"dice": "Dice", "surface_dice": "surface Dice"}

HEAD = """# Evidence

What the networks reach on real data, each in five folds of nnU-Net, with the same training, patch, batch and memory.
Every number is of validation cases, each predicted by the network of the fold that had left it out. Intervals are of
95 %, bootstrapped over cases; differences are Hodges–Lehmann's, tested by Wilcoxon's signed-rank test and corrected by
Holm's method ([statistics](statistics.md) explains them). Written by `python docs/evidence/page.py` from what
`nnunet-archs study report` wrote into `docs/evidence`."""

ANEW = """## All of it again

```bash
python docs/evidence/page.py                                     # this page, from the results that are here
```

```bash
export nnUNet_raw=... nnUNet_preprocessed=... nnUNet_results=... OMP_NUM_THREADS=1
python docs/evidence/prepare.py DATA                             # from nothing: data sets and small plans
for study in docs/evidence/*.yaml; do nnunet-archs study run $study && nnunet-archs study report $study; done
python docs/evidence/page.py
```

`DATA` holds the folders that [prepare.py](evidence/prepare.py) names, each with `images` and `labels`."""

LIMITS = (
    "All of this is of small plans and short trainings on a processor's core, one training of each fold: it does not "
    "say what the networks reach with nnU-Net's own plans and length, on a GPU, or on other data"
)


@dataclass(frozen=True)
class Claim:
    """That a paper finds network `a` better than `b`, on data that is here; `note` says what is not as in the paper."""

    paper: str
    study: str
    a: str
    b: str
    note: str = ""


CLAIMS = (
    Claim("UNet#", "nuclei", "UNet#", "UNet++"),
    Claim("UNet#", "nuclei", "UNet#", "UNet 3+"),
    Claim("CAggNet", "nuclei", "CAggNet", "UNet++"),
    Claim(
        "Improved-skip U-Net",
        "membranes",
        "improved-skip U-Net",
        "classical U-Net",
        "both with the plan's norm: where the skips begin is all that differs",
    ),
    Claim("UNet#", "hippocampus", "V-Net#", "V-Net++", "the paper's data are others"),
)


@dataclass(frozen=True)
class Landed:
    """A study's report and cases, read; `section` is its only data set and configuration."""

    name: str
    report: Row
    cases: pd.DataFrame

    @property
    def section(self) -> Row:
        """What was found."""
        (section,) = self.report["sections"]
        return dict(section)

    @property
    def by_fold(self) -> pd.DataFrame:
        """Mean Dice by fold and network."""
        folds = self.cases.drop_duplicates("case").set_index("case")["fold"]
        return case_scores(self.cases, "dice").groupby(folds).mean()[self.section["networks"]]

    @property
    def description(self) -> str:
        """The first comment of the study file."""
        lines = [line.removeprefix("#").strip() for line in self.report["file"].splitlines() if line.startswith("#")]
        return " ".join(lines)


def main() -> None:
    """Write the page and its figures."""
    landed = read_landed(HERE)
    for study in landed.values():
        if study.name != SEEDS:
            draw_costs(study, HERE / study.name / "costs.svg")
    (HERE.parent / "evidence.md").write_text(page(landed, HERE), encoding="utf-8")


def read_landed(folder: Path) -> dict[str, Landed]:
    """The studies that have a report, by name."""
    files = {file.parent.name: file for file in sorted(folder.glob("*/report.json"))}
    return {
        name: Landed(name, json.loads(file.read_text(encoding="utf-8")), read_cases(file.with_name("cases.csv")))
        for name, file in files.items()
    }


def page(landed: Mapping[str, Landed], folder: Path) -> str:
    """The page, in Markdown."""
    studies = [study for name, study in landed.items() if name != SEEDS]
    missing = [f"`{file.name}`" for file in sorted(folder.glob("*.yaml")) if file.stem not in landed]
    parts = [HEAD, "## What can be concluded, and what cannot", conclusions(studies)]
    if missing:
        parts.append(f"Not run yet: {listed(missing)}.")
    for study in studies:
        parts += describe(study)
    parts += ["## The papers' own claims", *claims(landed)]
    if SEEDS in landed:
        parts += ["## Chance alone", *repeats(landed[SEEDS])]
    return "\n\n".join([*parts, ANEW]) + "\n"


def conclusions(studies: Sequence[Landed]) -> str:
    """Three sentences: what was found, whether the data can tell networks apart, and what this does not say."""
    if not studies:
        return f"No study has finished. {LIMITS}."
    found = "; ".join(found_in(study) for study in studies)
    ratios = [
        f"{number(of.ratio, 2)} ({study.name})"
        for study in studies
        if study.section["spread"] and (of := Spread(**study.section["spread"]))
    ]
    apart = (
        f"The networks' means lie {listed(ratios)} times as far apart as those of one network's folds: below 1, it "
        "matters more which fold is looked at than which network"
    )
    return f"{found[0].upper()}{found[1:]}. {apart}. {LIMITS}."


def found_in(study: Landed) -> str:
    """Which networks differ from the baseline on a data set."""
    section = study.section
    by_sign: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for one in section["comparisons"]["dice"]:
        by_sign[is_found(one)].append(one["a"])
    words = {1: "scored higher than", -1: "scored lower than", 0: "could not be told apart from"}
    told = [f"{listed(names)} {words[sign]} {section['baseline']}" for sign, names in by_sign.items() if names]
    guarded = ", but its warnings forbid a verdict" if section["guards"] else ""
    return f"on {study.name}, {listed(told)}{guarded}"


def is_found(comparison: Row) -> int:
    """1 or -1 where a difference was found, by its sign, else 0."""
    if comparison["adjusted"] >= LEVEL:
        return 0
    return 1 if comparison["difference"]["value"] > 0 else -1


def describe(study: Landed) -> Iterator[str]:
    """A study's part of the page."""
    section = study.section
    yield f"## {study.name.capitalize()}"
    links = f"[The study file](evidence/{study.name}.yaml), [its report](evidence/{study.name}/report.html)."
    yield f"{study.description} {links}"
    if section["guards"]:
        yield "**These results do not tell which network is better:**"
        yield "\n".join(f"- {guard}" for guard in section["guards"])
    yield section["verdict"]
    if section["notes"]:
        yield "\n".join(f"- {note}" for note in section["notes"])
    yield scores_table(study)
    yield f"![Dice against cost](evidence/{study.name}/costs.svg)"
    if any(section["comparisons"].values()):
        yield comparisons_table(section)
    if section["spread"]:
        yield separation(Spread(**section["spread"]), guarded=bool(section["guards"]))


def scores_table(study: Landed) -> str:
    """Scores, ranks, spread between folds and cost of every network."""
    section, by_fold = study.section, study.by_fold
    header = ("network", "Dice", "surface Dice", "mean rank", "folds' Dice", "parameters", "multiply-adds", "memory")
    rows = []
    for row in section["summary"]:
        name, rank = row["network"], section["ranks"].get(row["network"])
        folds = by_fold[name]
        rows.append(
            (
                name,
                *(interval(Interval(row[key], row[f"{key}_low"], row[f"{key}_high"])) for key in COMPARED),
                interval(Interval(**rank), 2) if rank else "–",
                f"{number(folds.min())} to {number(folds.max())}",
                thousands(row["parameters"]),
                thousands(row["multiply_adds"]),
                size(row["memory_gib"]),
                number(row["training_seconds"] * row["folds"] / 3600, 2),
                duration(row["training_seconds"]),
            )
        )
    return markdown_table((*header, "hours, all folds", "a fold"), rows)


def comparisons_table(section: Row) -> str:
    """Every comparison by every score."""
    of = f"against {section['baseline']}" if section["baseline"] else "networks"
    rows = [
        (
            title,
            one["a"] if section["baseline"] else f"{one['a']} − {one['b']}",
            *difference(one),
            ("lower", "–", "higher")[is_found(one) + 1],
        )
        for metric, title in COMPARED.items()
        for one in section["comparisons"][metric]
    ]
    return markdown_table(("score", of, "difference", "p", "adjusted p", "found"), rows)


def difference(one: Row) -> tuple[str, str, str]:
    """A comparison's difference with its interval, its p and adjusted p."""
    of = one["difference"]
    within = f"{signed(of['value'])} ({signed(of['low'])} to {signed(of['high'])})"
    p, adjusted = (probability(one[key]).removeprefix("= ") for key in ("p", "adjusted"))
    return within, p, adjusted


def claims(landed: Mapping[str, Landed]) -> Iterator[str]:
    """What papers find of their own networks, as it is here; corrected among these claims."""
    sections = {claim: landed[claim.study].section for claim in CLAIMS if claim.study in landed}
    tested = {claim: pair for claim, section in sections.items() if (pair := pair_of(section, claim.a, claim.b))}
    adjusted = dict(zip(tested, holm([pair["p"] for pair in tested.values()]), strict=True)) if tested else {}
    rows = []
    for claim in CLAIMS:
        row = (claim.paper, f"{claim.a} is better than {claim.b}", claim.study)
        if claim in tested:
            one = {**tested[claim], "adjusted": adjusted[claim]}
            told = (
                "no verdict" if sections[claim]["guards"] else ("the reverse", "not found", "holds")[is_found(one) + 1]
            )
            rows.append((*row, *difference(one), told, claim.note))
        else:
            rows.append((*row, "–", "–", "–", "not measured", claim.note))
    yield (
        "In this framework, by Dice: the networks' own losses in nnU-Net's training, at equal memory. The p are "
        "adjusted for the claims of this table together."
    )
    yield markdown_table(("paper", "claim", "study", "difference", "p", "adjusted p", "here", ""), rows)


def pair_of(section: Row, a: str, b: str) -> Row | None:
    """The comparison of a with b, whichever of them comes first."""
    for one in section["pairs"]:
        if (one["a"], one["b"]) == (a, b):
            return dict(one)
        if (one["a"], one["b"]) == (b, a):
            of = one["difference"]
            return {**one, "difference": {"value": -of["value"], "low": -of["high"], "high": -of["low"]}}
    return None


def repeats(study: Landed) -> Iterator[str]:
    """How far the repeats of a network lie apart in a fold."""
    yield study.description
    by_fold = study.by_fold
    networks = dict.fromkeys(name.split(" (")[0] for name in by_fold)
    rows, moved = [], []
    for name in networks:
        own = by_fold[[repeat for repeat in by_fold if repeat.split(" (")[0] == name]]
        for fold, scores in own.iterrows():
            moved.append(float(scores.max() - scores.min()))
            rows.append((name, str(fold), *map(number, scores), number(moved[-1], 4)))
    n = max(map(len, rows)) - 3
    yield markdown_table(("network", "fold", *(f"Dice, training {i + 1}" for i in range(n)), "range"), rows)
    yield (
        "nnU-Net sets no seed, so trainings of one fold differ by chance alone: here the mean Dice of a fold by up "
        f"to {number(max(moved), 4)}. A difference of that size in one fold says nothing about two networks."
    )


def draw_costs(study: Landed, file: Path) -> None:
    """Dice with its interval against multiply-adds and training time."""
    section = study.section
    of = looks(section["networks"])
    axes_of = {"multiply_adds": "multiply-adds of a patch", "training_seconds": "seconds of training, a fold"}
    with rc_context({"svg.hashsalt": study.name, "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        for axes, (key, title) in zip(figure.subplots(1, 2, sharey=True), axes_of.items(), strict=True):
            for row in section["summary"]:
                if row[key] is None:
                    continue
                look, y = of[row["network"]], row["dice"]
                ends = [[y - row["dice_low"]], [row["dice_high"] - y]]
                axes.errorbar([row[key]], [y], ends, fmt=look.marker, color=look.colour, label=row["network"])
            axes.set(xlabel=title, xscale="log")
            axes.grid(True, alpha=0.2)
        figure.axes[0].set_ylabel("mean Dice, 95 % interval")
        figure.legend(*figure.axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()

"""The report of a study: its tables read and checked, one HTML file and the numbers it claims written."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from jinja2 import Environment, StrictUndefined

from nnunet_archs.nnunet.plans import describe_budget

from . import wording
from .citations import methods
from .figures import (
    Drawing,
    case_plot,
    difference_plot,
    fold_plot,
    looks,
    loss_plot,
    pseudo_dice_plot,
    rank_plot,
)
from .findings import COMPARED, MAIN, Findings, Row, Setting, comparison_rows, find, summary_rows
from .guards import guards
from .job import ENSEMBLE, Part
from .metrics import COUNTS, METRICS, OBJECT_METRICS
from .overlays import Overlay

PARTS = get_args(Part)
CASES, NETWORKS, STUDY = "cases.csv", "networks.json", "study.json"
NAMES = ["dataset", "configuration", "part", "network", "by", "case", "label"]
NUMBERS = [*METRICS, *COUNTS, "background_iou"]
ENTRY = {
    *("dataset", "configuration", "network", "trainer", "plans", "patch_size", "batch_size", "features"),
    "budget",
    *("parameters", "multiply_adds", "memory_gib", "epochs", "folds"),
}
FOLD = {"training_seconds", "train_loss", "val_loss", "pseudo_dice"}
SETTINGS = {
    *("name", "baseline", "networks", "datasets", "configurations", "folds", "test", "tolerance_mm", "file", "command"),
    *("made", "versions", "machine", "missing"),
}
VERSIONS = {"nnunet-archs", "nnunetv2", "torch", "surface-distance", "scipy"}
RUN = {"dataset", "configuration", "network", "part", "fold", "why"}
REMEDY = "remove it and make the report again"


@dataclass(frozen=True)
class Section:
    """A setting in the report."""

    setting: Setting
    findings: Findings
    guards: list[str]
    verdict: str
    notes: list[str]
    figures: dict[str, Drawing]
    overlays: list[Overlay]

    @property
    def found(self) -> bool:
        """Whether a difference was found that tells something."""
        return not self.guards and any(comparison.significant for comparison in self.findings.comparisons[MAIN])

    @property
    def anchor(self) -> str:
        """What links to it."""
        test = "-test" if self.findings.part == "test" else ""
        return f"{self.findings.dataset}-{self.findings.configuration}{test}"

    def claims(self) -> Row:
        """All that it states."""
        return {**asdict(self.findings), "guards": self.guards, "verdict": self.verdict, "notes": self.notes}


def write_report(folder: Path, overlays: Sequence[Overlay] = ()) -> Path:
    """Write report.html, report.json, summary.csv and comparisons.csv into a study's folder, all or none.

    Raises:
        ValueError: if the folder's tables are missing or broken, or the files cannot be written.
    """
    cases, entries, study = read_cases(folder / CASES), read_networks(folder / NETWORKS), read_study(folder / STUDY)
    check_together(folder, cases, entries, study)
    sections = [make_section(setting, study, overlays) for setting in settings(cases, entries, study)]
    claims = {**study, "sections": [section.claims() for section in sections]}
    found = [section.findings for section in sections]
    report = folder / "report.html"
    write_all(
        {
            folder / "summary.csv": table(found, summary_rows),
            folder / "comparisons.csv": table(found, comparison_rows),
            folder / "report.json": json.dumps(in_json(claims), indent=1, allow_nan=False) + "\n",
            report: page(study, entries, sections),
        }
    )
    return report


def read_cases(file: Path) -> pd.DataFrame:
    """The scores, a row a network, case and label; a test case has one by every fold and one by all of them.

    Raises:
        ValueError: if they cannot be read, or columns are missing or twice, or a case is in two folds.
    """
    try:
        # a network may be named NA
        missing = {key: ["", "nan"] for key in (*NUMBERS, *OBJECT_METRICS)}
        names = dict.fromkeys([*NAMES, "fold"], str)
        cases = pd.read_csv(file, dtype=names, keep_default_na=False, na_values=missing)
        cases["by"] = cases["fold"].where(cases["part"] == "test", "")  # a validation case has one fold
        cases = cases.reindex(columns=[*cases, *(name for name in OBJECT_METRICS if name not in cases)])
        cases = cases.astype(dict.fromkeys((*NUMBERS, *OBJECT_METRICS), float))
        cases = cases[["fold", *NAMES, *NUMBERS, *OBJECT_METRICS]]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{file} cannot be read ({error}); {REMEDY}") from error
    if cases.empty:
        raise ValueError(f"{file} has no case; finish a fold of a network first")
    for _, row in cases[cases.duplicated(NAMES)].iterrows():
        raise ValueError(
            f"{file}: case {row['case']}, label {row['label']} of {row['network']} appears twice; {REMEDY}"
        )
    place = ["dataset", "configuration", "part"]
    for (*_, case), folds in cases[cases["by"] == ""].groupby([*place, "case"])["fold"].unique().items():
        if len(folds) > 1:
            raise ValueError(f"{file}: case {case} is in folds {folds[0]} and {folds[1]}; a case is in one; {REMEDY}")
    labels = cases.groupby(place)["label"].nunique()
    for (*where, network, _, case), found in cases.groupby(NAMES[:-1])["label"].nunique().items():
        if found != labels[tuple(where)]:
            raise ValueError(f"{file}: case {case} of {network} lacks labels that others have; {REMEDY}")
    return cases


def read_networks(file: Path) -> list[Row]:
    """What was trained, and what it cost.

    Raises:
        ValueError: if it cannot be read or is not complete.
    """
    entries = read_json(file)
    if not isinstance(entries, list):
        raise ValueError(f"{file} holds no list of networks; {REMEDY}")
    for entry in entries:
        check_keys(file, entry, ENTRY)
        check_keys(file, entry["folds"], set())
        for fold in entry["folds"].values():
            check_keys(file, fold, FOLD)
    return entries


def read_study(file: Path) -> Row:
    """What the study is.

    Raises:
        ValueError: if it cannot be read or is not complete.
    """
    study = read_json(file)
    check_keys(file, study, SETTINGS)
    check_keys(file, study["versions"], VERSIONS)
    for run in study["missing"]:
        check_keys(file, run, RUN)
    return dict(study)


def read_json(file: Path) -> Any:
    """What a file holds.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({error}); {REMEDY}") from error


def check_keys(file: Path, content: Any, keys: set[str]) -> None:
    """Check that nothing is missing.

    Raises:
        ValueError: if something is.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__} where names and values should be; {REMEDY}")
    if missing := keys - content.keys():
        raise ValueError(f"{file} lacks {', '.join(sorted(missing))}; {REMEDY}")


def check_together(folder: Path, cases: pd.DataFrame, entries: Sequence[Row], study: Row) -> None:
    """Check that the tables are of one study.

    Raises:
        ValueError: if not.
    """
    known = {(entry["dataset"], entry["configuration"], entry["network"]) for entry in entries}
    names = ["dataset", "configuration", "network"]
    for dataset, configuration, network in cases[names].drop_duplicates().itertuples(index=False):
        if (dataset, configuration, network) not in known:
            raise ValueError(f"{folder / NETWORKS} lacks {network} on {dataset}, {configuration}; {REMEDY}")
        for key, value in (("datasets", dataset), ("configurations", configuration), ("networks", network)):
            if value not in study[key]:
                raise ValueError(f"{folder / STUDY} lacks {value} among its {key}; {REMEDY}")


def settings(cases: pd.DataFrame, entries: Sequence[Row], study: Row) -> Iterator[Setting]:
    """Every dataset and configuration with cases, in the study's order, and after each its test set."""
    folds = [str(fold) for fold in study["folds"]]
    together = folds[0] if len(folds) == 1 else ENSEMBLE
    for place in product(study["datasets"], study["configurations"], PARTS):
        dataset, configuration, part = place
        here = cases[(cases[["dataset", "configuration", "part"]] == list(place)).all(axis=1)]
        is_compared = (here["part"] != "test") | (here["fold"] == together)
        own = here[is_compared]
        if own.empty:
            continue
        networks = [name for name in study["networks"] if name in {*own["network"]}]
        yield Setting(
            dataset=dataset,
            configuration=configuration,
            part=part,
            folds=folds,
            networks=networks,
            baseline=study["baseline"] if study["baseline"] in networks else None,
            entries={e["network"]: e for e in entries if (e["dataset"], e["configuration"]) == place[:2]},
            cases=own,
            alone=here[~is_compared],
            missing=[run for run in study["missing"] if (run["dataset"], run["configuration"], run["part"]) == place],
        )


def make_section(setting: Setting, study: Row, overlays: Sequence[Overlay]) -> Section:
    """What the report has of a setting."""
    findings, guarded = find(setting), guards(setting)
    place = (setting.dataset, setting.configuration, setting.part)
    return Section(
        setting=setting,
        findings=findings,
        guards=guarded,
        verdict=wording.verdict(findings, guarded=bool(guarded)),
        notes=list(wording.notes(findings, study["baseline"])),
        figures=dict(draw(setting, findings, study["networks"])),
        overlays=[overlay for overlay in overlays if (overlay.dataset, overlay.configuration, overlay.part) == place],
    )


def draw(setting: Setting, findings: Findings, networks: Sequence[str]) -> Iterator[tuple[str, Drawing]]:
    """The figures that there is data for; a network looks the same in all of the study."""
    of = looks(networks)
    title = METRICS[MAIN].title
    if findings.ranks:
        yield "ranks", rank_plot(findings.ranks, of)
    for metric in COMPARED:
        if len(scores := setting.scores(metric)):
            yield metric, case_plot(scores, of, METRICS[metric].title)
    scores = setting.scores(MAIN)
    if compared := findings.comparisons[MAIN]:
        yield "differences", difference_plot(scores, compared, of, title, findings.baseline)
    if findings.spread:
        yield "folds", fold_plot(scores, setting.fold_of(), of, title)
    if setting.part == "test":  # its networks are those of validation
        return
    curves: dict[str, dict[str, list[list[float]]]] = {
        key: {
            name: [fold[key] for fold in setting.entries[name]["folds"].values() if fold[key]]
            for name in setting.networks
        }
        for key in ("pseudo_dice", "train_loss", "val_loss")
    }
    trained = [name for name in setting.networks if all(curves[key][name] for key in curves)]
    if trained:
        pseudo_dice, training, validation = ({name: curves[key][name] for name in trained} for key in curves)
        yield "pseudo_dice", pseudo_dice_plot(pseudo_dice, of)
        yield "losses", loss_plot(training, validation, of)


def table(found: Sequence[Findings], rows: Callable[[Findings], list[Row]]) -> str:
    """A table over all settings, as CSV."""
    return str(pd.DataFrame([row for findings in found for row in rows(findings)]).to_csv(index=False))


def in_json(value: Any) -> Any:
    """A value as JSON can have it: null for NaN, "inf" for infinity."""
    if isinstance(value, Mapping):
        return {key: in_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [in_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def page(study: Row, entries: Sequence[Row], sections: Sequence[Section]) -> str:
    """The HTML."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "base64": lambda data: base64.b64encode(data).decode(),
        "count": wording.count,
        "budget": describe_budget,
        "compared_how": wording.compared_how,
        "judged": wording.judged,
        "duration": wording.duration,
        "listed": wording.listed,
        "number": wording.number,
        "p": wording.probability,
        "run": wording.run,
        "separation": wording.separation,
        "signed": wording.signed,
        "size": wording.size,
        "thousands": wording.thousands,
    }
    template = environment.from_string(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    paragraph, references = methods(study, entries)
    return template.render(
        study=study,
        sections=sections,
        methods=paragraph,
        references=references,
        metrics=METRICS | OBJECT_METRICS,
        compared=COMPARED,
        of_objects=[*OBJECT_METRICS],
    )


def write_all(texts: Mapping[Path, str]) -> None:
    """Write files, all of them or none: old ones stay until all new ones are there.

    Raises:
        ValueError: if there is no room, or no right to write.
    """
    unfinished = {file: file.with_name(f".{file.name}.unfinished") for file in texts}
    try:
        for file, text in texts.items():
            unfinished[file].write_text(text, encoding="utf-8")
        for file, new in unfinished.items():
            new.replace(file)
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be written ({error.strerror}); make room for it") from error
    finally:
        for new in unfinished.values():
            new.unlink(missing_ok=True)

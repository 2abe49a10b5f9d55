import csv
import errno
import html
import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import BASELINE, DATASET, LABELS, NETWORKS, add_test_set, make_study
from scipy.stats import bootstrap, friedmanchisquare, rankdata, wilcoxon

from nnunet_archs.study.overlays import Overlay
from nnunet_archs.study.report import write_report

WRITTEN = ("comparisons.csv", "report.html", "report.json", "summary.csv")
OVERLAYS = [Overlay(DATASET, "2d", "hippocampus_001", "best", 0.91, BASELINE, b"\x89PNG, made up", "two <contours>", 3)]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = make_study(tmp_path_factory.mktemp("study"))
    write_report(folder, OVERLAYS)
    return folder


class Tables(HTMLParser):
    """The cells of every table in HTML, by the table's class, rows of all tables of a class one after the other."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.rows, self.cell = {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.rows = self.tables.setdefault(dict(attributes).get("class"), [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(" ".join(self.cell.split()))
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


def page(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def text(folder):
    """What the page says, without its tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page(folder))).split())


def sections(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))["sections"]


def rows(folder, name):
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def paired(folder, configuration, metric):
    """Scores by case and network, from cases.csv alone."""
    cases = pd.read_csv(folder / "cases.csv")
    cases = cases[cases["configuration"] == configuration]
    return cases.pivot_table(metric, "case", "network", aggfunc="mean", dropna=False)[[*NETWORKS]].dropna()


def resampled(values, statistic):
    result = bootstrap((values,), statistic, n_resamples=2000, method="percentile", rng=0)
    return [
        result.statistic if hasattr(result, "statistic") else statistic(values, axis=-1),
        *result.confidence_interval,
    ]


def hodges_lehmann(values, axis):
    i, j = np.triu_indices(values.shape[-1])
    return np.median((values[..., i] + values[..., j]) / 2, axis=-1)


def holm(p):
    """The textbook's: the k-th smallest of m times m - k + 1, none below the one before."""
    adjusted, least = {}, 0.0
    for k, name in enumerate(sorted(p, key=p.get)):
        least = adjusted[name] = max(least, min(1.0, p[name] * (len(p) - k)))
    return adjusted


def signed(number):
    return "0.0000" if abs(number) < 0.00005 else f"{number:+.4f}".replace("-", "−")


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_the_main_table_can_be_computed_from_the_cases(study, configuration):
    table = {row["network"]: row for row in rows(study, "summary.csv") if row["configuration"] == configuration}
    section = Tables(page(study)).tables["summary"]
    start = [i for i, row in enumerate(section) if row[0] == "Network"][configuration == "3d_fullres"]
    shown = {row[0].removesuffix(" baseline"): row for row in section[start + 1 : start + 1 + len(NETWORKS)]}
    assert list(shown) == list(table) == [*NETWORKS]
    n = 30 if configuration == "2d" else 24  # a fold of the last network is missing
    for place, metric in ((1, "dice"), (2, "surface_dice"), (4, "recall"), (5, "precision")):
        scores = paired(study, configuration, metric)
        for name in NETWORKS:
            expected = [scores[name].mean(), *resampled(scores[name].to_numpy(), np.mean)[1:]]
            written = [float(table[name][key]) for key in (metric, f"{metric}_low", f"{metric}_high")]
            assert written == pytest.approx(expected, abs=1e-12)
            assert int(table[name][f"{metric}_cases"]) == len(scores) == n
            told = f"{expected[0]:.3f}" + (f" {expected[1]:.3f}–{expected[2]:.3f}" if place < 3 else "")
            assert shown[name][place].startswith(told)
    distances = paired(study, configuration, "hausdorff95")
    for name in NETWORKS:
        quartiles = [float(table[name][f"hausdorff95_{key}"]) for key in ("median", "lower", "upper")]
        finite = distances[name].replace(math.inf, 1e6)
        assert quartiles == pytest.approx(list(finite.quantile([0.5, 0.25, 0.75])), abs=1e-12)
        assert int(table[name]["hausdorff95_infinite"]) == (name == BASELINE)
        assert shown[name][3] == "{:.2f} {:.2f}–{:.2f}".format(*quartiles) + ", 1 infinite" * (name == BASELINE)
    assert shown["CAggNet"][6:] == ["14.24 M", "23.00 G", "–", "77 min"]
    assert shown[BASELINE][8] == "3.2 GiB"


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_the_verdict_can_be_computed_from_the_cases(study, configuration):
    scores = paired(study, configuration, "dice")
    differences = {name: (scores[name] - scores[BASELINE]).to_numpy() for name in [*NETWORKS][1:]}
    p = {name: wilcoxon(of).pvalue for name, of in differences.items()}
    adjusted = holm(p)
    section = next(section for section in sections(study) if section["configuration"] == configuration)
    assert section["verdict"] in text(study)
    for name, of in differences.items():
        value, low, high = resampled(of, hodges_lehmann)
        row = next(
            row
            for row in rows(study, "comparisons.csv")
            if (row["configuration"], row["metric"], row["family"], row["a"])
            == (configuration, "dice", "against the baseline", name)
        )
        written = [float(row[key]) for key in ("difference", "difference_low", "difference_high", "p", "adjusted_p")]
        assert written == pytest.approx([value, low, high, p[name], adjusted[name]], rel=1e-9, abs=1e-12)
        finding = ("better" if value > 0 else "worse") if adjusted[name] < 0.05 else "no difference"
        assert finding == {"CAggNet": "better", "UNetSharp": "no difference", "FocusNet++": "worse"}[name]
        told = "< 0.0001" if adjusted[name] < 0.0001 else f"= {adjusted[name]:.4f}"
        claim = f"({signed(value)}, 95% interval {signed(low)} to {signed(high)}, adjusted p {told})"
        verb = "no difference was found for UNetSharp" if finding == "no difference" else f"{name} is {finding}"
        assert f"{verb} {claim}" in section["verdict"]
    assert "does not show that they are equal" in section["verdict"]
    assert f"{len(scores)} paired cases" in section["verdict"]


def test_ranks_and_spread_can_be_computed_from_the_cases(study):
    section, scores = sections(study)[0], paired(study, "2d", "dice")
    ranks = pd.DataFrame(rankdata(-scores, axis=1), columns=scores.columns).mean()
    assert {name: rank["value"] for name, rank in section["ranks"].items()} == pytest.approx(dict(ranks))
    assert section["friedman_p"] == pytest.approx(friedmanchisquare(*scores.to_numpy().T).pvalue)
    folds = [int(case[-3:]) % 5 for case in scores.index]
    assert section["spread"]["between"] == pytest.approx(scores.mean().std())
    assert section["spread"]["within"] == pytest.approx(scores.groupby(folds).mean().std().mean())


def test_labels_can_be_computed_from_the_cases(study):
    cases = pd.read_csv(study / "cases.csv").query("configuration == '2d'")
    found = {(row["label"], row["network"]): row for row in sections(study)[0]["labels"]}
    assert set(found) == {(label, network) for label in LABELS for network in NETWORKS}
    for (label, network), row in found.items():
        scores = cases[(cases["label"] == label) & (cases["network"] == network)]["dice"].dropna()
        assert row["dice"] == pytest.approx(scores.mean())
        assert row["dice_cases"] == len(scores) == 30 - (label == LABELS[1])


def test_missing_runs_and_cases_are_named(study):
    notes = " ".join(sections(study)[1]["notes"])
    assert "FocusNet++ fold 3" in notes
    assert "6 of 30 cases, hippocampus_003, " in notes
    assert all(f"hippocampus_{i:03d}" in notes for i in range(3, 30, 5))
    assert not sections(study)[0]["notes"]
    assert "CUDA out of memory in epoch 3" in text(study)


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    folder = add_test_set(make_study(tmp_path_factory.mktemp("tested"), configurations=("2d",), missing_fold=None))
    write_report(folder, [replace(OVERLAYS[0], part="test", case="unseen_001")])
    return folder


def test_a_test_set_has_a_section_of_its_own_in_which_ensembles_are_compared(tested):
    validation, test = sections(tested)
    assert [one["part"] for one in (validation, test)] == ["validation", "test"]
    assert (len(validation["paired_cases"]), len(test["paired_cases"])) == (30, 20)
    cases = pd.read_csv(tested / "cases.csv").query("part == 'test'")
    means = cases.groupby(["fold", "network", "case"])["dice"].mean()
    scores = means["ensemble"].unstack("network")
    p = {name: wilcoxon(scores[name] - scores[BASELINE]).pvalue for name in [*NETWORKS][1:]}
    of = ("test", "dice", "against the baseline")
    compared = [row for row in rows(tested, "comparisons.csv") if (row["part"], row["metric"], row["family"]) == of]
    assert {row["a"]: float(row["p"]) for row in compared} == pytest.approx(p, rel=1e-9)
    assert {row["a"]: float(row["adjusted_p"]) for row in compared} == pytest.approx(holm(p), rel=1e-9)
    alone = {(row["network"], row["fold"]): row["value"] for row in test["alone"]}
    assert alone == pytest.approx(
        {(name, fold): means[fold, name].mean() for name in NETWORKS for fold in "01234"}, abs=1e-12
    )
    assert validation["alone"] == []
    table = Tables(page(tested)).tables["alone"]
    assert table[0] == ["Network", "Ensemble", *(f"Fold {fold}" for fold in range(5))]
    assert [row[1] for row in table[1:]] == [f"{scores[name].mean():.3f}" for name in NETWORKS]


def test_the_report_says_whose_predictions_of_which_cases_are_compared(study, tested):
    assert "Held-out" not in text(study)
    validation, test = (re.sub("<[^>]*>", "", part) for part in page(tested).split('<section class="setting"')[1:])
    assert "each was predicted by the network of the fold that had left it out" in validation
    assert "predicted by the networks of 5 folds together, as nnU-Net’s ensemble. Networks are compared by" in test
    assert "By Dice in 20 paired test cases" in test
    assert "best case of" not in validation.lower()
    assert "unseen_001" in test
    assert "What was trained" not in test
    assert "was predicted by the ensemble of the 5 folds' networks, and by each of them alone" in text(tested)


def test_a_network_without_an_ensemble_is_named(tmp_path):
    make_study(tmp_path, configurations=("2d",), missing_fold=None)
    write_report(add_test_set(tmp_path, without_ensemble="CAggNet"))
    validation, test = sections(tmp_path)
    assert test["networks"] == [name for name in NETWORKS if name != "CAggNet"]
    assert not validation["notes"]
    assert "Runs are missing: CAggNet ensemble. What follows is of the others alone." in test["notes"]
    assert "test ensemble CUDA out of memory" in text(tmp_path)


def test_one_fold_is_no_ensemble(tmp_path):
    make_study(tmp_path, configurations=("2d",), missing_fold=None)
    add_test_set(tmp_path)
    change_cases(lambda cases: cases[cases["fold"].astype(str) == "2"])(tmp_path)
    change(tmp_path / "study.json", lambda study: study.update(folds=[2]))
    write_report(tmp_path)
    assert "each was predicted by the network of fold 2. Networks are compared by these predictions" in text(tmp_path)
    assert "ensemble" not in text(tmp_path).split("How it was made")[0]


def test_pooled_scores_stand_beside_those_of_cases(study):
    cases = pd.read_csv(study / "cases.csv").query("configuration == '2d'")
    table = {row["network"]: row for row in rows(study, "summary.csv") if row["configuration"] == "2d"}
    for name in NETWORKS:
        of = [cases[(cases["network"] == name) & (cases["label"] == label)] for label in LABELS]
        both = [(one["reference_voxels"] + one["prediction_voxels"]).sum() for one in of]
        f1 = [2 * one["true_positives"].sum() / voxels for one, voxels in zip(of, both, strict=True)]
        assert float(table[name]["pooled_f1"]) == pytest.approx(np.mean(f1), abs=1e-9)
        assert float(table[name]["iou"]) == pytest.approx(paired(study, "2d", "iou")[name].mean(), abs=1e-9)
    shown = Tables(page(study)).tables["pooled"]
    assert shown[2][:3] == [BASELINE, *(f"{float(table[BASELINE][key]):.3f}" for key in ("pooled_iou", "pooled_f1"))]
    sizes = Tables(page(study)).tables["strata"]
    assert [row[0] for row in sizes[1:5]] == ["anterior", "1.4 to 1.6 %", "1.6 to 1.8 %", "posterior"]


def test_the_menu_has_no_missing_runs_where_there_are_none(study, tmp_path):
    assert '<a href="#missing">Missing runs</a>' in page(study)
    write_report(make_study(tmp_path, configurations=("2d",), missing_fold=None))
    assert "Missing runs" not in text(tmp_path)


def test_p_is_explained_where_it_stands(study):
    after_table = page(study).split('<table class="comparisons">')[1].split("<h3>")[0]
    assert "the same for all 3 comparisons of a metric together, by Holm’s method" in after_table
    after_map = page(study).split('<table class="map">')[1].split("<h3>")[0]
    assert f"there it is adjusted for the 3 comparisons with {BASELINE}, here for all 6 pairs" in after_map


def test_all_pairs_are_compared_without_a_baseline(tmp_path):
    write_report(make_study(tmp_path, configurations=("2d",), baseline=None))
    compared = rows(tmp_path, "comparisons.csv")
    assert {row["family"] for row in compared} == {"all pairs"}
    assert [(row["a"], row["b"]) for row in compared if row["metric"] == "dice"] == [*combinations(NETWORKS, 2)]
    assert "better than" in sections(tmp_path)[0]["verdict"]
    assert "no difference was found between" in sections(tmp_path)[0]["verdict"]


def test_of_many_differences_the_largest_are_named(tmp_path):
    networks = {f"network {i}": 0.02 * i for i in range(5)}
    write_report(make_study(tmp_path, configurations=("2d",), networks=networks, baseline=None, missing_fold=None))
    verdict = sections(tmp_path)[0]["verdict"]
    assert "network 0 is worse than network 4 (" in verdict
    assert verdict.endswith("; 6 smaller differences found.")


def test_a_baseline_without_results_is_said(tmp_path):
    make_study(tmp_path, configurations=("2d",), networks={name: NETWORKS[name] for name in ("CAggNet", "UNetSharp")})
    change(tmp_path / "study.json", lambda study: study.update(baseline=BASELINE, networks=[*NETWORKS]))
    write_report(tmp_path)
    assert f"The baseline {BASELINE} has no results here" in text(tmp_path)


def test_one_network_is_compared_with_nothing(tmp_path):
    write_report(make_study(tmp_path, networks={BASELINE: 0.0}))
    assert "stands alone, nothing is compared" in text(tmp_path)
    assert rows(tmp_path, "comparisons.csv") == []
    assert len(rows(tmp_path, "summary.csv")) == 2


@pytest.mark.parametrize("networks", [{BASELINE: 0.0}, NETWORKS])
def test_one_case_has_no_interval_and_shows_no_difference(tmp_path, networks):
    write_report(make_study(tmp_path, configurations=("2d",), networks=networks, n_cases=1))
    assert "no interval" in sections(tmp_path)[0]["verdict"]
    assert ("no adjusted p can be below 1.000" in text(tmp_path)) == (len(networks) > 1)


def test_few_cases_are_said_to_be_too_few(tmp_path):
    write_report(make_study(tmp_path, configurations=("2d",), n_cases=6, missing_fold=None))
    assert "With 6 cases and 3 comparisons no adjusted p can be below 0.094" in text(tmp_path)


def test_networks_without_a_common_case_are_not_compared(tmp_path):
    make_study(tmp_path, configurations=("2d",), networks={BASELINE: 0.0, "CAggNet": 0.1}, missing_fold=None)
    cases = pd.read_csv(tmp_path / "cases.csv")
    kept = (cases["fold"] == 0) == (cases["network"] == BASELINE)
    cases[kept].to_csv(tmp_path / "cases.csv", index=False)
    write_report(tmp_path)
    assert "Nothing can be compared" in sections(tmp_path)[0]["verdict"]
    assert "30 of 30 cases, " in text(tmp_path)


def test_a_case_without_any_label_is_named(tmp_path):
    make_study(tmp_path, configurations=("2d",), missing_fold=None)
    cases = pd.read_csv(tmp_path / "cases.csv")
    cases.loc[cases["case"] == "hippocampus_002", ["dice", "surface_dice"]] = math.nan
    cases.to_csv(tmp_path / "cases.csv", index=False)
    write_report(tmp_path)
    assert "(no label in reference and prediction): 1 case, hippocampus_002." in text(tmp_path)
    assert len(sections(tmp_path)[0]["paired_cases"]) == 29


def test_names_are_text(tmp_path):
    names = ["<b>", "a & b", "$x_1$", "--><script>alert(1)</script>", "NA", "n" * 60]
    write_report(make_study(tmp_path, configurations=("2d",), networks=dict.fromkeys(names, 0.0), baseline="<b>"))
    assert not re.search("<script|<b>", page(tmp_path))
    for name in names:
        assert page(tmp_path).count(html.escape(name)) > 5


def test_the_page_needs_nothing_else(study):
    written = page(study)
    assert not re.search(r"<(script|link|iframe|object|embed|base)\b", written)
    assert not re.search(r"@import|@font-face", written)
    assert all(url.startswith("#") for url in re.findall(r"url\(\s*[\"']?(.)", written))
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'\ssrc="([^"]*)"', written))
    for tag, link in re.findall(r'<(\w+)[^>]*?\s(?:xlink:)?href="([^"]*)"', written):
        assert link.startswith("#") or tag == "a"


def test_figures_and_images_have_words(study):
    written = page(study)
    texts = re.findall(r'<div role="img" aria-label="([^"]+)">', written)
    assert len(texts) == written.count("<svg") == 14
    assert 'alt="two &lt;contours&gt;"' in written
    assert written.count("<img") == 1


def test_ids_are_unique_and_links_lead_somewhere(study):
    ids = re.findall(r'\sid="([^"]*)"', page(study))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', page(study))) <= set(ids)


def test_a_report_comes_out_the_same_again(study, tmp_path):
    for name in ("cases.csv", "networks.json", "study.json"):
        shutil.copy(study / name, tmp_path)
    write_report(tmp_path, OVERLAYS)
    for name in WRITTEN:
        assert (tmp_path / name).read_bytes() == (study / name).read_bytes()


def change(file, how):
    content = json.loads(file.read_text(encoding="utf-8"))
    how(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def change_cases(how):
    def changed(folder):
        how(pd.read_csv(folder / "cases.csv")).to_csv(folder / "cases.csv", index=False)

    return changed


@pytest.mark.parametrize("name", ["cases.csv", "networks.json", "study.json"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"\xff\xfe\x00{"),
        lambda file: file.write_bytes(file.read_bytes()[:200]),
        lambda file: file.write_text("[{}]"),
        lambda file: file.write_text("null"),
    ],
)
def test_a_broken_table_is_named(tmp_path, name, spoil):
    make_study(tmp_path, configurations=("2d",))
    spoil(tmp_path / name)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))):
        write_report(tmp_path)
    assert not [file for file in os.listdir(tmp_path) if file in WRITTEN or "unfinished" in file]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (change_cases(lambda cases: cases.drop(columns="dice")), "cases.csv.*dice"),
        (change_cases(lambda cases: cases.assign(dice="good")), "cases.csv.*good"),
        (change_cases(lambda cases: cases.iloc[:0]), "cases.csv has no case"),
        (change_cases(lambda cases: pd.concat([cases, cases[:1]])), "cases.csv.*hippocampus_000.*twice"),
        (change_cases(lambda cases: cases[1:]), "cases.csv.*hippocampus_000.*lacks labels"),
        (
            change_cases(lambda cases: cases.assign(fold=cases["fold"].where(cases["network"] == BASELINE, 7))),
            "cases.csv.*hippocampus_000.*folds 0 and 7",
        ),
        (
            lambda folder: change(folder / "networks.json", lambda entries: entries.pop()),
            r"networks.json lacks FocusNet\+\+ on",
        ),
        (
            lambda folder: change(folder / "networks.json", lambda entries: entries[0].pop("epochs")),
            "networks.json lacks epochs",
        ),
        (
            lambda folder: change(folder / "networks.json", lambda entries: entries[0]["folds"]["0"].pop("val_loss")),
            "networks.json lacks val_loss",
        ),
        (
            lambda folder: change(folder / "study.json", lambda study: study["networks"].pop()),
            r"study.json lacks FocusNet\+\+ among its networks",
        ),
        (
            lambda folder: change(folder / "networks.json", lambda entries: entries[0].update(folds=[0])),
            "networks.json holds a list",
        ),
        (lambda folder: change(folder / "study.json", lambda study: study.pop("made")), "study.json lacks made"),
        (
            lambda folder: change(folder / "study.json", lambda study: study["versions"].pop("scipy")),
            "study.json lacks scipy",
        ),
        (
            lambda folder: change(folder / "study.json", lambda study: study["missing"][0].pop("why")),
            "study.json lacks why",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, spoil, says):
    spoil(make_study(tmp_path, configurations=("2d",)))
    with pytest.raises(ValueError, match=says):
        write_report(tmp_path)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device", "disk"), KeyboardInterrupt()])
@pytest.mark.parametrize("method", ["write_text", "replace"])
def test_an_interrupted_report_leaves_the_old_one(tmp_path, monkeypatch, error, method):
    make_study(tmp_path, configurations=("2d",), networks={BASELINE: 0.0})
    (tmp_path / "report.html").write_text("the old one")
    real = getattr(Path, method)

    def interrupted(self, *args, **kwargs):
        if "report.html" in self.name:
            raise error
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, method, interrupted)
    with pytest.raises(ValueError if isinstance(error, OSError) else KeyboardInterrupt):
        write_report(tmp_path)
    assert page(tmp_path) == "the old one"
    assert not [file for file in os.listdir(tmp_path) if "unfinished" in file]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_chromium_shows_it_without_errors_or_sideways_scrolling(study, tmp_path, width):
    measure = (
        "const page = frames[0].document, overlay = page.querySelector('figure.wide .scroll');"
        "document.body.dataset.wide = page.documentElement.scrollWidth;"
        "document.body.dataset.scrolled = overlay.scrollWidth > overlay.clientWidth"
    )
    frame = (
        f'<iframe style="border: 0" width={width} height=900 srcdoc="{html.escape(page(study))}" onload="{measure}">'
    )
    (tmp_path / "frame.html").write_text(f'<meta charset="utf-8">{frame}</iframe>', encoding="utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}",
    ]
    command = [CHROMIUM, *options, "--dump-dom", (tmp_path / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    # an overlay's panels are scrolled on a phone, and nothing else is scrolled sideways
    scrolled = "true" if width == 390 else "false"
    assert re.search(r'<body data-wide="(\d+)" data-scrolled="(\w+)"', done.stdout).groups() == (str(width), scrolled)
    assert "CONSOLE" not in done.stderr

"""What all layouts have in common, through the command."""

import json
from multiprocessing.context import SpawnContext
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest
from made_folders import MADE, write
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunet_archs.convert.layouts import LAYOUTS
from nnunet_archs.nnunet.images import read_labels, reader_for
from nnunet_archs.scripts import convert as script
from nnunet_archs.scripts.main import main

RECOGNISED = [name for name, layout in LAYOUTS.items() if layout.marks]


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """nnU-Net's folder of raw data."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path / "nnUNet_raw"


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_help_names_the_layouts_there_are():
    assert tuple(LAYOUTS) == script.LAYOUTS
    assert list(MADE) == RECOGNISED


@pytest.mark.parametrize("name", RECOGNISED)
def test_each_layout_is_recognised_and_nnunet_accepts_it(name, tmp_path, raw, monkeypatch, capsys):
    folder = MADE[name][0](tmp_path / "source")
    before = files(folder)
    assert main(["convert", str(folder), "-d", "501"]) == 0
    assert files(folder) == before
    assert "nnUNetv2_plan_and_preprocess -d 501" in capsys.readouterr().out
    (target,) = raw.iterdir()
    assert target.name == f"Dataset501_{name}"
    monkeypatch.setattr(SpawnContext, "Pool", lambda _, processes: ThreadPool(processes))
    verify_dataset_integrity(str(target), 1)
    written = json.loads((target / "dataset.json").read_text())
    assert written["licence"] == LAYOUTS[name].licence
    assert written["reference"].startswith("http")
    check_labels(target, written)
    check_splits(target, written)
    assert main(["convert", str(folder), "-d", "502", "--layout", name]) == 0
    assert files(raw / f"Dataset502_{name}") == files(target)


def check_labels(target, written):
    """All labels that dataset.json declares are there, and none else."""
    entries = [entry if isinstance(entry, list) else [entry] for entry in written["labels"].values()]
    paths = [path for part in ("Tr", "Ts") for path in (target / f"labels{part}").iterdir()]
    found = [np.unique(read_labels(reader_for(written, path), path)[0]) for path in paths]
    assert set(np.concatenate(found).astype(int)) == {value for values in entries for value in values}


def check_splits(target, written):
    """Of every fold: disjoint, and complete; where there are several, each case is validated on once."""
    ending = written["file_ending"]
    cases = sorted(path.name.removesuffix(ending) for path in (target / "labelsTr").iterdir())
    file = target / "splits_final.json"
    splits = json.loads(file.read_text()) if file.exists() else []
    for split in splits:
        assert split["train"]
        assert split["val"]
        assert sorted(split["train"] + split["val"]) == cases
    if len(splits) > 1:
        assert sorted(case for split in splits for case in split["val"]) == cases


@pytest.mark.parametrize("name", [name for name, (_, file) in MADE.items() if file])
def test_a_missing_file_is_one_line_and_leaves_nothing(name, tmp_path, raw, capsys):
    make, file = MADE[name]
    folder = make(tmp_path / "source")
    (folder / file).unlink()
    assert main(["convert", str(folder), "-d", "501", "--layout", name]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert (folder / file).name in error
    assert not raw.exists()


def test_a_broken_file_ends_while_cases_are_written_and_leaves_nothing(tmp_path, raw, capsys):
    folder = MADE["dsb2018"][0](tmp_path / "source")
    broken = folder / "stage1_train" / "id4" / "masks" / "nucleus1.png"
    broken.write_bytes(broken.read_bytes()[:40])
    assert main(["convert", str(folder), "-d", "501"]) == 2
    assert "nucleus1.png cannot be read to its end" in capsys.readouterr().err
    assert list(raw.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "0"], "-d 0 is not a data set"),
        (["-d", "nuclei"], "-d nuclei is not a data set"),
        (["-d", "501", "--split", "six"], "--split six: dsb2018 has caggnet, focusnet, unetsharp, five-folds"),
        (["-d", "501", "--layout", "isbi2012"], "source holds no train-volume.tif"),
        (["-d", "501", "--window", "3", "1"], "--window 3 1: the first value must be below"),
        (["-d", "501", "--window", "1", "3"], "--window is not for dsb2018"),
        (["-d", "501", "--binary"], "--binary is for folders of images and labels"),
    ],
)
def test_bad_options(arguments, message, tmp_path, raw, capsys):
    MADE["dsb2018"][0](tmp_path / "source")
    assert main(["convert", str(tmp_path / "source"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not raw.exists()


def test_a_folder_of_pairs(tmp_path, raw):
    for i in range(10):
        for part in ("images", "labels"):
            write(tmp_path / "My nuclei" / part / f"{i}.png", np.eye(12, dtype=np.uint8) * (1 + i))
    assert main(["convert", str(tmp_path / "My nuclei"), "-d", "7", "--binary", "--hold-out"]) == 0
    counts = [len(list((raw / "Dataset007_My_nuclei" / part).iterdir())) for part in ("labelsTr", "labelsTs")]
    assert counts == [8, 2]


def test_an_id_that_is_taken(tmp_path, raw, capsys):
    folder = MADE["dsb2018"][0](tmp_path / "source")
    (tmp_path / "nnUNet_results" / "Dataset501_Other").mkdir(parents=True)
    assert main(["convert", str(folder), "-d", "Dataset501_Nuclei"]) == 2
    assert "nnUNet_results has Dataset501_Other" in capsys.readouterr().err


def test_a_folder_of_no_known_layout(tmp_path, raw, capsys):
    (tmp_path / "notes.txt").touch()
    assert main(["convert", str(tmp_path), "-d", "501"]) == 2
    assert "has none of the known layouts: give an nnU-Net raw data set" in capsys.readouterr().err


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_docs_list_each_layout(layout):
    page = (Path(__file__).parents[2] / "docs" / "convert.md").read_text(encoding="utf-8")
    splits = "; ".join(f"`{name}`: {split.words}" for name, split in layout.splits.items()) or "nnU-Net's"
    cells = (f"`{layout.name}`", layout.title, f"`{layout.form}`", splits, layout.licence, layout.source)
    assert f"| {' | '.join(cells)} |\n" in page

import json
import re

import numpy as np
import pandas
import pytest
import SimpleITK
from made_folders import disc, make_dsb2018, make_glas, write
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from skimage.io import imread

from nnunet_archs.instances import encode, is_encoded
from nnunet_archs.measure.instances import instance_metrics
from nnunet_archs.scripts.main import main


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "nnUNet_raw"))
    return tmp_path / "nnUNet_raw"


def write_volume(file, array, spacing):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing)
    SimpleITK.WriteImage(image, str(file))


def blocks():
    """300 objects that touch, which no map of bytes holds, in slices of 2 mm."""
    ids = np.arange(1, 301).reshape(3, 10, 10).repeat(4, 0).repeat(5, 1).repeat(5, 2)
    return np.pad(ids, 2).astype(np.uint16)


def test_volumes_there_and_back(tmp_path, raw):
    for i in range(5):
        write_volume(tmp_path / "cells" / "images" / f"c{i}.nii.gz", blocks().astype(np.float32), (1, 1, 2))
        write_volume(tmp_path / "cells" / "labels" / f"c{i}.nii.gz", blocks(), (1, 1, 2))
    assert main(["convert", str(tmp_path / "cells"), "-d", "7", "--instances", "1mm"]) == 0
    made = raw / "Dataset007_cells"
    dataset_json = json.loads((made / "dataset.json").read_text())
    assert is_encoded(dataset_json)
    assert dataset_json["instances"] == {"encoding": "border-core", "border": "1mm"}
    verify_dataset_integrity(str(made), 1)
    assert main(["instances", str(made / "labelsTr"), "-o", str(tmp_path / "out")]) == 0
    image = SimpleITK.ReadImage(str(tmp_path / "out" / "c0.nii.gz"))
    found = SimpleITK.GetArrayFromImage(image)
    assert (image.GetSpacing(), found.dtype) == ((1, 1, 2), np.uint16)
    assert np.array_equal(found > 0, blocks() > 0)
    assert instance_metrics(blocks(), found)["ap"] == 1


def test_official_layouts_tell_objects_apart(tmp_path, raw):
    assert main(["convert", str(make_dsb2018(tmp_path / "nuclei")), "-d", "1", "--instances", "1voxels"]) == 0
    labels = imread(raw / "Dataset001_dsb2018" / "labelsTr" / "id0.png")
    nuclei = sum((i + 1) * disc((24, 30), (8, column), 3) for i, column in enumerate((5, 8, 13)))
    nuclei[disc((24, 30), (8, 8), 3)], nuclei[disc((24, 30), (8, 13), 3)] = 2, 3
    assert np.array_equal(labels, encode(nuclei, 1, (1, 1)))
    assert main(["convert", str(make_glas(tmp_path / "glands")), "-d", "2", "--size", "16", "--instances"]) == 0
    assert set(np.unique(imread(raw / "Dataset002_glas" / "labelsTr" / "train_1_crop0.png"))) == {0, 1, 2}


def predicted_with_probabilities(folder):
    """Two touching blocks of the sizes 4 x 7 and 6 x 7, of which one is less likely; and what they should have been."""
    ids = np.zeros((20, 30), dtype=np.uint8)
    ids[5:12, 4:8], ids[5:12, 8:14] = 1, 2
    labels = encode(ids, 1, (1, 1))
    likely = np.where(ids == 1, 0.9, 0.6)
    shares = [np.where(labels == label, likely, (1 - likely) / 2) for label in range(3)]
    write(folder / "a.png", labels)
    np.savez_compressed(folder / "a.npz", probabilities=np.stack(shares)[:, None].astype(np.float32))
    return ids


def test_probabilities_give_scores_and_references_metrics(tmp_path, capsys):
    ids = predicted_with_probabilities(tmp_path / "found")
    write(tmp_path / "truth" / "a.png", np.where(ids == 1, ids, 0).astype(np.uint8))
    where = [str(tmp_path / "found"), "--border-core", "-o", str(tmp_path / "out")]
    assert main(["instances", *where, "--references", str(tmp_path / "truth")]) == 0
    assert "coco_ap50" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == {
        "a.png": {"1": pytest.approx(0.95), "2": pytest.approx(0.8)}
    }
    (row,) = pandas.read_csv(tmp_path / "out" / "metrics.csv").to_dict("records")
    assert row["file"] == "a.png"
    assert [row[name] for name in ("object_f1", "ap50", "coco_ap50")] == pytest.approx([2 / 3, 0.5, 1])


def test_masks_fall_into_components(tmp_path):
    write(tmp_path / "masks" / "a.png", (disc((30, 30), (8, 8), 4) | disc((30, 30), (20, 20), 4)).astype(np.uint8))
    assert main(["instances", str(tmp_path / "masks"), "-o", str(tmp_path / "out")]) == 0
    assert imread(tmp_path / "out" / "a.png").max() == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["instances", "labels", "-o", "new"], r"a\.png holds the label 2, .* add --border-core"),
        (["instances", "nothing", "-o", "new"], "nothing is not a folder"),
        (["instances", "empty", "-o", "new"], "empty holds no segmentations"),
        (["instances", "labels", "-o", "empty"], "empty is there already"),
        (["instances", "labels", "-o", "new", "--border-core"], r"a\.npz holds the probabilities of other labels"),
        (["instances", "masks", "-o", "new", "--references", "empty"], r"empty/a\.png cannot be read"),
        (["convert", "pairs", "-d", "3", "--instances", "wide"], "--instances wide is no length"),
        (["convert", "pairs", "-d", "3", "--instances", "--binary"], "--binary and --instances are two readings"),
        (
            ["convert", "raw", "-d", "3", "--instances"],
            r"dataset\.json says what the labels are: leave --instances out",
        ),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(arguments, message, tmp_path, raw, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "raw", "pairs/images", "pairs/labels"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "raw" / "dataset.json").write_text("{}")
    predicted_with_probabilities(tmp_path / "labels")
    write(tmp_path / "masks" / "a.png", disc((30, 30), (8, 8), 6).astype(np.uint8))
    write(tmp_path / "labels" / "a.png", encode(disc((30, 30), (8, 8), 6).astype(int), 1, (1, 1)))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not (tmp_path / "new").exists()

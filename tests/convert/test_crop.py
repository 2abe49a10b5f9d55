import json
from multiprocessing.context import SpawnContext
from multiprocessing.pool import ThreadPool

import nibabel
import numpy as np
import pytest
import SimpleITK
from made_folders import write, write_volume
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from skimage.io import imread

from nnunet_archs.scripts.main import main

SHAPE = (8, 20, 24)  # slices, rows, columns
SPACING = (0.5, 1.0, 3.0)  # x, y, z in mm


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def make_coarse(home, n=6, ending=".nii.gz"):
    """A raw data set, and a model of it whose two folds predict a block in each case; in the last it predicts none."""
    raw, model = home / "nnUNet_raw" / "Dataset004_Coarse", home / "model"
    predicted = block(slice(3, 5), slice(6, 11), slice(8, 14))
    label = predicted + block(slice(3, 5), slice(7, 9), slice(9, 12))
    label[4, 11, 8] = 1  # just outside of what is predicted
    for i in range(n):
        image = np.random.default_rng(i).normal(size=SHAPE).astype(np.float32)
        for channel in range(2):
            write_volume(raw / "imagesTr" / f"c{i}_{channel:04}{ending}", image + channel, SPACING)
        write_volume(raw / "labelsTr" / f"c{i}{ending}", label, SPACING)
        found = predicted if i < n - 1 else 0 * predicted
        write_volume(model / f"fold_{i % 2}" / "validation" / f"c{i}{ending}", found, SPACING)
    write_volume(raw / "imagesTs" / f"t0_0000{ending}", image, SPACING)
    write_volume(raw / "imagesTs" / f"t0_0001{ending}", image, SPACING)
    write_volume(raw / "labelsTs" / f"t0{ending}", label, SPACING)
    dataset = {"channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "organ": [1, 2], "lesion": 2}}
    dataset |= {"regions_class_order": [1, 2], "file_ending": ending, "numTraining": n}
    (raw / "dataset.json").write_text(json.dumps(dataset))
    return raw, model


def block(*where):
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[where] = 1
    return array


def crop(raw, *places, margin="0mm"):
    return main(["convert", str(raw), "-d", "505", "--margin", margin, "--crop-to", *map(str, places)])


def size(file):
    return SimpleITK.ReadImage(str(file)).GetSize()


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_boxes_and_their_place_in_space(ending, home, monkeypatch, capsys):
    raw, model = make_coarse(home, ending=ending)
    assert crop(raw, model, margin="1.5mm") == 0
    target = home / "nnUNet_raw" / "Dataset505_Coarse"
    monkeypatch.setattr(SpawnContext, "Pool", lambda _, processes: ThreadPool(processes))
    verify_dataset_integrity(str(target), 1)
    image = SimpleITK.ReadImage(str(target / "imagesTr" / f"c1_0001{ending}"))
    assert image.GetSize() == (6 + 2 * 3, 5 + 2 * 2, 2 + 2 * 1)  # 1.5 mm are 3, 2 and 1 voxels
    assert image.GetOrigin() == pytest.approx((-12 + 0.5 * 5, 5 + 1.0 * 4, 40 + 3.0 * 2))
    whole = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(raw / "imagesTr" / f"c1_0001{ending}")))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), whole[2:6, 4:13, 5:17])
    assert size(target / "labelsTr" / f"c5{ending}") == SHAPE[::-1]
    boxes = json.loads((target / "boxes.json").read_text())
    assert boxes["c1"]["from"] == [5, 4, 2]
    assert boxes["c1"]["of"] == [24, 20, 8]
    assert not boxes["c5"]["predicted"]
    printed = capsys.readouterr().out
    assert "nothing is predicted in 1 cases, which stay whole: c5" in printed
    assert "1 test cases without a prediction are left out: t0" in printed


def test_a_new_data_set_has_the_models_folds(home):
    raw, model = make_coarse(home)
    assert crop(raw, model) == 0
    splits = json.loads((home / "nnUNet_raw" / "Dataset505_Coarse" / "splits_final.json").read_text())
    assert [split["val"] for split in splits] == [["c0", "c2", "c4"], ["c1", "c3", "c5"]]


def test_labels_that_a_box_leaves_out_are_told(home, capsys):
    raw, model = make_coarse(home)
    assert crop(raw, model) == 0
    assert "boxes of 5 cases leave out labelled voxels" in capsys.readouterr().out
    boxes = json.loads((home / "nnUNet_raw" / "Dataset505_Coarse" / "boxes.json").read_text())
    assert [boxes[f"c{i}"]["labelled_voxels_lost"] for i in (0, 5)] == [1, 0]


def test_test_cases_with_predictions_of_their_own(home):
    raw, model = make_coarse(home)
    write_volume(home / "predicted" / "t0.nii.gz", block(slice(0, 1), slice(2, 4), slice(20, 24)), SPACING)
    assert crop(raw, model, home / "predicted", margin="2voxels") == 0
    target = home / "nnUNet_raw" / "Dataset505_Coarse"
    assert size(target / "labelsTs" / "t0.nii.gz") == size(target / "imagesTs" / "t0_0001.nii.gz") == (6, 6, 3)


def test_both_transforms_of_nifti_stay_true(home):
    raw, model = make_coarse(home)
    for file in (raw / "imagesTr" / "c0_0000.nii.gz", raw / "imagesTr" / "c0_0001.nii.gz"):
        image = nibabel.load(file)
        image.set_sform(np.diag([-0.5, 1.0, 3.0, 1.0]), 2)
        nibabel.save(image, file)
    assert crop(raw, model) == 0
    cut = nibabel.load(home / "nnUNet_raw" / "Dataset505_Coarse" / "imagesTr" / "c0_0000.nii.gz")
    assert cut.get_sform()[:3, 3] == pytest.approx([-4.0, 6.0, 9.0])


def test_colours_are_cut_too(home):
    raw, model = home / "nnUNet_raw" / "Dataset004_Coarse", home / "model"
    colours = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    predicted = np.zeros((20, 30), dtype=np.uint8)
    predicted[5:9, 10:20] = 1
    for i in range(5):
        write(raw / "imagesTr" / f"c{i}_0000.png", colours)
        write(raw / "labelsTr" / f"c{i}.png", predicted)
        write(model / f"fold_{i % 2}" / "validation" / f"c{i}.png", predicted)
    dataset = {"channel_names": dict.fromkeys("012", "rgb_to_0_1"), "labels": {"background": 0, "organ": 1}}
    (raw / "dataset.json").write_text(json.dumps({**dataset, "file_ending": ".png", "numTraining": 5}))
    assert crop(raw, model, margin="1voxel") == 0
    cropped = imread(home / "nnUNet_raw" / "Dataset505_Coarse" / "imagesTr" / "c3_0000.png")
    assert np.array_equal(cropped, colours[4:10, 9:21])


@pytest.mark.parametrize(
    ("spoil", "margin", "message"),
    [
        (lambda raw, model: (model / "fold_1" / "validation" / "c3.nii.gz").unlink(), "1mm", "no prediction of c3"),
        (lambda raw, model: (model / "fold_1").rename(model / "other"), "1mm", "3 of 6 missing"),
        (lambda raw, model: (raw / "dataset.json").unlink(), "1mm", "has no dataset.json"),
        (lambda raw, model: None, "1cm", "--margin 1cm is no length"),
        (
            lambda raw, model: [fold.rename(model / f"my_{fold.name}") for fold in list(model.iterdir())],
            "1mm",
            "no fold_*/validation and no .nii.gz files",
        ),
        (
            lambda raw, model: write_volume(model / "fold_0" / "validation" / "c2.nii.gz", np.zeros((2, 3, 4))),
            "1mm",
            "has (4, 3, 2) voxels",
        ),
    ],
)
def test_refusals(spoil, margin, message, home, capsys):
    raw, model = make_coarse(home)
    spoil(raw, model)
    assert crop(raw, model, margin=margin) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert [folder.name for folder in (home / "nnUNet_raw").iterdir()] == [raw.name]

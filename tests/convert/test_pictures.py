import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_folders import disc, make_dsb2018, make_glas, make_isbi2012, make_isic2018, make_liver400, write
from skimage.io import imread

from nnunet_archs.convert.layout import Options
from nnunet_archs.convert.layouts import LAYOUTS, inspect_layout
from nnunet_archs.convert.raw_data import write_dataset


def convert(name, folder, target, options=None, split=None, seed=None):
    write_dataset(inspect_layout(LAYOUTS[name], folder, options or Options(), split, seed), target)
    return target


def labels(target):
    return {file.stem: imread(file) for file in sorted((target / "labelsTr").iterdir())}


def images(target):
    return {file.stem[:-5]: imread(file) for file in sorted((target / "imagesTr").iterdir())}


def splits(target):
    return json.loads((target / "splits_final.json").read_text())


def real_data(name):
    folder = Path(os.environ.get("NNUNET_ARCHS_DATA", "../shared/data"), name)
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set NNUNET_ARCHS_DATA to the folder that holds {name}")
    return folder


# --- DSB2018


def test_nuclei_are_joined_and_every_picture_has_three_colours(tmp_path):
    target = convert("dsb2018", make_dsb2018(tmp_path / "source"), tmp_path / "target")
    nuclei = [disc((24, 30), (8, column), 3) for column in (5, 8, 13)]
    assert np.array_equal(labels(target)["id0"], np.logical_or.reduce(nuclei))
    assert {image.shape[2:] for image in images(target).values()} == {(3,)}
    source = imread(tmp_path / "source" / "stage1_train" / "id0" / "images" / "id0.png")
    assert np.array_equal(images(target)["id0"], source[..., :3])


def test_a_picture_without_masks(tmp_path):
    folder = make_dsb2018(tmp_path)
    for file in (folder / "stage1_train" / "id2" / "masks").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"id2 has no masks/\*\.png"):
        inspect_layout(LAYOUTS["dsb2018"], folder, Options(), None, None)


def test_pictures_become_square(tmp_path):
    target = convert("dsb2018", make_dsb2018(tmp_path / "source"), tmp_path / "target", Options(size=16))
    assert {image.shape for image in images(target).values()} == {(16, 16, 3)}
    assert {tuple(np.unique(label)) for label in labels(target).values()} == {(0, 1)}
    small = labels(target)["id0"]
    before = labels(convert("dsb2018", tmp_path / "source", tmp_path / "whole"))["id0"]
    assert small.mean() == pytest.approx(before.mean(), abs=0.03)


@pytest.mark.parametrize(("split", "n_validated"), [("caggnet", 161), ("focusnet", 130), ("unetsharp", 134)])
def test_shares_of_670(split, n_validated):
    ((trained, validated),) = LAYOUTS["dsb2018"].splits[split].divide({f"{i:03}": "" for i in range(670)}, 0).folds
    assert (len(trained), len(validated)) == (670 - n_validated, n_validated)


def test_unetsharps_split_is_scikit_learns(tmp_path):
    """As pytorch-nested-unet calls it, for names in order."""
    sklearn = pytest.importorskip("sklearn.model_selection")
    names = [f"{i:03}" for i in range(664)]
    train, val = sklearn.train_test_split(names, test_size=0.2, random_state=41)
    split = LAYOUTS["dsb2018"].splits["unetsharp"]
    assert split.divide(dict.fromkeys(names, ""), split.seed).folds == ((tuple(train), tuple(val)),)


def test_a_seed_divides_otherwise(tmp_path):
    folder = make_dsb2018(tmp_path / "source")
    made = [splits(convert("dsb2018", folder, tmp_path / str(seed), seed=seed))[0]["val"] for seed in range(3)]
    assert len(set(map(tuple, made))) > 1
    written = json.loads((tmp_path / "0" / "dataset.json").read_text())
    assert written["split"].endswith("as CAggNet, at random (seed 0); here 4 to train on, 2 to validate on")


def test_the_real_nuclei(tmp_path):
    """The first, in the layout of the challenge; those who joined the masks counted nine pixels of two nuclei."""
    data = real_data("dsb2018_nuclei")
    names = [file.stem for file in sorted((data / "images").glob("*.png"))[:8]]
    for name in names:
        case = tmp_path / "source" / "stage1_train" / name
        (case / "images").mkdir(parents=True)
        (case / "images" / f"{name}.png").write_bytes((data / "images" / f"{name}.png").read_bytes())
        ids = imread(data / "instances" / f"{name}.png")
        for nucleus in np.unique(ids[ids > 0]):
            write(case / "masks" / f"{nucleus}.png", 255 * (ids == nucleus).astype(np.uint8))
    target = convert("dsb2018", tmp_path / "source", tmp_path / "target")
    for name in names:
        assert np.array_equal(labels(target)[name], imread(data / "labels" / f"{name}.png"))


# --- GlaS


def test_every_id_of_a_gland_is_foreground(tmp_path):
    target = convert("glas", make_glas(tmp_path / "source"), tmp_path / "target")
    assert labels(target)["train_1"].sum() == (imread(tmp_path / "source" / "train_1_anno.bmp") > 0).sum()
    assert splits(target)[0]["val"] == ["testA_1", "testA_2", "testB_1"]


def test_crops_cover_the_picture_and_stay_together(tmp_path):
    folder = make_glas(tmp_path / "source")
    target = convert("glas", folder, tmp_path / "target", Options(size=16), split="five-folds")
    assert {image.shape for image in images(target).values()} == {(16, 16, 3)}
    source, crops = imread(folder / "train_1.bmp"), [images(target)[f"train_1_crop{i}"] for i in range(3)]
    rows = [np.flatnonzero((source[:, None] == crop[0]).all((1, 2, 3)))[0] for crop in crops]  # 36 x 16 pixels
    assert rows == [0, 10, 20]
    for row, crop in zip(rows, crops, strict=True):
        assert np.array_equal(crop, source[row : row + 16])
    for split in splits(target):
        assert not {name.split("_crop")[0] for name in split["train"]} & {
            name.split("_crop")[0] for name in split["val"]
        }


# --- ISIC 2018


def test_photographs_in_file_order(tmp_path):
    data = inspect_layout(LAYOUTS["isic2018"], make_isic2018(tmp_path), Options(), None, None)
    assert [item.name for item in data.test] == ["ISIC_0000007", "ISIC_0000008", "ISIC_0000009"]
    assert data.folds[0][1] == ("ISIC_0000006",)
    names = {f"ISIC_{i:07}": "" for i in range(2594)}
    division = LAYOUTS["isic2018"].splits["focusnet"].divide(names, 0)
    assert [len(division.folds[0][0]), len(division.folds[0][1]), len(division.test)] == [1815, 259, 520]


def test_what_is_in_order_takes_no_seed(tmp_path):
    with pytest.raises(ValueError, match=r"--seed 3: the split is not at random"):
        inspect_layout(LAYOUTS["isic2018"], make_isic2018(tmp_path), Options(), None, 3)


def test_the_edge_of_a_lesion_is_cut_at_one_half(tmp_path):
    """6 of 32 columns are 2.25 of 12, and 7 are 2.63."""
    for columns, expected in ((6, 2), (7, 3)):
        folder = make_isic2018(tmp_path / f"{columns}")
        mask = np.zeros((24, 32), dtype=np.uint8)
        mask[:, :columns] = 255
        write(folder / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000000_segmentation.png", mask)
        target = convert("isic2018", folder, tmp_path / f"out{columns}", Options(size=12))
        assert (labels(target)["ISIC_0000000"].sum(1) == expected).all()


def test_a_photograph_without_a_mask(tmp_path):
    folder = make_isic2018(tmp_path)
    (folder / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000003_segmentation.png").unlink()
    with pytest.raises(ValueError, match=r"ISIC_0000003\.jpg has no mask"):
        inspect_layout(LAYOUTS["isic2018"], folder, Options(), None, None)


# --- slices and sections


def test_slices_keep_their_part(tmp_path):
    target = convert("liver400", make_liver400(tmp_path / "source"), tmp_path / "target")
    assert splits(target) == [{"train": ["train_000", "train_001", "train_002"], "val": ["val_000", "val_001"]}]
    assert {image.ndim for image in images(target).values()} == {2}


def test_colours_in_ct(tmp_path):
    folder = make_liver400(tmp_path / "source")
    write(folder / "train" / "001.png", np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"001\.png has colours"):
        convert("liver400", folder, tmp_path / "target")


@pytest.mark.parametrize("pages", [np.zeros((10, 8, 8), np.uint8), np.zeros((16, 18), np.uint8)])
def test_pages_that_do_not_fit(tmp_path, pages):
    folder = make_isbi2012(tmp_path)
    tifffile.imwrite(folder / "train-labels.tif", pages, photometric="minisblack")
    with pytest.raises(ValueError, match=r"train-labels\.tif has shape"):
        inspect_layout(LAYOUTS["isbi2012"], folder, Options(), None, None)


def test_the_real_membranes(tmp_path):
    data = real_data("isbi2012_membrane")
    (tmp_path / "source").mkdir()
    for file, part in (("train-volume.tif", "images"), ("train-labels.tif", "labels")):
        pages = [imread(data / part / f"{i}.png") for i in range(30)]
        tifffile.imwrite(tmp_path / "source" / file, np.stack(pages), photometric="minisblack")
    target = convert("isbi2012", tmp_path / "source", tmp_path / "target")
    assert [len(splits(target)[0][part]) for part in ("train", "val")] == [24, 6]
    for i in (0, 17, 29):
        assert np.array_equal(labels(target)[f"section_{i:02}"], imread(data / "labels" / f"{i}.png") == 255)

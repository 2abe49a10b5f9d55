import json

import numpy as np
import pytest
import SimpleITK
from made_folders import labelled, make_brats19, make_covid19, make_kits19, make_lits, write_turned, write_volume
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient

from nnunet_archs.convert.layout import Options
from nnunet_archs.convert.layouts import LAYOUTS, inspect_layout
from nnunet_archs.convert.raw_data import write_dataset


def convert(name, folder, target, options=None):
    write_dataset(inspect_layout(LAYOUTS[name], folder, options or Options(), None, None), target)
    return json.loads((target / "dataset.json").read_text())


def array(file):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))


def test_infected_slices_with_their_grid(tmp_path):
    make_covid19(tmp_path / "source")
    convert("covid19", tmp_path / "source", tmp_path / "merged")
    convert("covid19-classes", tmp_path / "source", tmp_path / "kept")
    merged, kept = (sorted((tmp_path / form / "labelsTr").iterdir()) for form in ("merged", "kept"))
    assert len(merged) == len(kept) == 6
    assert np.array_equal(array(merged[0])[0], labelled((8, 16, 20), 1, 1, 1)[0])
    assert np.array_equal(array(kept[0])[0], labelled((8, 16, 20), 1, 2, 3)[0])
    image = SimpleITK.ReadImage(str(tmp_path / "merged" / "imagesTr" / "slice_004_0000.nii.gz"))
    assert image.GetSpacing() == pytest.approx((0.8, 0.7, 3.0))
    assert image.GetOrigin() == pytest.approx((-12.0, 5.0, 52.0))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image)[0], array(tmp_path / "source" / "tr_im.nii.gz")[4])


@pytest.mark.parametrize(("name", "make"), [("covid19", make_covid19), ("kits19", make_kits19), ("lits", make_lits)])
def test_a_windows_ends_are_0_and_255(name, make, tmp_path):
    make(tmp_path / "source")
    convert(name, tmp_path / "source", tmp_path / "whole")
    written = convert(name, tmp_path / "source", tmp_path / "window", Options(window=(-160.0, 240.0)))
    assert written["channel_names"] == {"0": "rgb_to_0_1"}
    assert written["converted_with"] == {"window": [-160.0, 240.0]}
    for after in sorted((tmp_path / "window" / "imagesTr").iterdir()):
        (before,) = (tmp_path / "whole" / "imagesTr").glob(after.name.split(".")[0] + "*")
        values, levels = array(before), array(after)
        assert levels.dtype == np.uint8
        assert ((levels == 0) == (values <= -160 + 400 / 510)).all()
        assert ((levels == 255) == (values >= 240 - 400 / 510)).all()


def test_kidneys_are_seen_with_the_slice_first(tmp_path):
    """Whatever the order of axes in the file; its cases without labels are the challenge's test."""
    written = convert("kits19", make_kits19(tmp_path / "source"), tmp_path / "target")
    assert written["labels"] == {"background": 0, "kidney": [1, 2], "tumour": 2}
    assert written["numTraining"] == 4
    reader = NibabelIOWithReorient()
    image, properties = reader.read_images([str(tmp_path / "target" / "imagesTr" / "case_00000_0000.nii.gz")])
    assert image.shape == (1, 6, 16, 20)
    assert properties["spacing"] == pytest.approx([3.0, 0.7, 0.8])
    options = Options(window=(-160.0, 240.0))
    convert("kits19", tmp_path / "source", tmp_path / "window", options)
    levels, same = reader.read_images([str(tmp_path / "window" / "imagesTr" / "case_00000_0000.nii.gz")])
    assert same["spacing"] == pytest.approx(properties["spacing"])
    assert np.corrcoef(levels.ravel(), image.ravel().clip(-160, 240))[0, 1] > 0.999


def test_cysts_are_none_of_kits19(tmp_path):
    folder = make_kits19(tmp_path)
    write_turned(folder / "data" / "case_00001" / "segmentation.nii.gz", labelled((6, 16, 20), 1, 2, 3))
    with pytest.raises(ValueError, match=r"case_00001/segmentation\.nii\.gz holds the label 3"):
        inspect_layout(LAYOUTS["kits19"], folder, Options(), None, None)


def test_a_windows_labels_are_checked_too(tmp_path):
    folder = make_lits(tmp_path / "source")
    label = labelled((6, 16, 20), 1, 2).astype(np.int16) * 256
    write_volume(folder / "Training Batch 1" / "segmentation-2.nii", label)
    with pytest.raises(ValueError, match=r"liver_002 has labels that are not whole numbers from 0 to 255"):
        convert("lits", folder, tmp_path / "target", Options(window=(-160.0, 240.0)))


def test_livers_are_renamed_and_copied(tmp_path):
    written = convert("lits", make_lits(tmp_path / "source"), tmp_path / "target")
    assert written["file_ending"] == ".nii"
    copied = tmp_path / "target" / "imagesTr" / "liver_003_0000.nii"
    assert copied.read_bytes() == (tmp_path / "source" / "Training Batch 2" / "volume-3.nii").read_bytes()


def test_enhancing_tumour_is_3(tmp_path):
    written = convert("brats19", make_brats19(tmp_path / "source"), tmp_path / "target")
    assert written["channel_names"] == {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}
    assert written["labels"]["whole tumour"] == [1, 2, 3]
    name = "BraTS19_2013_0_1"
    assert np.array_equal(array(tmp_path / "target" / "labelsTr" / f"{name}.nii.gz"), labelled((6, 16, 20), 2, 1, 3))
    flair = tmp_path / "target" / "imagesTr" / f"{name}_0003.nii.gz"
    assert flair.read_bytes() == (tmp_path / "source" / "LGG" / name / f"{name}_flair.nii.gz").read_bytes()


def test_a_number_that_is_there_twice(tmp_path):
    folder = make_lits(tmp_path)
    for kind in ("volume", "segmentation"):
        write_volume(folder / "Training Batch 1" / f"{kind}-1.nii", labelled((6, 16, 20), 1))
    with pytest.raises(ValueError, match=r"holds the case liver_001 twice"):
        inspect_layout(LAYOUTS["lits"], folder, Options(), None, None)


def test_files_of_two_endings(tmp_path):
    folder = make_lits(tmp_path)
    write_volume(folder / "Training Batch 1" / "volume-8.nii.gz", labelled((6, 16, 20)))
    write_volume(folder / "Training Batch 1" / "segmentation-8.nii.gz", labelled((6, 16, 20), 1))
    with pytest.raises(ValueError, match=r"mix \.nii, \.nii\.gz"):
        inspect_layout(LAYOUTS["lits"], folder, Options(), None, None)

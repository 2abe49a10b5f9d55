import json

import numpy as np
import pytest
import SimpleITK
from made_folders import hounsfield, make_lidc, make_luna16, read_message, ring, write_volume

from nnunet_archs.convert.layout import Options
from nnunet_archs.convert.layouts import LAYOUTS, inspect_layout
from nnunet_archs.convert.nodules import Ball, add_ball
from nnunet_archs.convert.raw_data import write_dataset


def convert(name, folder, target, options=None):
    write_dataset(inspect_layout(LAYOUTS[name], folder, options or Options(), None, None), target)
    return json.loads((target / "dataset.json").read_text())


def array(file):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))


def outlined():
    """What lies strictly within the outlines of the made-up nodule, and outside of its hole and the hole's outline."""
    nodule = np.zeros((24, 20), dtype=np.uint8)
    nodule[8:17, 5:14] = 1
    nodule[11:14, 8:11] = 0
    return nodule


# --- LIDC-IDRI


def test_slices_that_half_of_the_readers_outlined(tmp_path):
    convert("lidc", make_lidc(tmp_path / "source"), tmp_path / "target")
    labels = sorted((tmp_path / "target" / "labelsTr").iterdir())
    assert [file.name for file in labels[:3]] == [
        "LIDC-IDRI-0001_1_z001.nii.gz",
        "LIDC-IDRI-0001_1_z002.nii.gz",
        "LIDC-IDRI-0002_1_z001.nii.gz",
    ]
    assert np.array_equal(array(labels[0])[0], outlined())
    image = SimpleITK.ReadImage(str(tmp_path / "target" / "imagesTr" / "LIDC-IDRI-0003_1_z002_0000.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image)[0], hounsfield((6, 24, 20), seed=2)[2])
    assert image.GetSpacing() == pytest.approx((0.7, 0.8, 2.5))
    assert image.GetOrigin()[2] == pytest.approx(35.0)


def test_patients_stay_together(tmp_path):
    convert("lidc", make_lidc(tmp_path / "source"), tmp_path / "target")
    for split in json.loads((tmp_path / "target" / "splits_final.json").read_text()):
        trained, validated = ({case[:14] for case in split[part]} for part in ("train", "val"))
        assert not trained & validated


def test_an_annotated_image_that_is_not_there(tmp_path):
    folder = make_lidc(tmp_path / "source")
    (folder / "LIDC-IDRI-0002" / "study" / "series" / "000005.dcm").unlink()  # the second from below
    with pytest.raises(ValueError, match=r"annotates the image 1\.2\.826\.2\.1, which is not beside it"):
        convert("lidc", folder, tmp_path / "target")


def test_a_series_that_is_not_there(tmp_path):
    folder = make_lidc(tmp_path)
    for file in (folder / "LIDC-IDRI-0002" / "study" / "series").glob("*.dcm"):
        file.unlink()
    with pytest.raises(ValueError, match=r"series has no DICOM files"):
        inspect_layout(LAYOUTS["lidc"], folder, Options(), None, None)


@pytest.mark.parametrize("content", ["<LidcReadMessage>", "<LidcReadMessage/>", "notes"])
def test_what_is_no_reading(content, tmp_path):
    folder = make_lidc(tmp_path / "source")
    (folder / "LIDC-IDRI-0002" / "study" / "series" / "max.xml").write_text(content)
    with pytest.raises(ValueError, match=r"max\.xml (cannot be read as readings|is not an XML)") as error:
        convert("lidc", folder, tmp_path / "target")
    assert "\n" not in str(error.value)


# --- LUNA16


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 0.7), (0.5, 0.8, 1.25)])
def test_a_balls_volume(spacing):
    volume = SimpleITK.Image(60, 50, 40, SimpleITK.sitkInt16)
    volume.SetSpacing(spacing)
    volume.SetOrigin((-100.0, 30.0, -7.5))
    centre = volume.TransformContinuousIndexToPhysicalPoint((31.3, 22.8, 18.6))
    nodules = np.zeros((40, 50, 60), dtype=bool)
    add_ball(nodules, Ball(centre, 18.0), volume, None)
    assert nodules.sum() * np.prod(spacing) == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.05)
    assert np.mean(np.nonzero(nodules), axis=1) == pytest.approx((18.6, 22.8, 31.3), abs=0.1)


def test_a_ball_smaller_than_a_voxel():
    volume = SimpleITK.Image(5, 5, 5, SimpleITK.sitkInt16)
    nodules = np.zeros((5, 5, 5), dtype=bool)
    add_ball(nodules, Ball((1.5, 2.4, 3.4), 0.5), volume, None)
    assert np.argwhere(nodules).tolist() == [[3, 2, 2]]


def test_subsets_are_folds(tmp_path):
    written = convert("luna16", make_luna16(tmp_path / "source"), tmp_path / "target")
    splits = json.loads((tmp_path / "target" / "splits_final.json").read_text())
    assert [split["val"] for split in splits] == [["luna_0", "luna_2", "luna_4"], ["luna_1", "luna_3"]]
    assert "nodules are balls" in written["description"]
    assert not array(tmp_path / "target" / "labelsTr" / "luna_4.nii.gz").any()


def test_scans_with_the_readers_contours(tmp_path):
    make_luna16(tmp_path / "source")
    (tmp_path / "xml").mkdir()
    for i in range(5):
        nodule = [
            (43.0, "of no file here", is_solid, ring((9, 12), side)) for is_solid, side in ((True, 5), (False, 1))
        ]
        message = read_message(f"1.3.6.{i}", [nodule, nodule, [], []])
        (tmp_path / "xml" / f"{i}.xml").write_text(message)
    options = Options(annotations=tmp_path / "xml")
    written = convert("luna16", tmp_path / "source", tmp_path / "target", options)
    nodules = array(tmp_path / "target" / "labelsTr" / "luna_4.nii.gz")
    assert np.flatnonzero(nodules.any((1, 2))).tolist() == [1]  # 3 mm above the origin
    assert np.array_equal(nodules[1], outlined())
    assert "at least half of the readers" in written["description"]
    (tmp_path / "xml" / "3.xml").unlink()
    with pytest.raises(ValueError, match=r"no XML file of the series 1\.3\.6\.3"):
        inspect_layout(LAYOUTS["luna16"], tmp_path / "source", options, None, None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("seriesuid,coordX\n1.3.6.0,4", "has not the numbers of LUNA16's annotations"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.3.6.0,-4,13,90,5", r"\(-4\.0, 13\.0, 90\.0\) mm.*outside of"),
    ],
)
def test_bad_annotations(rows, message, tmp_path):
    folder = make_luna16(tmp_path / "source")
    (folder / "annotations.csv").write_text(rows)
    with pytest.raises(ValueError, match=message):
        convert("luna16", folder, tmp_path / "target")


def test_a_scan_without_its_voxels(tmp_path):
    write_volume(make_luna16(tmp_path) / "subset1" / "1.3.6.9.mhd", hounsfield((2, 4, 4)))
    (tmp_path / "subset1" / "1.3.6.9.raw").write_bytes(b"cut off")
    with pytest.raises(ValueError, match=r"1\.3\.6\.9\.(mhd|raw)"):
        convert("luna16", tmp_path, tmp_path / "target")

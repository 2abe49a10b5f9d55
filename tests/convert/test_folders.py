import json

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from skimage.io import imread, imsave

from nnunet_archs.convert.folders import inspect_folder
from nnunet_archs.convert.raw_data import write_dataset

SHAPE = (4, 6, 5)


def write_nifti(path, array, spacing=(1.0, 1.0, 2.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array, isVector=False)
    image.SetSpacing((*spacing, 1.0)[: image.GetDimension()])
    sitk.WriteImage(image, str(path))


def write_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    imsave(path, array, check_contrast=False)


def image(shape=SHAPE):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def labels(*values, shape=SHAPE):
    array = np.zeros(shape, dtype=np.uint8)
    array.flat[: len(values)] = values
    return array


def make_pairs(folder, n_cases=6):
    for i in range(n_cases):
        write_nifti(folder / "images" / f"case{i}.nii.gz", image())
        write_nifti(folder / "labels" / f"case{i}.nii.gz", labels(1, 2))
    return folder


def make_dataset(folder, n_cases=6, n_channels=2, part="Tr", **changes):
    for i in range(n_cases):
        for channel in range(n_channels):
            write_nifti(folder / f"images{part}" / f"{part}{i}_{channel:04d}.nii.gz", image())
        write_nifti(folder / f"labels{part}" / f"{part}{i}.nii.gz", labels(1, 2))
    contents = {
        "channel_names": {str(i): f"c{i}" for i in range(n_channels)},
        "labels": {"background": 0, "whole": [1, 2], "core": 2},
        "regions_class_order": [1, 2],
        "numTraining": n_cases,
        "file_ending": ".nii.gz",
        **changes,
    }
    (folder / "dataset.json").write_text(json.dumps(contents))
    return folder


def make_msd(folder, n_cases=6):
    for i in range(n_cases):
        write_nifti(folder / "imagesTr" / f"case{i}.nii.gz", image((2, *SHAPE)))
        write_nifti(folder / "labelsTr" / f"case{i}.nii.gz", labels(1))
        (folder / "imagesTr" / f"._case{i}.nii.gz").write_bytes(b"what macOS leaves in archives")
    write_nifti(folder / "imagesTs" / "unlabelled.nii.gz", image((2, *SHAPE)))
    contents = {"name": "Task", "modality": {"0": "T1", "1": "T2"}, "labels": {"0": "background", "1": "organ"}}
    (folder / "dataset.json").write_text(json.dumps({**contents, "numTraining": n_cases, "training": [], "test": []}))
    return folder


def convert(folder, target):
    """Write the data set, let nnU-Net check it, and return its dataset.json."""
    data = inspect_folder(folder)
    write_dataset(data, target)
    written = json.loads((target / "dataset.json").read_text())
    assert written["numTraining"] == len(data.training) == len(list((target / "labelsTr").iterdir()))
    assert len(data.test) == len(list((target / "labelsTs").iterdir()))
    verify_dataset_integrity(str(target), 1)
    return written


@pytest.mark.slow  # nnU-Net verifies in spawned processes
@pytest.mark.parametrize("make", [make_pairs, make_dataset, make_msd])
def test_nnunet_accepts_each_form(tmp_path, make):
    folder = make(tmp_path / "source")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    convert(folder, tmp_path / "target")
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_fifth_is_held_out_and_always_the_same(tmp_path):
    first, second = (inspect_folder(make_pairs(tmp_path / "source", 11)) for _ in range(2))
    assert len(first.test) == 2
    assert first.test == second.test
    assert len({case.name for case in (*first.training, *first.test)}) == 11


def test_all_cases_are_trained_on_where_none_are_to_be_held_out(tmp_path):
    data = inspect_folder(make_pairs(tmp_path, 11), hold_out=False)
    assert (len(data.training), data.test) == (11, ())


def test_ids_of_instances_become_one_label(tmp_path):
    """More than a map of bytes holds."""
    ids = np.arange(18 * 20, dtype=np.uint16).reshape(18, 20)
    for i in range(5):
        write_png(tmp_path / "source" / "images" / f"{i}.png", labels(9, shape=(18, 20)))
        write_png(tmp_path / "source" / "labels" / f"{i}.png", ids)
    with pytest.raises(ValueError, match=r"holds 360 values.*--binary"):
        inspect_folder(tmp_path / "source")
    data = inspect_folder(tmp_path / "source", binary=True)
    assert data.dataset_json["labels"] == {"background": 0, "foreground": 1}
    write_dataset(data, tmp_path / "target")
    assert np.array_equal(imread(tmp_path / "target" / "labelsTr" / "0.png"), ids > 0)


def test_five_cases_are_all_trained_on(tmp_path):
    data = inspect_folder(make_pairs(tmp_path, 5))
    assert (len(data.training), data.test) == (5, ())
    assert data.notes[-1] == "of 5 labelled cases none can be held out for testing"


def test_labelled_test_cases_are_used(tmp_path):
    make_dataset(tmp_path, 2, part="Ts")
    data = inspect_folder(make_dataset(tmp_path, 5))
    assert [case.name for case in data.test] == ["Ts0", "Ts1"]
    assert len(data.training) == 5


def test_msd_images_are_split(tmp_path):
    write_dataset(inspect_folder(make_msd(tmp_path / "source")), tmp_path / "target")
    contents = json.loads((tmp_path / "target" / "dataset.json").read_text())
    assert contents["channel_names"] == {"0": "T1", "1": "T2"}
    assert contents["labels"] == {"background": 0, "organ": 1}
    files = sorted(file.name for file in (tmp_path / "target" / "imagesTs").iterdir())
    assert [file[-12:] for file in files] == ["_0000.nii.gz", "_0001.nii.gz"]
    assert sitk.ReadImage(str(tmp_path / "target" / "imagesTs" / files[0])).GetSpacing() == (1.0, 1.0, 2.0)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_volumes_of_pairs_are_split(tmp_path, ending):
    """Files of four axes, as the MSD has them; the third spacing is 2 mm."""
    for i in range(6):
        write_nifti(tmp_path / "source" / "images" / f"{i}{ending}", image((2, *SHAPE)))
        write_nifti(tmp_path / "source" / "labels" / f"{i}{ending}", labels(1))
    data = inspect_folder(tmp_path / "source")
    assert data.notes[0] == "the 2 volumes of each file become 2 channels"
    assert data.dataset_json["channel_names"] == {"0": "image 0", "1": "image 1"}
    write_dataset(data, tmp_path / "target")
    first, second, *_ = sorted((tmp_path / "target" / "imagesTr").iterdir())
    for channel, file in enumerate((first, second)):
        assert file.name.endswith(f"_{channel:04}{ending}")
        read = sitk.ReadImage(str(file))
        assert read.GetSpacing() == (1.0, 1.0, 2.0)
        assert np.array_equal(sitk.GetArrayFromImage(read), image((2, *SHAPE))[channel])


def rewrite_json(folder, change):
    contents = json.loads((folder / "dataset.json").read_text())
    change(contents)
    (folder / "dataset.json").write_text(json.dumps(contents))
    return folder


def with_modality(contents):
    contents["modality"] = contents.pop("channel_names")


def of_the_first_version(contents):
    with_modality(contents)
    contents["labels"] = {"0": "background", "1": "whole", "2": "core"}
    for key in ("file_ending", "regions_class_order"):
        del contents[key]
    contents |= {"training": [{"image": "./imagesTr/Tr0.nii.gz"}], "test": [], "tensorImageSize": "4D"}


def without_number(contents):
    del contents["numTraining"]


def without_reader(contents):
    contents["overwrite_image_reader_writer"] = None


@pytest.mark.parametrize("change", [with_modality, of_the_first_version, without_number, without_reader])
def test_forms_of_dataset_json(tmp_path, change):
    """What is written has the documented form, whatever was given."""
    write_dataset(inspect_folder(rewrite_json(make_dataset(tmp_path / "source"), change)), tmp_path / "target")
    written = json.loads((tmp_path / "target" / "dataset.json").read_text())
    assert written["channel_names"] == {"0": "c0", "1": "c1"}
    assert written["labels"]["core"] == 2
    assert (written["file_ending"], written["numTraining"]) == (".nii.gz", 5)
    assert not written.keys() & {"modality", "overwrite_image_reader_writer", "training", "test", "tensorImageSize"}
    assert len(list((tmp_path / "target" / "imagesTr").iterdir())) == 10


def test_regions_of_four_channels(tmp_path):
    """As BraTS has them; the segmentations are stored as floats."""
    regions = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    folder = make_dataset(tmp_path / "source", n_channels=4, labels=regions, regions_class_order=[1, 2, 3])
    for file in (folder / "labelsTr").iterdir():
        write_nifti(file, labels(1, 2, 3).astype(np.float32))
    write_dataset(inspect_folder(folder), tmp_path / "target")
    written = json.loads((tmp_path / "target" / "dataset.json").read_text())
    assert (written["labels"], written["regions_class_order"]) == (regions, [1, 2, 3])


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_images_of_two_axes(tmp_path, ending):
    for i in range(6):
        write_nifti(tmp_path / "source" / "images" / f"{i}{ending}", image((9, 8)))
        write_nifti(tmp_path / "source" / "labels" / f"{i}{ending}", labels(1, 3, shape=(9, 8)))
    data = inspect_folder(tmp_path / "source")
    assert data.is_flat
    write_dataset(data, tmp_path / "target")
    read = sitk.ReadImage(str(tmp_path / "target" / "labelsTr" / f"{data.training[0].name}{ending}"))
    assert np.array_equal(sitk.GetArrayFromImage(read), labels(1, 2, shape=(9, 8)))


def test_spacing_that_was_lost_is_told(tmp_path):
    folder = make_dataset(tmp_path)
    for file in (*(folder / "imagesTr").iterdir(), *(folder / "labelsTr").iterdir()):
        write_nifti(file, sitk.GetArrayFromImage(sitk.ReadImage(str(file))), spacing=(1, 1, 1))
    assert inspect_folder(folder).notes[0].startswith("every voxel has 1 x 1 x 1 mm; where that is not so")


def test_channels_on_two_grids(tmp_path):
    """CT and PET as the scanner gives them."""
    folder = make_dataset(tmp_path)
    write_nifti(folder / "imagesTr" / "Tr1_0001.nii.gz", image((2, 3, 2)), spacing=(2.5, 2.0, 4.0))
    with pytest.raises(ValueError, match=r"Tr1_0001.* and Tr1_0000\.nii\.gz differ in size or spacing; resample one"):
        inspect_folder(folder)


def test_truncated_image(tmp_path):
    file = make_pairs(tmp_path) / "images" / "case1.nii.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"case1\.nii\.gz cannot be read to its end"):
        inspect_folder(tmp_path)


def test_alpha_is_dropped_and_labels_are_renumbered(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 255, (9, 8, 4), dtype=np.uint8)
    for i in range(6):
        write_png(tmp_path / "source" / "images" / f"{i}.png", rgba)
        write_png(tmp_path / "source" / "labels" / f"{i}.png", labels(255, 7, shape=(9, 8)))
    data = inspect_folder(tmp_path / "source")
    assert data.is_flat
    assert data.notes[0] == "label values become 0 → 0, 7 → 1, 255 → 2"
    write_dataset(data, tmp_path / "target")
    case = data.training[0].name
    assert np.array_equal(imread(tmp_path / "target" / "imagesTr" / f"{case}_0000.png"), rgba[..., :3])
    assert np.array_equal(imread(tmp_path / "target" / "labelsTr" / f"{case}.png"), labels(2, 1, shape=(9, 8)))
    assert data.dataset_json["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert data.dataset_json["labels"] == {"background": 0, "label 7": 1, "label 255": 2}


def spoil_pairs(folder, what):
    image_file, label_file = folder / "images" / "case1.nii.gz", folder / "labels" / "case1.nii.gz"
    match what:
        case "image without label":
            label_file.unlink()
        case "label without image":
            image_file.unlink()
        case "shape":
            write_nifti(label_file, labels(1, shape=(4, 6, 6)))
        case "spacing":
            write_nifti(label_file, labels(1), spacing=(1, 1, 1))
        case "no image":
            image_file.write_text("not an image")
        case "foreign file":
            (folder / "images" / "notes.txt").write_text("not an image")
        case "mixed endings":
            write_png(folder / "images" / "case9.png", labels(1, shape=(9, 8)))
        case "fraction":
            write_nifti(label_file, labels(1) * np.float32(0.5))
        case "negative":
            write_nifti(label_file, -labels(1).astype(np.int16))
        case "NaN":
            for part in ("images", "labels"):  # SimpleITK reads NaN in .nii.gz as 0
                for file in (folder / part).iterdir():
                    sitk.WriteImage(sitk.ReadImage(str(file)), str(file).replace(".nii.gz", ".mha"))
                    file.unlink()
            write_nifti(folder / "images" / "case1.mha", image() * np.nan)
        case "channels":
            write_nifti(image_file, image((2, *SHAPE)))
        case "no foreground":
            for file in (folder / "labels").iterdir():
                write_nifti(file, labels())
        case "four cases":
            for i in range(2):
                (folder / "images" / f"case{i}.nii.gz").unlink()
                (folder / "labels" / f"case{i}.nii.gz").unlink()
        case "empty":
            for file in [*(folder / "images").iterdir(), *(folder / "labels").iterdir()]:
                file.unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("image without label", r"images/case1\.nii\.gz has no label"),
        ("label without image", r"labels/case1\.nii\.gz has no image"),
        ("shape", r"case1.*\(4, 6, 6\).*\(4, 6, 5\).*must be equal"),
        ("spacing", r"case1.*spacing.*must be equal"),
        ("no image", r"case1\.nii\.gz cannot be read"),
        ("foreign file", r"notes\.txt is not an image"),
        ("mixed endings", r"mixes \.nii\.gz, \.png"),
        ("fraction", r"case1.*0\.5.*whole numbers"),
        ("negative", r"case1.*-1.*start at 0"),
        ("NaN", r"case1.*NaN"),
        ("channels", r"case1.*2 channels.*needs 1"),
        ("no foreground", r"nothing but 0"),
        ("four cases", r"4 cases to train on.*5 folds need as many"),
        ("empty", r"images is empty"),
    ],
)
def test_bad_pairs(tmp_path, what, message):
    spoil_pairs(make_pairs(tmp_path), what)
    with pytest.raises(ValueError, match=message) as error:
        inspect_folder(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "organ": 1}}, r"holds the label 2.*knows \[0, 1\]"),
        ({"labels": {"0": "background", "1": "organ"}}, r"holds the label 2.*knows \[0, 1\]"),
        ({"labels": {"background": 0, "organ": 1, "lesion": 3}}, r"names with consecutive numbers"),
        ({"regions_class_order": [1]}, r"regions whole, core and regions_class_order \[1\]: nnU-Net needs"),
        ({"channel_names": {"0": "CT"}}, r"2 channels.*needs 1"),
        ({"file_ending": ".png"}, r"is not an image of this data set.*CASE_0000\.png"),
        ({"channel_names": None, "modality": None}, None),
    ],
)
def test_bad_dataset_json(tmp_path, changes, message):
    folder = make_dataset(tmp_path, **{key: value for key, value in changes.items() if value})
    if message is None:
        (folder / "dataset.json").write_text("{}")
        message = "has no channel_names and no labels and no file_ending"
    with pytest.raises(ValueError, match=message):
        inspect_folder(folder)


def test_broken_json(tmp_path):
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match="is not a JSON file"):
        inspect_folder(tmp_path)


def test_no_such_folder_and_an_empty_one(tmp_path):
    with pytest.raises(ValueError, match="is empty: give an nnU-Net raw data set"):
        inspect_folder(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        inspect_folder(tmp_path / "none")

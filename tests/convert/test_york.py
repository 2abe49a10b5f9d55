import numpy as np
import pytest
from made_folders import circle, contours, make_york
from scipy.io import loadmat, savemat
from skimage.io import imread

from nnunet_archs.convert.layout import Options
from nnunet_archs.convert.layouts import LAYOUTS, inspect_layout
from nnunet_archs.convert.raw_data import write_dataset
from nnunet_archs.convert.york import CAVE, MYOCARDIUM, draw_contours


def area(points):
    """The shoelace formula."""
    x, y = points.T
    return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2


def inspect(folder):
    return inspect_layout(LAYOUTS["york"], folder, Options(), None, None)


def test_areas_are_the_contours(tmp_path):
    centre, inner, outer = (38.3, 17.6), 6.5, 11.2
    label = draw_contours(contours(centre, inner, outer), (40, 60), tmp_path)
    cave, whole = area(circle(centre, inner)), area(circle(centre, outer))
    assert (label == CAVE).sum() == pytest.approx(cave, abs=2 * inner)
    assert (label == MYOCARDIUM).sum() == pytest.approx(whole - cave, abs=2 * (inner + outer))
    rows, columns = np.nonzero(label == CAVE)
    assert (columns.mean(), rows.mean()) == pytest.approx(centre, abs=0.2)  # x and y, and counted from 0


def test_annotated_slices_alone_named_by_subject(tmp_path):
    data = inspect(make_york(tmp_path / "source"))
    write_dataset(data, tmp_path / "target")
    labels = sorted((tmp_path / "target" / "labelsTr").iterdir())
    assert len(labels) == 4 * (2 * 3 - 1)
    assert [file.stem for file in labels[:3]] == ["pat01_z01_t01", "pat01_z01_t02", "pat01_z02_t01"]
    volumes = loadmat(tmp_path / "source" / "sol_yxzt_pat2.mat")["sol_yxzt"]
    image = imread(tmp_path / "target" / "imagesTr" / "pat02_z02_t03_0000.png")
    assert np.array_equal(image, volumes[:, :, 1, 2])
    for trained, validated in data.folds:
        assert not set(trained) & set(validated)


def test_a_contour_of_one_wall_alone_is_no_annotation(tmp_path):
    folder = make_york(tmp_path / "source")
    file = folder / "manual_seg_32points_pat1.mat"
    cells = loadmat(file)["manual_seg_32points"]
    cells[1, 1][33:] = -99999
    savemat(file, {"manual_seg_32points": cells})
    write_dataset(inspect(folder), tmp_path / "target")
    assert len(list((tmp_path / "target" / "labelsTr").glob("pat01_*"))) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "manual_seg_32points_pat1",
            {"manual_seg_32points": np.zeros((2, 2))},
            r"\(2, 2\): it must have a cell",
        ),
        ("manual_seg_32points_pat1", {"a": 1}, r"holds no manual_seg_32points"),
        ("sol_yxzt_pat1", {"sol_yxzt": np.zeros((4, 4))}, r"must be y, x, z and time"),
        ("sol_yxzt_pat1", {"sol_yxzt": np.full((40, 60, 2, 3), -1)}, r"has values from -1 to -1"),
        ("sol_yxzt_pat1", None, r"cannot be read as a MATLAB file"),
    ],
)
def test_bad_files(name, content, message, tmp_path):
    folder = make_york(tmp_path / "source")
    file = folder / f"{name}.mat"
    if content is None:
        file.write_bytes(file.read_bytes()[:200])
    else:
        savemat(file, content)
    with pytest.raises(ValueError, match=message) as error:
        write_dataset(inspect(folder), tmp_path / "target")
    assert "\n" not in str(error.value)

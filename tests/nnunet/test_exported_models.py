"""The example that predicts from an exported model, without nnU-Net and without this package: as nnU-Net predicts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from tiny_dataset import ID, PLANS, Home, read_label_maps, save_untrained

from nnunet_archs.scripts.main import main

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "sliding_window.py"
# the plan's own spacing, one that asks for resampling, and one for resampling slice by slice; x, y, z in mm
SPACINGS = [(1.0, 1.0, 2.0), (0.8, 1.1, 1.7), (1.2, 0.9, 4.5)]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process")]


def write_images(source: Path, folder: Path) -> None:
    """A test image under several spacings, its origin and direction not the usual ones."""
    folder.mkdir()
    image = SimpleITK.ReadImage(sorted(source.glob("*_0000.nii.gz"))[0])
    image.SetOrigin((3.0, -5.0, 7.5))
    image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, -1))
    for case, spacing in enumerate(SPACINGS):
        image.SetSpacing(spacing)
        SimpleITK.WriteImage(image, folder / f"case{case}_0000.nii.gz")


def run_example(exported: Path, image: Path, output: Path) -> None:
    """Run the example in a process of its own, and see that it imports nothing of nnU-Net, of ours or of torch."""
    code = (
        "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__');"
        "assert not {'nnunetv2', 'nnunet_archs', 'torch', 'skimage'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *map(str, (EXAMPLE, exported, output, image))], check=True)


@pytest.mark.parametrize(
    ("trainer", "configuration", "folds"),
    [("UNetSharpTrainer_97epochs", "2d", [0, 1]), ("VNetPlusPlusTrainer_97epochs", "3d_fullres", [0])],
)
def test_example_reproduces_prediction(
    trainer: str, configuration: str, folds: list[int], home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold in folds:
        save_untrained(home, trainer, configuration, fold)
    model = home.results(trainer, configuration)
    capsys.readouterr()
    exported = tmp_path / "exported"
    assert main(["export", str(model), "--to", "onnx", "-o", str(exported)]) == 0
    assert "patches of e00, e04, e08" in capsys.readouterr().out
    images, ours, theirs = (tmp_path / name for name in ("images", "ours", "theirs"))
    write_images(home.raw / "imagesTs", images)
    named = ["-d", ID, "-tr", trainer, "-p", PLANS, "-c", configuration, "-f", *folds, "-device", "cpu"]
    home.run("nnUNetv2_predict", "-i", images, "-o", theirs, *named, "-npp", 0, "-nps", 0)
    ours.mkdir()
    for case in range(len(SPACINGS)):
        run_example(exported, images / f"case{case}_0000.nii.gz", ours / f"case{case}.nii.gz")
    expected, found = read_label_maps(theirs), read_label_maps(ours)
    assert found.keys() == expected.keys()
    for name, labels in expected.items():
        assert len(np.unique(labels)) == 3
        # sums in half precision: where two labels are as good, a rounding of float32 decides
        assert (found[name] != labels).mean() < 1e-3
        assert found[name].dtype == labels.dtype
        assert header(ours / name) == header(theirs / name)


def header(file: Path) -> tuple[object, ...]:
    image = SimpleITK.ReadImage(file)
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()

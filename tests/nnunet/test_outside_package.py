"""The package of docs/extending.md, and this one, installed by pip as anybody would, used from the checkout's folder.

That folder holds an incomplete `nnunet_archs/`, which must not be taken for the installed package.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from tiny_dataset import DATASET, ID, LIMIT, PLANS, Home, load_json, read_label_maps

ROOT = Path(__file__).parents[2]
OUTSIDE = Path(__file__).parents[1] / "outside_package"
SHORT = "_1epochs_1iterations"
TRAINER = f"LinkNetTrainer{SHORT}"
PLANNED, MATCHED = "LinkNetPlans", "LinkNet_memory_of_nnUNetPlans"
STUDY = f"""\
datasets: {ID}
configurations: 2d
trainers:
  - {{trainer: PlainConvUNetTrainer, plans: {PLANS}}}
  - {{trainer: LinkNetTrainer, plans: {PLANNED}}}
baseline: PlainConvUNet
folds: 0
epochs: 1
iterations: 1
device: cpu
planning: {{gpu_memory: 2, base_width: 4}}
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """An environment with both packages, and nnU-Net's folders with the tiny data set."""

    environment: Path
    home: Path

    @property
    def model(self) -> Path:
        return self.home / "nnUNet_results" / DATASET / f"{TRAINER}__{PLANNED}__2d"

    def run(self, *command: object, code: int = 0) -> str:
        """Run a command of the environment, from the checkout's folder."""
        name, *arguments = map(str, command)
        single = {"nnUNet_n_proc_DA": "0"} if name == "nnUNetv2_train" else {}
        folders = {name: str(self.home / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        process = subprocess.run(
            [self.environment / "bin" / name, *arguments],
            cwd=ROOT,
            env={**os.environ, **folders, **single, "nnUNet_extTrainer": str(self.search)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert process.returncode == code, process.stdout + process.stderr
        return process.stdout

    @property
    def search(self) -> Path:
        (site,) = self.environment.glob("lib/python*/site-packages")
        return site / "nnunet_archs" / "discovery"


@pytest.fixture(scope="module")
def installed(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What this environment has besides the two packages is seen from the new one, and its commands run there."""
    folder = tmp_path_factory.mktemp("outside")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "others.pth").write_text("\n".join({sysconfig.get_path(key) for key in ("purelib", "platlib")}) + "\n")
    python = environment / "bin" / "python"
    for script in Path(sys.executable).parent.glob("nnUNetv2_*"):
        (environment / "bin" / script.name).write_text(f"#!{python}\n{script.read_text().partition(chr(10))[2]}")
        (environment / "bin" / script.name).chmod(0o755)
    sources = []
    for source in (ROOT, OUTSIDE):  # copies: setuptools leaves build/ and *.egg-info where it works
        sources.append(folder / f"source_{source.name}")
        ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests", "demo_run", "docs")
        shutil.copytree(source, sources[-1], ignore=ignored)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q"]
    subprocess.run([python, "-m", "pip", "install", *options, *sources], check=True)
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        shutil.copytree(home.root / name / DATASET, folder / name / DATASET)
    (folder / "nnUNet_results").mkdir()
    return Installed(environment, folder)


def test_an_outside_trainer_is_like_ours(installed: Installed) -> None:
    """Listed, planned, trained with options, compared, predicted with, measured, exported, told of, packed and run."""
    run, home = installed.run, installed.home
    (row,) = [row for row in json.loads(run("nnunet-archs", "list", "--json")) if row["trainer"] == "LinkNetTrainer"]
    assert (row["package"], row["network"]) == ("linknet-for-nnunet", "LinkNet")

    planned = run("nnunet-archs", "plan", "-d", ID, "-tr", "LinkNetTrainer", "-c", "2d", "--match", "nnUNetPlans")
    assert f"| {MATCHED} | 2d |" in planned

    study = home / "compared.yaml"
    study.write_text(STUDY)
    run("nnunet-archs", "study", "run", study)
    plans = load_json(home / "nnUNet_preprocessed" / DATASET / f"{PLANNED}.json")  # made by a command of the study's
    assert plans["configurations"]["2d"]["architecture"]["network_class_name"] == "linknet.network.LinkNet"
    run("nnunet-archs", "study", "report", study)
    report = (home / "compared" / "report.html").read_text()
    assert "LinkNet" in report

    output = home / "predicted"
    model = ["-d", ID, "-tr", TRAINER, "-p", PLANNED, "-c", "2d", "-f", 0]
    images = home / "nnUNet_raw" / DATASET / "imagesTs"
    run("nnUNetv2_predict", "-i", images, "-o", output, *model, "-device", "cpu", "-npp", 0, "-nps", 0)
    predicted = read_label_maps(output)
    assert len(predicted) == 2

    table = run("nnunet-archs", "benchmark", "LinkNet", "UNet", "--repeats", 0, "--topology", "2d-paper")
    assert "| LinkNet | checkpoint |" in table
    told = run("nnunet-archs", "info", installed.model)
    assert "linknet.network.LinkNet" in told
    assert "_1epochs" in told
    exported = run("nnunet-archs", "export", installed.model, "--to", "onnx", "-f", 0, "-o", home / "exported")
    assert "differs from the checkpoint" in exported

    container = home / "container"
    sockets = ["--input-socket", "ct", "--output-socket", "organ"]
    run("nnunet-archs", "submit", "--container", container, *model, *sockets)
    check_container(installed, container, images, predicted)


def check_container(installed: Installed, container: Path, images: Path, predicted: dict[str, np.ndarray]) -> None:
    """The entry point, with the wheels that lie in the container's folder and nothing else of the two packages."""
    wheels = sorted(container.glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in wheels] == ["linknet_for_nnunet", "nnunet_archs"]
    lines = (container / "requirements.txt").read_text().splitlines()
    assert sorted(line for line in lines if line.startswith("./")) == [f"./{wheel.name}" for wheel in wheels]
    assert not [line for line in lines if line.startswith(("nnunet-archs==", "linknet"))]
    site, models, output = (installed.home / name for name in ("site", "models", "output"))
    options = ["-q", "--no-deps", "--no-index", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *wheels], check=True)
    with tarfile.open(container / "model.tar.gz") as archive:
        archive.extractall(models, filter="data")
    image = min(images.iterdir())
    given = container / "test" / "input" / "images" / "ct" / "scan.mha"
    SimpleITK.WriteImage(SimpleITK.ReadImage(image), given)
    output.mkdir()
    folders = ["--input", container / "test" / "input", "--output", output, "--model", models]
    process = subprocess.run(
        [sys.executable, container / "inference.py", *map(str, folders)],
        env={"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    made = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(output / "images" / "organ" / "scan.mha"))
    assert np.array_equal(made, predicted[image.name.replace("_0000", "")])

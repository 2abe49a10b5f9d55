"""`nnunet-archs submit` with nnU-Net's own commands: file by file what they make; and the container's entry point."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import SimpleITK
from tiny_dataset import DATASET, ID, LIMIT, PLANS, Home, load_json, read_label_maps, save_untrained

from nnunet_archs.scripts.main import main

TRAINER = "UNetSharpTrainer_96epochs"
FOLDS = {"2d": [0, 1, 2, 3, 4], "3d_fullres": [0, 1]}  # of each configuration
MODEL = ("-tr", TRAINER, "-p", PLANS)
NOBODY = 65534

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _models(home: Home, in_process: None) -> None:
    home.once("submission_models", lambda: save_models(home))


def save_models(home: Home) -> None:
    for configuration, folds in FOLDS.items():
        for fold in folds:
            save_untrained(home, TRAINER, configuration, fold)


def submit(home: Home, output: Path, *arguments: str) -> None:
    images = home.raw / "imagesTs"
    assert main(["submit", "-d", ID, "-i", str(images), "-o", str(output), "-device", "cpu", *arguments]) == 0


def packed(package: Path, folder: Path) -> dict[str, np.ndarray]:
    with ZipFile(package) as archive:
        archive.extractall(folder)
    return read_label_maps(folder)


def assert_equal(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    assert ours
    for name, label_map in theirs.items():
        assert np.array_equal(ours[name], label_map)
        assert label_map.any()


def by_nnunet(home: Home, configuration: str, folds: list[int], *flags: str) -> Path:
    """nnU-Net's own prediction, in the folder that is returned."""
    output = home.root / "submission_by_nnunet" / "_".join([configuration, *map(str, folds)])
    home.once(
        output.name + "_by_nnunet",
        lambda: home.predict(TRAINER, configuration, folds, output, *flags),
    )
    return output


def test_five_folds_of_a_model(home: Home, tmp_path: Path) -> None:
    submit(home, tmp_path / "out", *MODEL, "-c", "2d", "--rename", "{case}_seg")
    theirs = read_label_maps(by_nnunet(home, "2d", FOLDS["2d"], "--save_probabilities"))
    renamed = {name.replace(".nii.gz", "_seg.nii.gz"): label_map for name, label_map in theirs.items()}
    assert_equal(packed(tmp_path / "out" / "submission.zip", tmp_path / "packed"), renamed)


def test_best_of_all(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searched and postprocessed, all by nnU-Net; results in a folder of their own, for the search takes all there."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    for fold in FOLDS["2d"]:
        save_untrained(home, TRAINER, "2d", fold).perform_actual_validation()
    submit(home, tmp_path / "out")
    information = load_json(tmp_path / "results" / DATASET / "inference_information.json")
    best = information["best_model_or_ensemble"]
    assert [model["configuration"] for model in best["selected_model_or_models"]] == ["2d"]
    made = by_nnunet(home, "2d", FOLDS["2d"], "--save_probabilities")  # of the same models
    files = ["-pp_pkl_file", best["postprocessing_file"], "-plans_json", best["some_plans_file"]]
    home.run("nnUNetv2_apply_postprocessing", "-i", made, "-o", tmp_path / "theirs", *files, "-np", 1)
    assert_equal(packed(tmp_path / "out" / "submission.zip", tmp_path / "packed"), read_label_maps(tmp_path / "theirs"))


def test_container_of_an_ensemble(home: Home, tmp_path: Path) -> None:
    """As another user, in an empty environment, without a network, with the wheel that lies in the folder."""
    container = tmp_path / "container"
    both = [*MODEL, "-c", *FOLDS, "-f", "0", "1"]
    sockets = ["--input-socket", "ct", "--output-socket", "organ"]
    assert main(["submit", "-d", ID, "--container", str(container), *both, *sockets]) == 0
    assert (container / "requirements.txt").read_text().startswith("./nnunet_archs-")
    site, models, output = tmp_path / "site", tmp_path / "models", tmp_path / "output"
    (wheel,) = container.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True)
    with tarfile.open(container / "model.tar.gz") as archive:
        archive.extractall(models, filter="data")
    output.mkdir()
    for folder in (output, *list(tmp_path.parents)[:-2]):
        folder.chmod(0o777 if folder == output else 0o755)

    theirs = tmp_path / "theirs"
    made = [by_nnunet(home, configuration, [0, 1], "--save_probabilities") for configuration in FOLDS]
    home.run("nnUNetv2_ensemble", "-i", *made, "-o", theirs, "-np", 1)
    image = min((home.raw / "imagesTs").iterdir())
    name = image.name.replace("_0000", "")
    given = container / "test" / "input" / "images" / "ct" / "scan.mha"
    SimpleITK.WriteImage(SimpleITK.ReadImage(image), given)
    run_offline(container, site, models, output)
    ours = SimpleITK.ReadImage(output / "images" / "organ" / "scan.mha")
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(ours, get)() == getattr(SimpleITK.ReadImage(given), get)()
    assert_equal({name: SimpleITK.GetArrayFromImage(ours)}, {name: read_label_maps(theirs)[name]})


def run_offline(container: Path, site: Path, models: Path, output: Path) -> None:
    arguments = ["--input", container / "test" / "input", "--output", output, "--model", models]
    command = [*confinement(), sys.executable, container / "inference.py", *arguments]
    # the network, and writing anywhere else, must fail
    (site / "sitecustomize.py").write_text(
        "import socket\n"
        "def refuse(*_): raise OSError('no network here')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
    )
    process = subprocess.run(
        list(map(str, command)),
        env={"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert str(site) in process.stdout  # nnU-Net found the trainer in the wheel


def confinement() -> list[str]:
    """What runs a command as a user that may read but not write, and without a network, as far as that is permitted."""
    tried = [["unshare", "--net"]]
    if os.getuid() == 0:
        may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # a Python below /root
        tried.append(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *may_read])
    return [
        word
        for words in tried
        if shutil.which(words[0]) and subprocess.run([*words, "true"], capture_output=True).returncode == 0
        for word in words
    ]

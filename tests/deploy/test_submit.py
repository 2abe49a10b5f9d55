"""`nnunet-archs submit` without training: what is run, packed and refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import SimpleITK
import torch
from highdicom.seg import segread
from series import write_series

from nnunet_archs.deploy import inference
from nnunet_archs.deploy import submission as command
from nnunet_archs.deploy.inference import CHOICES, Clock, Predictor
from nnunet_archs.nnunet.steps import Step
from nnunet_archs.scripts.main import main

DATASET = "Dataset901_Fake"
PLANS = {
    "image_reader_writer": "SimpleITKIO",
    "configurations": {"2d": {}, "3d_lowres": {}, "3d_cascade_fullres": {"previous_stage": "3d_lowres"}},
}
LABELS = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
CASES = ("a", "b")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "nnUNet_raw" / DATASET).mkdir(parents=True)
    (tmp_path / "nnUNet_raw" / DATASET / "dataset.json").write_text(json.dumps(LABELS))
    (tmp_path / "images").mkdir()
    for case in CASES:
        write(tmp_path / "images" / f"{case}_0000.nii.gz", 100)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The steps that ran: none of nnU-Net's commands, but what they would write."""
    commands: list[list[str]] = []

    def do(step: Step, device: str) -> None:
        if step.is_done():
            return
        commands.append([Path(step.command[0]).name, *step.command[1:]])
        for file in step.products:
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix != ".npz" and not file.exists():
                write(file, 1)
            elif file.suffix == ".npz":
                file.write_bytes(b"")
        assert step.stamp
        step.stamp.touch()

    monkeypatch.setattr(command, "do", do)
    return commands


def write(file: Path, value: int) -> None:
    array = np.zeros((4, 5, 6), np.uint8)
    array[1:3] = value
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(file))


def model(configuration: str = "2d", trainer: str = "nnUNetTrainer", labels: dict[str, object] = LABELS) -> Path:
    folder = Path("nnUNet_results", DATASET, f"{trainer}__nnUNetPlans__{configuration}")
    for fold in range(5):
        (folder / f"fold_{fold}" / "validation").mkdir(parents=True)
        (folder / f"fold_{fold}" / "validation" / "summary.json").write_text("{}")
        (folder / f"fold_{fold}" / "validation" / "x.nii.gz").touch()
        with ZipFile(folder / f"fold_{fold}" / "checkpoint_final.pth", "w") as archive:
            archive.writestr("weights", "0" * 1000)
    (folder / "plans.json").write_text(json.dumps(PLANS))
    (folder / "dataset.json").write_text(json.dumps(labels))
    return folder


def submit(*arguments: str, output: str = "out") -> int:
    return main(["submit", "-d", "901", "-i", "images", "-o", output, "-device", "cpu", *arguments])


def test_package(ran: list[list[str]]) -> None:
    model()
    assert submit("-c", "2d", "--rename", "{case}_seg") == 0
    package = Path("out", "submission.zip")
    with ZipFile(package) as archive:
        assert archive.namelist() == ["a_seg.nii.gz", "b_seg.nii.gz"]
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    content = package.read_bytes()
    (predict,) = ran
    assert predict[0] == "nnUNetv2_predict"
    assert predict[predict.index("-f") + 1 :][:5] == ["0", "1", "2", "3", "4"]
    assert "--continue_prediction" in predict
    assert submit("-c", "2d", "--rename", "{case}_seg") == 0
    assert len(ran) == 1
    assert package.read_bytes() == content
    check_only = ["submit", "-d", DATASET, "-i", "images", "--check-only", str(package)]
    assert main([*check_only, "--rename", "{case}_seg"]) == 0
    assert main(check_only) == 2


def test_dicom_in_and_out(ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    folder = model()
    shutil.rmtree("images")
    for case in ("a_0000", "b"):
        write_series(Path("images", case), np.arange(120).reshape(4, 5, 6))
    assert submit("-c", "2d", "--dicom") == 0
    (predict,) = ran
    assert predict[predict.index("-i") + 1] == str(Path("out", "images"))
    image = SimpleITK.ReadImage(str(Path("out", "images", "b_0000.nii.gz")))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).ravel(), np.arange(120))
    for case in CASES:
        assert Path("out", folder.name, f"{case}.nii.gz").exists()
        written = segread(Path("out", "dicom", f"{case}.dcm"))
        assert [segment.SegmentLabel for segment in written.SegmentSequence] == ["organ"]
        assert written.NumberOfFrames == 2  # as many slices have some of it
    assert submit("-c", "2d", "--dicom") == 0  # what is converted is not converted again, nor predicted
    assert len(ran) == 1
    write_series(Path("images", "c"), np.zeros((4, 5, 6), int), left_out=[1])
    assert submit("-c", "2d", "--dicom") == 2
    assert "c has slices that are not evenly spaced" in capsys.readouterr().err.splitlines()[-1]


def test_modality_in_place_of_channel_names(ran: list[list[str]]) -> None:
    model(labels={key: value for key, value in LABELS.items() if key != "channel_names"} | {"modality": {"0": "CT"}})
    raw = Path("nnUNet_raw", DATASET, "dataset.json")
    raw.write_text(raw.read_text().replace("channel_names", "modality"))
    assert submit("-c", "2d") == 0
    sockets = ("--input-socket", "ct", "--output-socket", "organ")
    assert main(["submit", "-d", "901", "-c", "2d", "--container", "container", *sockets]) == 0
    assert main(["submit", "-d", "901", "-i", "images", "--check-only", str(Path("out", "submission.zip"))]) == 0


def test_truncated_file_is_refused_by_its_case(ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("out", model().name)
    assert submit("-c", "2d") == 0
    for share in (0.3, 0.5, 0.7, 0.98):
        content = (folder / "a.nii.gz").read_bytes()
        (folder / "b.nii.gz").write_bytes(content[: int(share * len(content))])
        check_only = ["submit", "-d", DATASET, "-i", "images", "--check-only", str(folder)]
        assert main(check_only) == 2
        assert "b: cannot be read to its end (b.nii.gz)" in capsys.readouterr().out


def test_ensemble_across_networks(ran: list[list[str]]) -> None:
    models = [model(), model(trainer="UNetSharpTrainer")]
    assert submit("-tr", "nnUNetTrainer", "UNetSharpTrainer", "-c", "2d", "-f", "0", "1") == 0
    first, second, average = ran
    assert "--save_probabilities" in first
    assert "--save_probabilities" in second
    assert average[:5] == ["nnUNetv2_ensemble", "-i", *(str(Path("out") / folder.name) for folder in models), "-o"]


def test_cascade_begins_with_its_first_stage(ran: list[list[str]]) -> None:
    model("3d_lowres")
    model("3d_cascade_fullres")
    assert submit("-c", "3d_cascade_fullres") == 0
    first, second = ran
    assert first[first.index("-c") + 1] == "3d_lowres"
    previous = second[second.index("-prev_stage_predictions") + 1]
    assert previous == str(Path("out", "nnUNetTrainer__nnUNetPlans__3d_lowres"))


def test_best_with_its_postprocessing(ran: list[list[str]]) -> None:
    folder = model()
    postprocessing = Path(folder.parent, "postprocessing.pkl").absolute()
    best = {
        "selected_model_or_models": [
            {"trainer": "nnUNetTrainer", "plans_identifier": "nnUNetPlans", "configuration": "2d"}
        ],
        "postprocessing_file": str(postprocessing),
    }
    information = Path(folder.parent, "inference_information.json")
    information.write_text(json.dumps({"folds": [0, 1, 2, 3, 4], "best_model_or_ensemble": best}))
    assert submit() == 2
    postprocessing.touch()
    assert submit() == 0
    assert [step[0] for step in ran] == ["nnUNetv2_predict", "nnUNetv2_apply_postprocessing"]
    assert ran[1][ran[1].index("-pp_pkl_file") + 1] == str(postprocessing)


def test_goes_on_and_makes_again_what_was_cut_off(ran: list[list[str]]) -> None:
    folder = Path("out", model().name)
    assert submit("-c", "2d") == 0
    (folder / "done.txt").unlink()
    whole, cut_off = (folder / f"{case}.nii.gz" for case in CASES)
    written, content = whole.stat().st_mtime_ns, cut_off.read_bytes()
    cut_off.write_bytes(content[: len(content) // 2])
    assert submit("-c", "2d") == 0
    assert len(ran) == 2
    assert whole.stat().st_mtime_ns == written
    assert cut_off.read_bytes() == content


def test_other_images_or_models_are_not_mixed_in(ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = model() / "fold_3" / "checkpoint_final.pth"
    assert submit("-c", "2d") == 0
    os.utime(checkpoint, (1, 1))
    assert submit("-c", "2d") == 2
    assert "out is of other models, images or options (request.json)" in capsys.readouterr().err
    assert submit("-c", "2d", output="other") == 0
    assert submit("-c", "2d", "--no-mirroring", output="other") == 2


def test_empty_file(ran: list[list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("out", model().name)
    assert submit("-c", "2d") == 0
    write(folder / "b.nii.gz", 0)
    assert submit("-c", "2d") == 2
    assert "first b: has no foreground at all" in capsys.readouterr().err
    assert not list(Path("out").glob("*submission*"))
    assert submit("-c", "2d", "--allow-empty") == 0
    assert "warning: b: has no foreground at all" in capsys.readouterr().out


def test_full_disk(ran: list[list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = model()
    assert submit("-c", "2d") == 0
    for module in (shutil, tarfile):
        monkeypatch.setattr(module, "copyfileobj", copy)
    assert submit("-c", "2d") == 2
    sockets = ("--input-socket", "ct", "--output-socket", "organ")
    assert main(["submit", "-d", "901", "-c", "2d", "--container", "container", *sockets]) == 2
    assert capsys.readouterr().err.count("the disk is full") == 2
    assert not list(Path("out").glob("*submission*"))
    assert not list(Path().glob("*container*"))
    assert folder.is_dir()


def lacks_a_fold() -> None:
    (model() / "fold_3" / "checkpoint_final.pth").unlink()


def has_a_cut_off_checkpoint() -> None:
    file = model() / "fold_3" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:-30])


def lacks_probabilities() -> None:
    model()
    model("3d_lowres")


def knows_other_labels() -> None:
    model()
    model(trainer="UNetSharpTrainer", labels={**LABELS, "labels": {"background": 0, "tumour": 1}})


def has_another_channel() -> None:
    model()
    write(Path("images", "b_0001.nii.gz"), 100)


BAD: dict[str, tuple[Callable[[], object], tuple[str, ...], str]] = {
    "fold": (lacks_a_fold, ("-c", "2d"), "fold 3 of "),
    "checkpoint": (has_a_cut_off_checkpoint, ("-c", "2d"), "checkpoint_final.pth is cut off"),
    "probabilities": (
        lacks_probabilities,
        (),
        "run nnUNetv2_train 901 2d 0 -tr nnUNetTrainer -p nnUNetPlans --val --npz",
    ),
    "labels": (knows_other_labels, ("-tr", "nnUNetTrainer", "UNetSharpTrainer", "-c", "2d"), "knows other labels"),
    "channel": (has_another_channel, ("-c", "2d"), "b has 2 channels (b_0000.nii.gz, b_0001.nii.gz)"),
    "no model": (lambda: None, ("-c", "2d"), "has no plans.json; name a model that is there (there is none)"),
    "no models": (lambda: None, (), "has no model with all five folds"),
    "pairs": (model, ("-tr", "a", "b", "-c", "2d", "3d_lowres", "x"), "-tr has 2 names, and another 3"),
    "no configuration": (model, ("-tr", "nnUNetTrainer"), "add -c, or leave them out"),
    "pattern": (model, ("-c", "2d", "--rename", "seg"), "--rename 'seg'"),
    "step size": (model, ("-c", "2d", "--step-size", "2"), "--step-size 2: give a share"),
    "no series": (model, ("-c", "2d", "--dicom"), "images has no folders; give the one with a folder for each"),
    "check only": (model, ("--check-only", "x.zip"), "-o does not go with --check-only, -i"),
    "time limit": (model, ("-c", "2d", "--time-limit", "9"), "--time-limit does not go with"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    prepare, arguments, said = BAD[name]
    prepare()
    assert submit(*arguments) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert said in error
    assert not ran
    assert not Path("out").exists()


def test_unknown_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "-d", "77", "-i", "images", "-o", "out"]) == 2
    assert "nnU-Net finds no data set 77" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--input-socket", "ct", "mr", "--output-socket", "organ"), "--input-socket names 2, and a case has 1 images"),
        (("--input-socket", "CT scan", "--output-socket", "organ"), "CT scan is no socket's slug"),
        (("--input-socket", "ct"), "--output-socket is missing"),
        (
            ("--input-socket", "ct", "--output-socket", "o", "--time-limit", "9", "--no-mirroring"),
            "--time-limit decides",
        ),
        (
            ("--input-socket", "ct", "--output-socket", "o", "-tr", "MyTrainer"),
            "MyTrainer is of no installed package",
        ),
    ],
)
def test_container_that_would_not_run(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model()
    model(trainer="MyTrainer")
    assert main(["submit", "-d", "901", "-c", "2d", "--container", "container", *arguments]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path().glob("*container*"))


@pytest.mark.parametrize(("seconds", "chosen"), [(1e9, 0), (3000, 1), (1200, 2), (200, 4), (1, 4)])
def test_time_limit(seconds: float, chosen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window takes a second; an image of 9 x 9 x 9 half patches, mirrored in three axes."""
    predictor = Predictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.allowed_mirroring_axes = (0, 1, 2)
    predictor.configuration_manager = type("Configuration", (), {"patch_size": [8, 8, 8]})
    monkeypatch.setattr(predictor, "seconds_per_pass", lambda image: 1.0)
    monkeypatch.setattr(inference.time, "monotonic", lambda: 0.0)
    image = torch.zeros(1, 40, 40, 40)
    passes = [predictor.n_passes(image, step, is_mirrored=mirrored) for step, mirrored in CHOICES]
    assert passes == [9**3 * 8, 7**3 * 8, 9**3, 7**3, 5**3]
    clock = Clock(end=2 * seconds, n_folds=2)
    assert predictor.choose(image, clock) == CHOICES[chosen]

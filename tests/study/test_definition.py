"""The study file: what it says, and what is wrong with it, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest
from planning import CT, HIPPOCAMPUS, set_folders, write_dataset

from nnunet_archs.scripts.main import main
from nnunet_archs.study.definition import Executor, Network, Planning, read_study

GOOD = """\
datasets: 801
configurations: [3d_fullres, 2d]
trainers:
  - PlainConvUNetTrainer
  - {trainer: UNetSharpTrainer_DiceCE, plans: UNetSharpPlans, name: "UNet#"}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nnunet")
    for name in (HIPPOCAMPUS, CT):
        write_dataset(folder, name, [1, 1, 1], [[40, 40, 40]] * 5)
    return folder


@pytest.fixture(autouse=True)
def folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_folders(root, monkeypatch)


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text)
    return file


def test_defaults(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, GOOD))
    assert study.datasets == (HIPPOCAMPUS,)
    assert study.configurations == ("3d_fullres", "2d")
    assert study.networks == (
        Network("PlainConvUNet", "PlainConvUNetTrainer", "nnUNetPlans"),
        Network("UNet#", "UNetSharpTrainer_DiceCE", "UNetSharpPlans"),
    )
    assert (study.baseline, study.folds, study.tolerance) == (None, (0, 1, 2, 3, 4), 1.0)
    assert (study.planning, study.executor) == (Planning(), Executor())
    assert study.test is None  # whoever does not ask sees no test case
    assert study.folder == tmp_path / "mine"


def test_all_that_can_be_said(tmp_path: Path) -> None:
    more = """\
plans: OtherPlans
baseline: PlainConvUNet
folds: [3, 0]
test: imagesTs
epochs: 7
iterations: 20
planning: {gpu_memory: 24, base_width: 16}
tolerance: 2
device: cpu
executor: {kind: submitit, cluster: local, jobs: 3, parameters: {timeout_min: 5}}
"""
    study = read_study(write(tmp_path, GOOD.replace("801", f"[801, {CT}]") + more))
    assert study.datasets == (HIPPOCAMPUS, CT)
    assert study.networks[0] == Network("PlainConvUNet", "PlainConvUNetTrainer_7epochs_20iterations", "OtherPlans")
    assert study.networks[1].trainer == "UNetSharpTrainer_DiceCE_7epochs_20iterations"
    assert (study.baseline, study.folds, study.tolerance, study.device) == ("PlainConvUNet", (0, 3), 2.0, "cpu")
    assert study.test == "imagesTs"
    assert study.planning == Planning(gpu_memory=24, base_width=16)
    assert study.executor == Executor("submitit", cluster="local", jobs=3, parameters={"timeout_min": 5})


def test_a_trainer_of_nnunets_own(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, GOOD.replace("PlainConvUNetTrainer", "nnUNetTrainer_5epochs")))
    assert study.networks[0] == Network("nnUNet_5epochs", "nnUNetTrainer_5epochs", "nnUNetPlans")


@pytest.mark.parametrize(
    ("baseline", "name"),
    [
        ("plain", "plain"),
        ("PlainConvUNetTrainer", "plain"),
        ("CAggNetTrainer_5epochs", "CAggNet"),
        ("CAggNetTrainer_DiceCE", "CAggNet_DiceCE"),
        ("CAggNetTrainer_DiceCE_5epochs", "CAggNet_DiceCE"),
        ("CAggNetTrainer", "CAggNet"),
        ("UNetSharpTrainer", "UNetSharp_L2"),
    ],
)
def test_the_baseline_by_its_name_or_its_trainers(baseline: str, name: str, tmp_path: Path) -> None:
    trainers = (
        "[{trainer: PlainConvUNetTrainer, name: plain}, CAggNetTrainer, CAggNetTrainer_DiceCE, UNetSharpTrainer_L2]"
    )
    text = f"datasets: 801\nconfigurations: 2d\ntrainers: {trainers}\nepochs: 5\nbaseline: {baseline}\n"
    assert read_study(write(tmp_path, text)).baseline == name


BAD = {
    "a key that is unknown": ("epoch: 5", 6, "unknown key epoch; the keys are datasets"),
    "a key that is there twice": ("folds: 1\nfolds: 2", 7, "folds is here twice"),
    "no YAML": ("folds: [0", 7, "not valid YAML"),
    "a fold that is none": ("folds: [0, -1]", 6, "fold -1 is not a fold"),
    "a fold that is there twice": ("folds: [0, 0]", 6, "folds has 0 twice"),
    "no folds": ("folds: []", 6, "folds is empty"),
    "a test set of elsewhere": ("test: labelsTs", 6, "test labelsTs is unknown; there are imagesTs (with labelsTs)"),
    "a test set of nowhere": ("test: true", 6, "test must be a word, and is True"),
    "no epochs": ("epochs: 0", 6, "epochs must be above 0, and is 0"),
    "epochs that are no number": ("epochs: many", 6, "epochs must be a whole number, and is 'many'"),
    "a baseline that is none": (
        "baseline: VNet",
        6,
        "baseline VNet is none of the networks; name one of",
    ),
    "a device that is none": ("device: tpu", 6, "unknown device tpu"),
    "an executor that is none": ("executor: pbs", 6, "executor pbs is unknown; there are local, submitit"),
    "a key of another executor": ("executor:\n  kind: local\n  cluster: slurm", 8, "unknown key cluster"),
    "a GPU that is none": ("executor: {kind: local, gpus: [a]}", 6, "GPU a is not a GPU"),
    "a cluster's job of 5 minutes": ("executor: {kind: submitit}", 6, "parameters need timeout_min"),
    "a plan option that is unknown": ("planning: {memory: 8}", 6, "unknown key memory"),
    "no tolerance": ("tolerance: -1", 6, "tolerance must be above 0"),
    "endless tolerance": ("tolerance: .inf", 6, "tolerance must be above 0"),
    "plans with two underscores": ("plans: my__plans", 4, "my__plans: a name has letters"),
}


@pytest.mark.parametrize(("text", "line", "what"), BAD.values(), ids=BAD)
def test_what_is_added_is_wrong(
    text: str, line: int, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, f"{GOOD}{text}\n")
    assert main(["study", "run", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"nnunet-archs: error: {file}:{line}: {what}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [file]


REPLACED = {
    "an unknown data set": ("801", "805", 1, "nnU-Net finds no data set 805"),
    "a name of another's ID": ("801", "Dataset801_Other", 1, "nnU-Net finds no data set Dataset801_Other, but"),
    "a data set that is none": ("801", "[[801]]", 1, "[801] is not a data set"),
    "a data set twice": ("801", f"[801, {HIPPOCAMPUS}]", 1, f"{HIPPOCAMPUS} is here twice"),
    "a configuration that is none": ("[3d_fullres, 2d]", "[[2d]]", 2, "['2d'] is not a configuration"),
    "a configuration with a slash": ("[3d_fullres, 2d]", "3d/2d", 2, "3d/2d: a name has letters"),
    "an unknown trainer": ("PlainConvUNetTrainer", "MyTrainer", 4, "MyTrainer: there is no such trainer"),
    "an unknown option": ("_DiceCE", "_L9x", 5, "UNetSharpTrainer has no option _L9x"),
    "a trainer that is no name": ("- PlainConvUNetTrainer", "- 5", 4, "a trainer is its name, or"),
    "an unknown key of a trainer": ("name:", "title:", 5, "unknown key title"),
    "two of a name": ("UNet#", "PlainConvUNet", 5, "two networks are called PlainConvUNet"),
    "the same twice": (
        '"UNet#"}',
        '"a"}\n  - {trainer: PlainConvUNetTrainer, name: b}',
        6,
        "b has trainer and plans of",
    ),
    "no trainers": ("trainers:", "baseline:", 1, "trainers is missing"),
}


@pytest.mark.parametrize(("old", "new", "line", "what"), REPLACED.values(), ids=REPLACED)
def test_what_is_changed_is_wrong(old: str, new: str, line: int, what: str, tmp_path: Path) -> None:
    file = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=r"yaml:\d") as error:
        read_study(file)
    assert str(error.value).startswith(f"{file}:{line}: {what}")


def test_length_for_a_trainer_of_nnunets_own(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD.replace("PlainConvUNetTrainer", "nnUNetTrainer") + "epochs: 5\n")
    with pytest.raises(ValueError, match=r":4: nnUNetTrainer takes no epochs or iterations from the study"):
        read_study(file)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml cannot be read"):
        read_study(tmp_path / "none.yaml")


def test_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(ValueError, match="nnUNet_results is not set; export"):
        read_study(write(tmp_path, GOOD))

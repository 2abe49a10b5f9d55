import contextlib
import importlib.util
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_archs.discovery import discovery_folder
from nnunet_archs.trainers import registry

NAME = "UNetSharpTrainer_5epochs"


@pytest.fixture(autouse=True)
def _extension_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", discovery_folder())


@pytest.fixture
def module() -> ModuleType:
    """The discovery module, as nnU-Net loads it: top-level, and not in `sys.modules`."""
    name = "nnunet_archs_trainers"
    spec = importlib.util.spec_from_file_location(name, Path(discovery_folder(), f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def search(name: str) -> type:
    with contextlib.redirect_stdout(io.StringIO()):
        return recursive_find_trainer_class_by_name(name)


def test_nnunet_finds_the_class_made_from_the_name() -> None:
    found = search(NAME)
    assert found is registry.resolve_paper(NAME)
    assert found.__name__ == NAME


def test_two_searches_give_one_class() -> None:
    assert search(NAME) is search(NAME)
    assert "nnunet_archs_trainers" not in sys.modules


def test_found_class_can_be_pickled() -> None:
    found = search(NAME)
    assert pickle.loads(pickle.dumps(found)) is found


@pytest.mark.parametrize("name", sorted(registry.known()))
def test_every_trainer_is_found(name: str) -> None:
    assert search(name) is registry.resolve_paper(name)


@pytest.mark.parametrize("name", ["SomebodysTrainer", "SomebodysTrainer_5epochs", "nnUNetTrainer", "Dataset", "x"])
def test_names_of_others_are_left_to_others(module: ModuleType, name: str) -> None:
    assert not hasattr(module, name)


def test_nnunet_reports_an_unknown_trainer_itself() -> None:
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer SomebodysTrainer"):
        search("SomebodysTrainer")


def test_names_of_the_import_system_load_nothing() -> None:
    code = (
        "import sys; import nnunet_archs_trainers as module;"
        "assert not hasattr(module, '__path__') and not hasattr(module, 'something');"
        "assert not {'torch', 'nnunetv2', 'nnunet_archs'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=discovery_folder())


def test_bad_option_is_one_line(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        hasattr(module, "UNetSharpTrainer_bogus")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nnunet-archs: error: ")
    assert "bogus" in line


@pytest.mark.slow
def test_bad_option_ends_training_with_one_line(tmp_path: Path) -> None:
    folders = {name: str(tmp_path) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    train = Path(sys.executable).with_name("nnUNetv2_train")
    result = subprocess.run(
        [train, "4", "3d_fullres", "0", "-tr", "UNetSharpTrainer_bogus", "-device", "cpu"],
        capture_output=True,
        text=True,
        env=os.environ | folders,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stdout + result.stderr
    assert len([line for line in result.stderr.splitlines() if "nnunet-archs: error: " in line]) == 1
    assert list(tmp_path.iterdir()) == []

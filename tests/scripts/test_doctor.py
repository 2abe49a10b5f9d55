import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from nnunet_archs import files
from nnunet_archs.discovery import discovery_folder
from nnunet_archs.scripts import doctor
from nnunet_archs.scripts.doctor import FOLDERS, Finding


@pytest.fixture(autouse=True)
def _sound_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", discovery_folder())
    for variable in ("nnUNet_def_n_proc", "nnUNet_n_proc_DA", "nnUNet_compile"):
        monkeypatch.delenv(variable, raising=False)
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))


def findings(name: str) -> list[Finding]:
    return list(doctor.examine(name, doctor.CHECKS[name]))


def test_sound_installation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert doctor.run(argparse.Namespace()) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    assert {"Python", "torch", "nnunetv2", "nnUNet_extTrainer", *FOLDERS, "CPU"} <= {line.split()[1] for line in lines}
    assert all(not list((tmp_path / name).iterdir()) for name in FOLDERS)


def test_nothing_set_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for variable in ("nnUNet_extTrainer", *FOLDERS):
        monkeypatch.delenv(variable)
    assert doctor.run(argparse.Namespace()) == 1
    printed = capsys.readouterr().out
    for variable in ("nnUNet_extTrainer", *FOLDERS):
        assert f"export {variable}=" in printed


def test_a_check_that_breaks_is_a_finding() -> None:
    def check() -> Iterator[Finding]:
        yield Finding("ok", "first", "")
        raise ImportError("libcudart.so.12:\n cannot open shared object file")

    first, second = doctor.examine("torch", check)
    assert first.status == "ok"
    assert second == ("fix", "torch", "ImportError: libcudart.so.12: cannot open shared object file")


def test_missing_dependency_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: ["no-such-distribution>=1", 'pytest>=99; extra == "test"'])
    (finding,) = findings("dependencies")
    assert finding == ("fix", "no-such-distribution", 'not installed: pip install "no-such-distribution>=1"')


def test_torch_that_cannot_be_imported_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("GPU", "torch.compile"):
        (finding,) = findings(name)
        assert finding.status == "fix"
        assert "torch" in finding.text


@pytest.mark.parametrize("installed", ["2.4.0", "2.8.0+cu128", "2.10.0", "2.12.0.dev20260101+cpu"])
def test_versions_that_fit(installed: str) -> None:
    assert doctor.fits("torch", installed, SpecifierSet(">=2.4,!=2.9.*"), "").status == "ok"


@pytest.mark.parametrize("installed", ["2.3.1", "2.9.0", "2.9.1+cu126"])
def test_versions_that_do_not(installed: str) -> None:
    finding = doctor.fits("torch", installed, SpecifierSet(">=2.4,!=2.9.*"), "pip install")
    assert finding.status == "fix"
    assert finding.text.startswith(installed)
    assert finding.text.endswith("pip install")


def test_own_trainers_found_beside_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", f"{tmp_path}:~/trainers:{discovery_folder()}")
    skipped, found = findings("nnUNet_extTrainer")
    assert skipped.status == "warn"
    assert '"~" is not expanded' in skipped.text
    assert found.status == "ok"


def test_folder_without_our_trainers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    (finding,) = findings("nnUNet_extTrainer")
    assert finding.status == "fix"
    assert 'export nnUNet_extTrainer="$(nnunet-archs path):$nnUNet_extTrainer"' in finding.text


def test_missing_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "gone"))
    skipped, finding = findings("nnUNet_extTrainer")
    assert skipped.status == "warn"
    assert finding.status == "fix"
    assert finding.text.endswith('export nnUNet_extTrainer="$(nnunet-archs path)"')


def test_another_trainer_of_our_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shadow.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        f"class {doctor.PROBE}(nnUNetTrainer): pass\n"
    )
    monkeypatch.setenv("nnUNet_extTrainer", f"{tmp_path}:{discovery_folder()}")
    (finding,) = findings("nnUNet_extTrainer")
    assert finding.status == "fix"
    assert "shadow, not ours" in finding.text


@pytest.mark.parametrize("module", ["import no_such_module_anywhere", "raise SystemExit('usage: setup.py')"])
def test_folder_that_breaks_the_search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str) -> None:
    (tmp_path / "broken.py").write_text(module)
    monkeypatch.setenv("nnUNet_extTrainer", f"{tmp_path}:{discovery_folder()}")
    (finding,) = findings("nnUNet_extTrainer")
    assert finding.status == "fix"
    assert "no_such_module_anywhere" in finding.text or "usage: setup.py" in finding.text


def test_data_folders_that_do_not_serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for value, remedy in {
        "": 'export nnUNet_results="$HOME',
        "~/results": f'export nnUNet_results="{Path.home()}/results"',
        f"{tmp_path}/gone": f'mkdir -p "{tmp_path}/gone"',
        str(file): "is not a folder",
    }.items():
        monkeypatch.setenv("nnUNet_results", value)
        (finding,) = findings("nnUNet_results")
        assert finding.status == "fix"
        assert remedy in finding.text


@pytest.mark.parametrize(("variable", "status"), [("nnUNet_raw", "warn"), ("nnUNet_preprocessed", "fix")])
def test_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, variable: str, status: str) -> None:
    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "NamedTemporaryFile", refuse)
    (finding,) = findings(variable)
    assert finding.status == status
    assert "Read-only file system" in finding.text


@pytest.mark.parametrize("value", ["many", "0", "-1", ""])
def test_number_of_processes_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("nnUNet_def_n_proc", value)
    _, finding = findings("processes")
    assert finding.status == "fix"
    assert f"nnUNet_def_n_proc={value!r}" in finding.text


def test_more_processes_than_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "memory_gib", lambda: 4.0)
    _, finding = findings("processes")
    assert finding.status == "warn"
    assert finding.text.endswith("export nnUNet_def_n_proc=3")
    monkeypatch.setenv("nnUNet_def_n_proc", "3")
    assert [finding.status for finding in findings("processes")] == ["ok"]


def test_no_augmentation_process_breaks_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "memory_gib", lambda: None)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    assert [finding.status for finding in findings("processes")] == ["ok", "warn"]


@pytest.fixture
def _one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "NVIDIA Test")
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (10 * doctor.GIB, 24 * doctor.GIB))


@pytest.mark.usefixtures("_one_gpu")
def test_gpu_and_its_memory() -> None:
    assert findings("GPU") == [("ok", "GPU 0", "NVIDIA Test, 24.0 GiB, 10.0 GiB free")]


@pytest.mark.usefixtures("_one_gpu")
def test_compilation_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(doctor, "find_spec", lambda _: object())
    assert findings("torch.compile")[0].text.startswith("on")
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    assert findings("torch.compile")[0].status == "fix"
    monkeypatch.setenv("nnUNet_compile", "f")
    assert findings("torch.compile") == [("ok", "torch.compile", "off: nnUNet_compile=f")]


def test_driver_without_a_gpu_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert findings("GPU")[0].text.startswith("none")
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert findings("GPU")[0].status == "warn"


def test_as_a_command() -> None:
    command = [sys.executable, "-m", "nnunet_archs.scripts.main", "doctor"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")

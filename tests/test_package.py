import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "nnunet_archs": "nnunet_archs",
    "trainers": "nnunet_archs/trainers",
    "plans": "nnunet_archs/plans",
    "scripts": "nnunet_archs/scripts",
}


@pytest.fixture(scope="module")
def wheel_contents(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Files in the wheel, built from a copy: setuptools leaves `build/` and `*.egg-info` where it works."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(target)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_has_every_module(wheel_contents: set[str]) -> None:
    modules = {
        f"{target}/{module.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for module in (ROOT / folder).rglob("*.py")
    }
    assert {name for name in wheel_contents if name.endswith(".py")} == modules
    assert "nnunet_archs/discovery/nnunet_archs_trainers.py" in modules


def test_wheel_has_types_licence_and_command(wheel_contents: set[str]) -> None:
    assert {"nnunet_archs/py.typed", "nnunet_archs/deploy/model-card.md"} <= wheel_contents
    assert any(name.endswith("/licenses/LICENSE") for name in wheel_contents)
    assert any(name.endswith("/entry_points.txt") for name in wheel_contents)


def test_wheel_installs_one_package_and_no_tests(wheel_contents: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_contents}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"nnunet_archs"}
    # the contract tests are for other packages' networks
    assert [name for name in wheel_contents if "test" in name.lower()] == ["nnunet_archs/testing.py"]


def test_one_version() -> None:
    """Of the package, as it is cited, and of the changes that are told first."""
    named = {
        "pyproject.toml": r'^version = "(.+)"$',
        "CITATION.cff": r"^version: (.+)$",
        "CHANGELOG.md": r"^## \[(.+)\]",
    }
    found = {
        file: match and match[1]
        for file, pattern in named.items()
        for match in [re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)]
    }
    assert set(found.values()) == {found["pyproject.toml"]}, found
    assert found["pyproject.toml"]


def test_networks_do_without_nnunet() -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        "import nnunet_archs.networks as package\n"
        "for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert 'nnunetv2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_trainer_constructor_of_the_installed_nnunet() -> None:
    names = list(inspect.signature(nnUNetTrainer).parameters)
    assert names == ["plans", "configuration", "fold", "dataset_json", "device"]


def test_network_builder_of_the_installed_nnunet() -> None:
    names = list(inspect.signature(nnUNetTrainer.build_network_architecture).parameters)
    assert names == [
        "plans_manager",
        "configuration_manager",
        "num_input_channels",
        "num_output_channels",
        "enable_deep_supervision",
    ]
    assert isinstance(inspect.getattr_static(nnUNetTrainer, "build_network_architecture"), staticmethod)

"""Trainers of other packages, and of the user's own folders."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_archs.discovery import discovery_folder
from nnunet_archs.trainers import registry
from nnunet_archs.trainers.names import plans_name
from nnunet_archs.trainers.unet_sharp import UNetTrainer

MODULE = """\
from nnunet_archs.trainers.unet_sharp import UNetTrainer

class {name}(UNetTrainer):
    pass
"""
PLAIN = """\
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

class nnUNetTrainer_Plain(nnUNetTrainer):
    pass

class _HiddenTrainer(nnUNetTrainer):
    pass

class Helper:
    pass
"""


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    registry.declared.cache_clear()
    for module in ("of_others", "of_others_too"):
        sys.modules.pop(module, None)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders of the user's own, behind ours."""
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "inner").mkdir(parents=True)
    (first / "inner" / "__init__.py").touch()
    (first / "inner" / "mine.py").write_text(MODULE.format(name="MineTrainer"))
    second.mkdir()
    (second / "plain.py").write_text(PLAIN)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join(map(str, (discovery_folder(), first, second))))
    return first, second


def install(site: Path, package: str, module: str, *trainers: str) -> None:
    """A package with a module of trainers, as pip leaves it; the module's name is its content's, too."""
    (site / f"{module}.py").write_text("\n".join(MODULE.format(name=name) for name in trainers))
    metadata = site / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    declared = "\n".join(f"{name} = {module}:{name}" for name in trainers)
    (metadata / "entry_points.txt").write_text(f"[nnunet_archs.trainers]\n{declared}\n")
    registry.declared.cache_clear()


def search(name: str) -> type:
    with contextlib.redirect_stdout(io.StringIO()):
        return recursive_find_trainer_class_by_name(name)


def test_a_package_declares_a_trainer(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "of-others", "of_others", "OtherTrainer", "Other_LargeTrainer")
    monkeypatch.setenv("nnUNet_extTrainer", discovery_folder())
    assert {"OtherTrainer", "Other_LargeTrainer", "UNetSharpTrainer"} <= set(registry.known())
    trainer = registry.resolve("OtherTrainer_5epochs")
    assert issubclass(trainer, UNetTrainer)
    assert (trainer.epochs, trainer.__name__) == (5, "OtherTrainer_5epochs")
    assert search("OtherTrainer_5epochs") is trainer
    large = registry.resolve_paper("Other_LargeTrainer_5epochs_noDS")
    assert (large.epochs, plans_name(large)) == (5, "Other_Large_noDSPlans")
    entry = registry.declaration("OtherTrainer_5epochs")
    assert entry is not None
    assert registry.package_of(entry) == "of-others"


def test_two_packages_with_one_name_are_refused(site: Path) -> None:
    install(site, "of-others", "of_others", "OtherTrainer")
    install(site, "of-others-too", "of_others_too", "OtherTrainer")
    with pytest.raises(ValueError, match=r"OtherTrainer is declared by of-others.* and by of-others.*; uninstall one"):
        registry.known()


def test_what_an_old_build_left_in_a_checkout_is_passed_over(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "of-others", "of_others", "OtherTrainer")
    left = tmp_path / "checkout" / "of_others.egg-info"
    left.mkdir(parents=True)
    (left / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: of-others\nVersion: 0.9\n")
    (left / "entry_points.txt").write_text("[nnunet_archs.trainers]\nOtherTrainer = moved:OtherTrainer\n")
    monkeypatch.syspath_prepend(left.parent)
    registry.declared.cache_clear()
    assert registry.declared()["OtherTrainer"].value == "of_others:OtherTrainer"


def test_a_package_that_cannot_be_imported_harms_only_itself(site: Path) -> None:
    install(site, "of-others", "of_others", "OtherTrainer")
    (site / "of_others.py").write_text("import no_such_module\n")
    with pytest.raises(ValueError, match=r"OtherTrainer of of-others cannot be imported .*no_such_module"):
        registry.resolve("OtherTrainer")
    with pytest.warns(UserWarning, match="OtherTrainer is left out"):
        trainers = [trainer.__name__ for trainer in registry.paper_trainers()]
    assert "UNetSharpTrainer" in trainers
    assert "OtherTrainer" not in trainers


def test_trainers_in_the_users_folders(folders: tuple[Path, Path]) -> None:
    assert registry.known()[-2:] == ["MineTrainer", "nnUNetTrainer_Plain"]
    mine = registry.resolve_paper("MineTrainer_7epochs")
    assert (mine.epochs, plans_name(mine)) == (7, "MinePlans")
    assert search("MineTrainer_7epochs").__name__ == "MineTrainer_7epochs"
    assert search("MineTrainer").__name__ == "MineTrainer"
    assert issubclass(registry.resolve("nnUNetTrainer_Plain"), nnUNetTrainer)
    with pytest.raises(registry.UnknownTrainer, match="nnUNetTrainer_Plain_5epochs: there is no such trainer"):
        registry.resolve("nnUNetTrainer_Plain_5epochs")
    with pytest.raises(ValueError, match="MineTrainer has no option _5epoks; did you mean _<N>epochs"):
        registry.resolve("MineTrainer_5epoks")


def test_a_folder_that_nnunet_cannot_search(folders: tuple[Path, Path]) -> None:
    (folders[1] / "broken.py").write_text("raise KeyError('mine')\n")
    with pytest.raises(ValueError, match=r"cannot search for SomeTrainer: .* raises KeyError: 'mine'; fix or move it"):
        registry.resolve("SomeTrainer")
    assert registry.resolve("UNetTrainer") is UNetTrainer
    (folders[1] / "broken.py").write_text("no Python\n")
    with pytest.raises(ValueError, match=r"broken.py cannot be read .*; fix it"):
        registry.known()

"""Where things live: a room imports rooms of lower floors alone, so that no two import each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "nnunet_archs"
MAPPED = ("trainers", "plans", "scripts")  # folders of the checkout that are installed into the package
FLOORS = (
    ("files", "tables", "instances", "lengths"),
    ("networks", "losses", "discovery"),
    ("measure", "fidelity", "nnunet"),
    ("trainers", "testing"),
    ("plans", "study", "deploy", "convert"),
    ("benchmark", "prune", "demo"),
    ("scripts",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# what nnU-Net imports: a way in, as the command is, which nothing here imports
WAY_IN = f"{PACKAGE}.discovery.nnunet_archs_trainers"


def sources() -> Iterator[tuple[str, Path]]:
    """The package's modules as they are imported, and their files."""
    folders = {PACKAGE: ROOT / PACKAGE} | {f"{PACKAGE}.{name}": ROOT / name for name in MAPPED}
    for package, folder in folders.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            if "container-template" not in parts:
                yield ".".join([package, *(part for part in parts if part != "__init__")]), file


def imported(module: str, file: Path) -> Iterator[str]:
    """What of the package a module imports, in functions and for types too."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*parents, *filter(None, [node.module])])
            if name.split(".")[0] == PACKAGE:
                yield from ([f"{PACKAGE}.{alias.name}" for alias in node.names] if name == PACKAGE else [name])


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def arrows_upwards(module: str, file: Path) -> list[str]:
    own = room(module)
    floor = len(FLOORS) if module == WAY_IN or not own else FLOOR[own]
    return [
        f"{module} imports {target}"
        for target in imported(module, file)
        if room(target) not in ("", own) and FLOOR[room(target)] >= floor
    ]


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module, _ in sources()} - {""} == FLOOR.keys()


@pytest.mark.parametrize("name", [name for rooms in FLOORS for name in rooms])
def test_a_room_imports_lower_floors_alone(name: str) -> None:
    assert [arrow for module, file in sources() if room(module) == name for arrow in arrows_upwards(module, file)] == []


def test_an_arrow_upwards_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "memory.py"
    file.write_text("def f():\n    from ..trainers.base import PaperTrainer\n")
    assert arrows_upwards(f"{PACKAGE}.measure.memory", file) == [
        f"{PACKAGE}.measure.memory imports {PACKAGE}.trainers.base"
    ]
    file.write_text("from nnunet_archs.study import locks\nimport nnunet_archs.deploy.check\n")
    assert len(arrows_upwards(f"{PACKAGE}.plans.planner", file)) == 2
    assert arrows_upwards(f"{PACKAGE}.scripts.plan", file) == []

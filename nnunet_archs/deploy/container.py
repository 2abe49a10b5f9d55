"""A folder that builds into an offline container of the kind that grand-challenge.org runs."""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import nnunetv2
from jinja2 import Environment
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from nnunet_archs.trainers.registry import declaration, package_of

from .sockets import check_format, is_possible
from .submit import Selection

OURS = "nnunet-archs"
ELSEWHERE = ("trainers", "plans", "scripts")  # packages of ours that an editable installation has in other folders
NAMES = {"run.sh": "test.sh"}  # of the templates, where the file is called otherwise
EXECUTABLE = (".sh",)


@dataclass(frozen=True)
class Settings:
    """What the container reads and writes, and how long it may take."""

    inputs: list[str]  # a socket's slug for every channel
    output: str
    step_size: float
    mirroring: bool
    time_limit: float | None  # in seconds; it decides on step size and mirroring
    dicom: bool  # whether it also takes DICOM series, and writes DICOM segmentations of them


def build_container(folder: Path, selection: Selection, settings: Settings) -> None:
    """Write the folder, whole or not at all.

    Raises:
        ValueError: if it is there, or the container would not run.
    """
    check_settings(selection, settings)
    if folder.exists():
        raise ValueError(f"--container {folder} exists; give another folder, or remove it")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        packages = packages_of(selection)
        wheels = [write_wheel(unfinished, *package) for package in packages.items()]
        needed = [*(f"./{wheel}" for wheel in wheels), *pins(packages, "dicom" if settings.dicom else "")]
        (unfinished / "requirements.txt").write_text("\n".join(needed) + "\n")
        (unfinished / "settings.json").write_text(json.dumps(asdict(settings), indent=1) + "\n")
        values = {"python": python_version(), "wheels": " ".join(wheels), "name": image_name(folder)}
        write_templates(unfinished, values | asdict(settings))
        write_example_input(unfinished / "test" / "input", settings)
        write_models(unfinished / "model.tar.gz", selection)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_settings(selection: Selection, settings: Settings) -> None:
    """Check that the models can run in a container with these sockets.

    Raises:
        ValueError: if they cannot.
    """
    for member in selection.members:
        check_format(member.reader, member.dataset_json["file_ending"])
    first = selection.members[0]
    channels = list(first.dataset_json["channel_names"].values())
    if not is_possible(len(settings.inputs), len(channels), first.reader):
        raise ValueError(
            f"--input-socket names {len(settings.inputs)}, and a case has {len(channels)} images "
            f"({', '.join(channels)}); name the socket of each, in this order (colours in one file have one)"
        )
    for slug in (*settings.inputs, settings.output):
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug):
            raise ValueError(f"{slug} is no socket's slug; give what the challenge calls it in its web address")
    for stage in selection.stages:
        if not declaration(stage.trainer) and not is_nnunets(stage.trainer):
            raise ValueError(
                f"{stage.trainer} is of no installed package that declares its trainers, nor nnU-Net's, and the "
                "container has no others; put its module into a package (docs/extending.md)"
            )


def is_nnunets(trainer: str) -> bool:
    """Whether a trainer is nnU-Net's own."""
    folder = Path(nnunetv2.__path__[0])
    searched = str(folder / "training" / "nnUNetTrainer"), trainer, "nnunetv2.training.nnUNetTrainer", str(folder)
    return recursive_find_python_class(*searched) is not None


def packages_of(selection: Selection) -> dict[str, str]:
    """The distributions that the container needs beside nnU-Net, ours first, each with its import package."""
    packages = {OURS: "nnunet_archs"}
    for stage in selection.stages:
        if entry := declaration(stage.trainer):
            packages.setdefault(package_of(entry), entry.module.split(".")[0])
    return packages


def write_wheel(folder: Path, package: str, imported: str) -> str:
    """Pack a distribution, as it is installed here, into a wheel; its file name.

    From the installed files: no build, no network, and the same whether it is installed editable or not.
    """
    installed = distribution(package)
    stem = f"{package.replace('-', '_')}-{installed.version}"
    files = {name: file.read_bytes() for name, file in sorted(package_files(imported).items())}
    metadata = {
        # what is found first may be the egg-info of a checkout, where it has another name
        "METADATA": installed.read_text("METADATA") or installed.read_text("PKG-INFO"),
        "entry_points.txt": installed.read_text("entry_points.txt"),
    }
    metadata["WHEEL"] = f"Wheel-Version: 1.0\nGenerator: {OURS}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files |= {f"{stem}.dist-info/{name}": (text or "").encode() for name, text in metadata.items()}
    record = [f"{name},sha256={digest(content)},{len(content)}" for name, content in files.items()]
    record.append(f"{stem}.dist-info/RECORD,,")
    name = f"{stem}-py3-none-any.whl"
    with ZipFile(folder / name, "w", ZIP_DEFLATED) as wheel:
        for member, content in files.items():
            wheel.writestr(member, content)
        wheel.writestr(f"{stem}.dist-info/RECORD", "\n".join(record) + "\n")
    return name


def package_files(package: str) -> dict[str, Path]:
    """The files of an import package, by their names in a wheel."""
    parts = [package, *(f"{package}.{name}" for name in ELSEWHERE if package == "nnunet_archs")]
    return {
        f"{part.replace('.', '/')}/{file.relative_to(folder).as_posix()}": file
        for part in parts
        for folder in search_locations(part)
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def search_locations(package: str) -> list[Path]:
    """The folders that a package is imported from.

    Raises:
        ValueError: if it is a single module.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{package} is no package, but a module, which the container cannot hold; make it a package")
    return [Path(folder) for folder in spec.submodule_search_locations]


def digest(content: bytes) -> str:
    """A file's SHA-256, as a wheel's RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def pins(packages: Iterable[str], extra: str) -> list[str]:
    """Everything that the packages need, and what that needs, at the installed versions; they themselves apart.

    `extra` is one of this package's, or empty for none.
    """
    found: dict[str, str] = {}
    todo: list[tuple[str, str]] = [(canonicalize_name(package), "") for package in packages]
    if extra:
        todo.append((OURS, extra))
    seen, packed = set(todo), {package for package, _ in todo}
    while todo:
        package, extra = todo.pop()
        for requirement in requirements(package, extra):
            name = canonicalize_name(requirement.name)
            new = {(name, extra) for extra in ("", *requirement.extras)} - seen
            try:
                found[name] = Version(version(name)).public  # PyPI has no local versions, as +cpu
            except PackageNotFoundError:  # of another platform's, or left out by who installed the others
                continue
            seen |= new
            todo += new
    return sorted(f"{name}=={number}" for name, number in found.items() if name not in packed)


def requirements(package: str, extra: str) -> Iterator[Requirement]:
    """What an installed package needs here, with an extra of it or none."""
    for requirement in map(Requirement, distribution(package).requires or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def write_templates(folder: Path, values: dict[str, Any]) -> None:
    """Write the files that are the same for every model but for a few values."""
    jinja = Environment(keep_trailing_newline=True, autoescape=False)
    for template in sorted(Path(__file__).with_name("container-template").iterdir()):
        if template.is_file():
            file = folder / NAMES.get(template.name, template.name)
            file.write_text(jinja.from_string(template.read_text()).render(values))
            file.chmod(0o755 if file.suffix in EXECUTABLE else 0o644)


def write_example_input(folder: Path, settings: Settings) -> None:
    """Write inputs.json, and a folder for the image of every socket."""
    sockets = [
        {"slug": slug, "kind": "Image", "super_kind": "Image", "relative_path": f"images/{slug}"}
        for slug in settings.inputs
    ]
    for socket in sockets:
        (folder / socket["relative_path"]).mkdir(parents=True)
    (folder / "inputs.json").write_text(json.dumps([{"socket": socket} for socket in sockets], indent=1) + "\n")


def write_models(archive: Path, selection: Selection) -> None:
    """Write what nnU-Net predicts with, and model.json, which says how it goes together."""
    stages = [
        {"name": stage.name, "folds": [int(fold) if fold.isdecimal() else fold for fold in stage.folds]}
        | {"previous": previous.name if (previous := stage.previous()) else None}
        for stage in selection.stages
    ]
    postprocessing = selection.postprocessing.name if selection.postprocessing else None
    averaged = [member.name for member in selection.members]
    description = archive.with_name("model.json")
    description.write_text(
        json.dumps({"stages": stages, "averaged": averaged, "postprocessing": postprocessing}, indent=1) + "\n"
    )
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(description, description.name)
        if selection.postprocessing:
            tar.add(selection.postprocessing, postprocessing)
        for stage in selection.stages:
            for file in (stage.folder / "plans.json", stage.folder / "dataset.json", *stage.checkpoints):
                tar.add(file, f"{stage.name}/{file.relative_to(stage.folder).as_posix()}")
    description.unlink()


def python_version() -> str:
    """This Python's version, as its container image has it."""
    return ".".join(platform.python_version_tuple()[:2])


def image_name(folder: Path) -> str:
    """A name that Docker takes, after the folder."""
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "algorithm"

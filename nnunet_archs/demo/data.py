"""The demo's raw data set: made once of a folder of images, or drawn."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from batchgenerators.utilities.file_and_folder_operations import load_json, save_json

from nnunet_archs.convert.folders import inspect_folder
from nnunet_archs.convert.making import words_of
from nnunet_archs.convert.raw_data import write_dataset
from nnunet_archs.files import atomic_folder

from .choices import choose_configuration
from .phantom import write_phantom
from .pipeline import FOLDERS

PARTS = ("images", "labels", "imagesTr", "labelsTr", "imagesTs", "labelsTs")  # of a folder of images
SOURCE_KEY = "nnunet_archs_source"  # in a dataset.json: what the raw data set was made from


def prepare_dataset(folder: Path | None, output: Path, configuration: str | None) -> str:
    """Return the name of the raw data set made of `folder` (None: the phantom); make it where it is missing."""
    source = {"data": "phantom"} if folder is None else fingerprint(folder)
    raw = output / "nnUNet_raw"
    for made in sorted(file.parent for file in raw.glob("Dataset*/dataset.json")):
        known = source_of(made)
        if source.items() <= known.items():
            print(f"Raw data: {made} is there already")
            return made.name
        if source["data"] == known.get("data"):
            print(f"Raw data: {folder} has changed since {made.name} was made, which is kept as it is")
    target = raw / f"Dataset{free_id(output):03d}_{dataset_name(folder)}"
    if folder is None:
        print(f"Raw data: drawing {target}", flush=True)
        _make(target, write_phantom, {**source, "is_flat": False})
        return target.name
    print(f"Raw data: checking {folder}", flush=True)
    data = inspect_folder(folder)
    choose_configuration(configuration, is_flat=data.is_flat)  # before anything is written
    counts = f"{len(data.training)} training and {len(data.test)} test cases go to {target}"
    print(*data.notes, counts, sep="\n", flush=True)
    _make(target, lambda place: write_dataset(data, place), {**source, "is_flat": data.is_flat})
    return target.name


def fingerprint(folder: Path) -> dict[str, Any]:
    """Return what tells whether a raw data set was made of this folder as it is now."""
    files = [file for part in (".", *PARTS) for file in (folder / part).glob("*") if file.is_file()]
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        digest.update(f"{file.relative_to(folder)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return {"data": str(folder.resolve()), "files": digest.hexdigest()}


def free_id(output: Path) -> int:
    """Return the next data set number: nnU-Net wants one name for a number in its three folders together."""
    made = [path.name for folder in FOLDERS for path in (output / folder).glob("Dataset[0-9][0-9][0-9]_*")]
    return max((int(name[7:10]) for name in made), default=0) + 1


def dataset_name(folder: Path | None) -> str:
    """Return a name that nnU-Net's folder names can hold."""
    return "Phantom" if folder is None else words_of(folder.resolve().name)


def source_of(raw: Path) -> dict[str, Any]:
    """Return what a raw data set was made from; nothing where it is not ours."""
    return load_json(str(raw / "dataset.json")).get(SOURCE_KEY, {})


def _make(target: Path, write: Callable[[Path], None], source: Mapping[str, Any]) -> None:
    """Write a raw data set beside its place, and move it there once it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target) as folder:
        write(folder)
        file = str(folder / "dataset.json")
        save_json({**load_json(file), SOURCE_KEY: dict(source)}, file, sort_keys=False)

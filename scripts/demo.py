"""Plan, train, predict and evaluate with nnU-Net's own commands, on a phantom or on your images.

Running it again goes on from what is there.
"""

import argparse
import hashlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json, save_json

from nnunet_archs.convert.folders import inspect_folder, write_dataset
from nnunet_archs.demo.phantom import write_phantom
from nnunet_archs.demo.pipeline import FOLDERS, Run, run_steps
from nnunet_archs.demo.result import report
from nnunet_archs.nnunet.commands import unwound_by_sigterm
from nnunet_archs.nnunet.find import find_trainer
from nnunet_archs.nnunet.steps import StepError

# Appended to a trainer of ours whose name sets no length: for a few minutes on two CPU cores, or on a GPU.
CPU_LENGTH, GPU_LENGTH = "_5epochs_30iterations", "_50epochs_100iterations"
PARTS = ("images", "labels", "imagesTr", "labelsTr", "imagesTs", "labelsTs")  # of a folder of images
SOURCE_KEY = "nnunet_archs_source"  # in a dataset.json: what the raw data set was made from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments; those that nnU-Net has too mean the same here."""
    data_help = "your images instead of the phantom, only read: an nnU-Net raw data set, an MSD task folder, or "
    data_help += "a folder with images/ and labels/ of equal names"
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=data_help)
    parser.add_argument("--output", type=Path, metavar="FOLDER", default=Path("demo_run"), help="(%(default)s)")
    parser.add_argument("--trainer", metavar="NAME", default="VNetSharpTrainer", help="(%(default)s)")
    configurations = ("2d", "3d_lowres", "3d_fullres")
    default = "(3d_fullres, or 2d for images of one plane)"
    parser.add_argument("--configuration", choices=configurations, help=default)
    parser.add_argument("--fold", choices=("0", "1", "2", "3", "4", "all"), default="0", help="(%(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), help="(cuda where there is one, or cpu)")


def run(args: argparse.Namespace) -> int:
    """Run the demo; return 0, or 1 where a command of nnU-Net's failed. Raises ValueError for bad input."""
    device = choose_device(args.device)
    trainer = choose_trainer(args.trainer, device)
    output = check_output(args.output, args.data)
    started = time.monotonic()
    dataset = prepare_dataset(args.data, output, args.configuration)
    seconds: dict[str, float | None] = {"raw data": time.monotonic() - started}
    is_flat = _source(output / "nnUNet_raw" / dataset)["is_flat"]
    configuration = choose_configuration(args.configuration, is_flat=is_flat)
    demo = Run(output, dataset, trainer, configuration, args.fold, device)
    try:
        with unwound_by_sigterm():
            seconds |= run_steps(demo)
    except StepError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    report(demo, seconds)
    return 0


def choose_device(wanted: str | None) -> str:
    """Return the device: the one wanted, else CUDA where there is one, else the CPU."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted and not available[wanted]:
        usable = ", ".join(device for device, is_there in available.items() if is_there)
        raise ValueError(f"--device {wanted}: torch finds none on this machine; use {usable}")
    return wanted or ("cuda" if available["cuda"] else "cpu")


def choose_trainer(name: str, device: str) -> str:
    """Return the trainer's name; one of ours that sets no length gets the demo's."""
    from nnunet_archs.trainers.names import UnknownTrainer, trainer_class

    try:
        trainer_class(name)
    except UnknownTrainer:
        return check_foreign_trainer(name)
    if re.search(r"_\d+(epochs|iterations)", name):
        return name
    length = GPU_LENGTH if device == "cuda" else CPU_LENGTH
    print(f"{name} sets no length of training: the demo takes {name}{length}")
    return name + length


def check_foreign_trainer(name: str) -> str:
    """Return the name of a trainer that is nnU-Net's, or in a folder of the user's nnUNet_extTrainer."""
    try:
        find_trainer(name)
    except LookupError as error:
        where = "neither one of ours (nnunet-archs list), nor nnU-Net's, nor in your nnUNet_extTrainer"
        raise ValueError(f"--trainer {name}: {where}; correct the name") from error
    return name


def check_output(output: Path, data: Path | None) -> Path:
    """Return the absolute output folder, which must not lie in the data folder: that is only read."""
    output = output.resolve()
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file: give a folder, or a new name")
    if data is not None and output.is_relative_to(data.resolve()):
        raise ValueError(f"--output {output} lies in --data {data}, which is only read: give another folder")
    return output


def choose_configuration(wanted: str | None, *, is_flat: bool) -> str:
    """Return the configuration; images of one plane have 2d only."""
    if is_flat and wanted not in (None, "2d"):
        raise ValueError(f"--configuration {wanted}: the images have one plane; use 2d")
    return wanted or ("2d" if is_flat else "3d_fullres")


def prepare_dataset(folder: Path | None, output: Path, configuration: str | None) -> str:
    """Return the name of the raw data set made of `folder` (None: the phantom); make it where it is missing."""
    source = {"data": "phantom"} if folder is None else fingerprint(folder)
    raw = output / "nnUNet_raw"
    for made in sorted(file.parent for file in raw.glob("Dataset*/dataset.json")):
        known = _source(made)
        if source.items() <= known.items():
            print(f"Raw data: {made} is there already")
            return made.name
        if source["data"] == known.get("data"):
            print(f"Raw data: {folder} has changed since {made.name} was made of it, which stays as it is")
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
    if folder is None:
        return "Phantom"
    name = re.sub(r"^Dataset\d{3}_", "", folder.resolve().name)
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "Images"


def _source(raw: Path) -> dict[str, Any]:
    """Return what a raw data set was made from; nothing where it is not ours."""
    return load_json(str(raw / "dataset.json")).get(SOURCE_KEY, {})


def _make(target: Path, write: Callable[[Path], None], source: Mapping[str, Any]) -> None:
    """Write a raw data set beside its place, and move it there once it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished_", dir=target.parent) as unfinished:
        folder = Path(unfinished) / target.name
        write(folder)
        file = str(folder / "dataset.json")
        save_json({**load_json(file), SOURCE_KEY: dict(source)}, file, sort_keys=False)
        folder.rename(target)

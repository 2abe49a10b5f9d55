"""The command `nnunet-archs convert`: check a folder, and write it as an nnU-Net raw data set."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from nnunet_archs.files import atomic_folder
from nnunet_archs.lengths import length_of
from nnunet_archs.nnunet.datasets import FOLDERS, check_folders

from .crop import inspect_crop
from .folders import inspect_folder
from .layout import Layout, Options
from .layouts import inspect_layout, layout_of
from .raw_data import SPLITS, RawData, write_dataset

MAX_ID = 999
NOT_OF_FOLDERS = ("size", "window", "annotations", "split", "seed")  # options of official layouts alone


def convert(args: argparse.Namespace) -> Path:
    """Convert what the command line says; the new folder.

    Raises:
        ValueError: for a folder or options that cannot be converted; nothing is left of the new data set then.
    """
    check_folders("nnUNet_raw")
    folder = args.folder.resolve()
    layout = None if args.crop_to else layout_of(folder, args.layout)
    target = Path(str(FOLDERS["nnUNet_raw"])) / new_name(args.dataset, layout.name if layout else folder.name)
    check_free(target.name)
    kind = f"as {layout.name}, {layout.title}" if layout else "as a folder of images and labels"
    print(f"Reading {folder} {kind}", flush=True)
    data = inspect(args, folder, layout)
    print(*data.notes, f"writing {target}", sep="\n", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target) as unfinished:
        write_dataset(data, unfinished)
    return target


def inspect(args: argparse.Namespace, folder: Path, layout: Layout | None) -> RawData:
    """Check what there is to convert."""
    if args.crop_to:
        if refused := [
            name for name in (*NOT_OF_FOLDERS, "layout", "hold_out", "binary", "instances") if getattr(args, name)
        ]:
            raise ValueError(f"--crop-to does nothing else: leave --{refused[0].replace('_', '-')} out")
        return inspect_crop(folder, [place.resolve() for place in args.crop_to], length_of(args.margin, "margin"))
    border = length_of(args.instances, "instances") if args.instances else None
    options = Options(args.size, window_of(args.window), args.annotations, border)
    if layout is None:
        if args.binary and border:
            raise ValueError("--binary and --instances are two readings of the same ids: leave one out")
        for name in (name for name in NOT_OF_FOLDERS if getattr(args, name) is not None):
            raise ValueError(f"--{name} is for official layouts, and {folder} has none: leave it out")
        return inspect_folder(folder, hold_out=args.hold_out, binary=args.binary, border=border)
    for name in (name for name in ("hold_out", "binary") if getattr(args, name)):
        raise ValueError(f"--{name.replace('_', '-')} is for folders of images and labels, not for {layout.name}")
    return inspect_layout(layout, folder, options, args.split, args.seed)


def summary(target: Path) -> str:
    """What was written, and the next command."""
    counts = [len(list((target / part).iterdir())) for part in ("labelsTr", "labelsTs")]
    number = int(target.name[len("Dataset") : len("Dataset") + 3])
    lines = [f"{target}: {counts[0]} training and {counts[1]} test cases"]
    if (target / SPLITS).is_file():
        lines.append(f"nnU-Net copies its {SPLITS} when it plans, and trainings follow it.")
    command = f"nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity"
    return "\n".join([*lines, f"Next: {command}"])


def new_name(given: str, default: str) -> str:
    """The name of a new data set: as given, or made of an ID. Raises ValueError for one that nnU-Net cannot use."""
    if given.isdecimal() and 0 < int(given) <= MAX_ID:
        return f"Dataset{int(given):03d}_{words_of(default)}"
    if re.fullmatch(r"Dataset(?!000)\d{3}_\w[\w-]*", given):
        return given
    raise ValueError(f"-d {given} is not a data set: give an ID of 1 to {MAX_ID}, or a name as Dataset501_Nuclei")


def words_of(name: str) -> str:
    """A name that nnU-Net's folder names can hold."""
    name = re.sub(r"^Dataset\d{3}_", "", name)
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "Images"


def check_free(name: str) -> None:
    """Check that no other data set has this ID: nnU-Net wants one name for it in its three folders together.

    Raises:
        ValueError: if there is one.
    """
    for variable, folder in FOLDERS.items():
        for other in Path(folder.get() or "").glob(f"{name[: len('Dataset000')]}_*") if folder.get() else ():
            raise ValueError(f"{variable} has {other.name}: give -d another ID, or move that folder away")


def window_of(given: list[float] | None) -> tuple[float, float] | None:
    """The window's ends. Raises ValueError where the lower is not below the upper."""
    if given is None:
        return None
    low, high = given
    if not low < high:
        raise ValueError(f"--window {low:g} {high:g}: the first value must be below the second; exchange them")
    return low, high

"""What is run, where the user leaves it open."""

import re
from pathlib import Path

from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.registry import resolve

# Appended to a trainer whose name can set a length and does not: for a few minutes on two CPU cores, or on a GPU.
CPU_LENGTH, GPU_LENGTH = "_5epochs_30iterations", "_50epochs_100iterations"


def choose_trainer(name: str, device: str) -> str:
    """Return the trainer's name; one that takes a length and has none gets the demo's."""
    if not issubclass(resolve(name), PaperTrainer) or re.search(r"_\d+(epochs?|iterations?)", name):
        return name
    length = GPU_LENGTH if device == "cuda" else CPU_LENGTH
    print(f"{name} sets no length of training: the demo takes {name}{length}")
    return name + length


def check_output(output: Path, data: Path | None) -> Path:
    """Return the absolute output folder, which must not lie in the data folder: that is only read."""
    output = output.resolve()
    if output.exists() and not output.is_dir():
        raise ValueError(f"-o {output} is a file: give a folder, or a new name")
    if data is not None and output.is_relative_to(data.resolve()):
        raise ValueError(f"-o {output} lies in --data {data}, which is only read: give another folder")
    return output


def choose_configuration(wanted: str | None, *, is_flat: bool) -> str:
    """Return the configuration; images of one plane have 2d only."""
    if is_flat and wanted not in (None, "2d"):
        raise ValueError(f"-c {wanted}: the images have one plane; use 2d")
    return wanted or ("2d" if is_flat else "3d_fullres")

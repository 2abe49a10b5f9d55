"""Options that several subcommands have, spelled as nnU-Net spells them."""

import argparse
from pathlib import Path

DEVICES = ("cpu", "cuda", "mps")


def add_device(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `-device`, on which `what` is done."""
    line = f"where {what}; default: cuda where there is a GPU, else cpu"
    parser.add_argument("-device", "--device", choices=DEVICES, help=line)


def check_new(folder: Path) -> None:
    """Check that an output folder is not there yet.

    Raises:
        ValueError: if it is.
    """
    if folder.exists():
        raise ValueError(f"{folder} is there already: give another -o, or move it away")


def add_sliding_window(parser: argparse.ArgumentParser) -> None:
    """Add what makes prediction faster."""
    step = "step of the sliding window, in patches; default: 0.5"
    parser.add_argument("--step-size", type=float, metavar="SHARE", help=step)
    mirroring = "predict without mirrored copies: faster, a little less accurate"
    parser.add_argument("--no-mirroring", action="store_true", help=mirroring)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the folder of a trained model."""
    where = "nnUNet_results/<Dataset>/<Trainer>__<Plans>__<configuration>"
    parser.add_argument("model", type=Path, metavar="MODEL_FOLDER", help=where)

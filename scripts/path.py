"""Print the folder in which nnU-Net finds the trainers.

For `export nnUNet_extTrainer="$(nnunet-archs path)"`.
"""

import argparse
import os

import nnunet_archs.discovery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print the folder, and nothing else."""
    print(discovery_folder())
    return 0


def discovery_folder() -> str:
    """Absolute path of the folder that nnU-Net searches."""
    return os.path.abspath(nnunet_archs.discovery.__path__[0])

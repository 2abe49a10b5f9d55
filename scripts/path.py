"""Print the folder in which nnU-Net finds the trainers.

For `export nnUNet_extTrainer="$(nnunet-archs path)"`.
"""

import argparse

from nnunet_archs.discovery import discovery_folder

EXAMPLE = 'export nnUNet_extTrainer="$(nnunet-archs path)"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print the folder, and nothing else."""
    print(discovery_folder())
    return 0

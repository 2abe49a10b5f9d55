"""The one module that nnU-Net searches for trainers."""

import os

# the variable that names the folders in which nnU-Net looks for trainers beside its own
SEARCH = "nnUNet_extTrainer"


def discovery_folder() -> str:
    """Absolute path of the folder that nnU-Net searches."""
    return os.path.abspath(__path__[0])

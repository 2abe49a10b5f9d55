"""The one module that nnU-Net searches for trainers."""

import os


def discovery_folder() -> str:
    """Absolute path of the folder that nnU-Net searches."""
    return os.path.abspath(__path__[0])

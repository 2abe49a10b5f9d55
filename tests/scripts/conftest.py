"""Trainers' plans made by hand, for the commands that read a trained model."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "trainers"))

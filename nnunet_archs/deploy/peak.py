"""What predicting an image takes of memory: `python -m nnunet_archs.deploy.peak MODEL FOLD Z Y X` prints it as JSON.

A process of its own, for a process' peak cannot be set back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_archs.nnunet.commands import python_command, variables

KIB = 2**10
N_WINDOWS = 3  # after the first ones memory stays as it is
STATUS = Path("/proc/self/status")


class FirstWindows(nnUNetPredictor):
    """nnU-Net's predictor, which leaves out all windows but the first: they cost time, and no memory."""

    def _internal_get_sliding_window_slicers(self, image_size: tuple[int, ...]) -> list[Any]:
        return super()._internal_get_sliding_window_slicers(image_size)[:N_WINDOWS]


def memory_of_prediction(folder: Path, fold: str, size: Sequence[int]) -> dict[str, int | None]:
    """Bytes at the peak of a process that predicts an image with a fold, those of its imports, and of the GPU.

    Args:
        folder: the model's.
        fold: one that is finished.
        size: of the image, in voxels at the plan's spacing, in the order of the patch.

    Raises:
        ValueError: if the image cannot be predicted; with the last line that was printed.
    """
    command = python_command("nnunet_archs.deploy.peak", str(folder), fold, *map(str, size))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    process = subprocess.run(
        command, env=variables(device), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if process.returncode:
        said = process.stderr.strip().splitlines() or [f"exit code {process.returncode}, as when memory runs out"]
        raise ValueError(f"an image of {'x'.join(map(str, size))} voxels cannot be predicted here: {said[-1]}")
    found: dict[str, int | None] = json.loads(process.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Predict an image of noise; print what it took."""
    folder, fold, *size = sys.argv[1:]
    imports = peak_of_this_process()
    with redirect_stdout(sys.stderr):
        predict(folder, fold, [int(n) for n in size])
    gpu = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
    print(json.dumps({"imports": imports, "peak": peak_of_this_process(), "gpu": gpu}))


def predict(folder: str, fold: str, size: Sequence[int]) -> None:
    """Preprocess, predict and resample back as nnU-Net does, in one process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predictor = FirstWindows(device=device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(folder, (fold if fold == "all" else int(fold),))
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    spacing = [*[1.0] * (3 - len(configuration.spacing)), *configuration.spacing]
    axes = plans.transpose_backward
    shape = [size[axis] for axis in axes]
    n_channels = len(predictor.dataset_json.get("channel_names") or predictor.dataset_json["modality"])
    image = np.random.default_rng(0).random((n_channels, *shape), np.float32)
    previous = np.zeros((1, *shape), np.uint8) if configuration.previous_stage_name else None
    predictor.predict_single_npy_array(image, {"spacing": [spacing[axis] for axis in axes]}, previous)


def peak_of_this_process() -> int | None:
    """The most bytes of memory that this process has had; None where the system does not tell."""
    if STATUS.exists():  # Linux; what getrusage tells there includes the process that began this one
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * KIB
    if os.name == "posix":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else KIB)
    return None


if __name__ == "__main__":
    main()

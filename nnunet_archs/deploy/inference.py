"""Segment one image with the models of a container, by nnU-Net's own predictor, in the time that there is."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json, load_pickle
from nnunetv2.ensembling.ensemble import merge_files
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.postprocessing.remove_connected_components import load_postprocess_save
from torch import Tensor

from nnunet_archs.discovery import SEARCH, discovery_folder
from nnunet_archs.nnunet.datasets import read_dataset_json, segment_names
from nnunet_archs.nnunet.images import reader_of

from .sockets import check_channels, label_map, make_files

# step size and mirroring, the best first, each faster than the one before
CHOICES = ((0.5, True), (0.75, True), (0.5, False), (0.75, False), (1.0, False))
RESERVE = 0.3  # share of a time limit for what comes after the networks: resampling, postprocessing, writing
CASE = "case"


@dataclass
class Clock:
    """When all networks are to be done, and how many folds of all models are still to run."""

    end: float  # of time.monotonic()
    n_folds: int


class Predictor(nnUNetPredictor):
    """nnU-Net's predictor; with a clock, each fold takes the best choice for which its share of the time will do."""

    clock: Clock | None = None

    def predict_sliding_window_return_logits(self, input_image: Tensor) -> Tensor:
        """Logits `(C, *spatial)` of a fold."""
        if self.clock:
            self.tile_step_size, self.use_mirroring = self.choose(input_image, self.clock)
            self.clock.n_folds -= 1
        return super().predict_sliding_window_return_logits(input_image)

    def choose(self, image: Tensor, clock: Clock) -> tuple[float, bool]:
        """The best choice that the time allows; the fastest where it allows none."""
        seconds = self.seconds_per_pass(image)
        left = (clock.end - time.monotonic()) / clock.n_folds
        for step_size, is_mirrored in CHOICES:
            expected = seconds * self.n_passes(image, step_size, is_mirrored=is_mirrored)
            if expected <= left:
                break
        mirrored = "with" if is_mirrored else "without"
        print(f"step size {step_size:g}, {mirrored} mirroring: about {expected:.1f} s of {left:.1f} s", flush=True)
        return step_size, is_mirrored

    def seconds_per_pass(self, image: Tensor) -> float:
        """How long the network takes for a window: the second of two, for the first makes ready."""
        window = torch.zeros(1, len(image), *self.configuration_manager.patch_size, device=self.device)
        network = self.network.to(self.device).eval()
        for _ in range(2):
            begun = time.monotonic()
            with torch.inference_mode(), torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
                network(window).flatten()[0].item()  # waits for the device
        return time.monotonic() - begun

    def n_passes(self, image: Tensor, step_size: float, *, is_mirrored: bool) -> int:
        """How often the network runs: for every window, and every combination of mirrored axes."""
        self.tile_step_size = step_size
        patch_size = self.configuration_manager.patch_size
        size = list(image.shape[1:])
        size[-len(patch_size) :] = np.maximum(size[-len(patch_size) :], patch_size)
        axes = self.allowed_mirroring_axes if is_mirrored else None
        return len(self._internal_get_sliding_window_slicers(tuple(size))) * 2 ** len(axes or ())


def segment(
    images: Sequence[Path], models: Path, *, step_size: float, mirroring: bool, end: float | None
) -> SimpleITK.Image:
    """The label map of a case, on the grid of its first image.

    Args:
        images: the files with the channels, or the folders of their DICOM series, in the data set's order.
        models: what `nnunet-archs submit --container` put into model.tar.gz.
        step_size: of nnU-Net's sliding window, where there is no `end`.
        mirroring: whether to mirror, where there is no `end`.
        end: the value of `time.monotonic()` at which the label map is needed.

    Raises:
        ValueError: if the images are not those that the models take.
    """
    os.environ[SEARCH] = discovery_folder()
    model = load_json(str(models / "model.json"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = None
    if end is not None:
        now = time.monotonic()
        clock = Clock(now + (1 - RESERVE) * (end - now), sum(len(stage["folds"]) for stage in model["stages"]))
    with TemporaryDirectory() as folder:
        first = models / model["averaged"][0]
        dataset_json = read_dataset_json(first / "dataset.json")
        reader = reader_of(load_json(str(first / "plans.json")))
        ending = dataset_json["file_ending"]
        files = make_files(images, Path(folder, CASE), ending, reader)
        check_channels(files, list(dataset_json["channel_names"].values()), reader)
        for stage in model["stages"]:
            predictor = Predictor(step_size, use_mirroring=mirroring, device=device, allow_tqdm=False)
            predictor.clock = clock
            predictor.initialize_from_trained_model_folder(str(models / stage["name"]), stage["folds"])
            Path(folder, stage["name"]).mkdir()
            predictor.predict_from_files_sequential(
                [[str(file) for file in files]],
                [str(Path(folder, stage["name"], CASE))],
                save_probabilities=len(model["averaged"]) > 1,
                folder_with_segs_from_prev_stage=stage["previous"] and str(Path(folder, stage["previous"])),
            )
        result = finish(predictor, model, models, Path(folder), ending)
        return label_map(result, images[0], reader)


def names_of(models: Path) -> dict[int, str]:
    """What the values of the label map are called."""
    first = load_json(str(models / "model.json"))["averaged"][0]
    return segment_names(read_dataset_json(models / first / "dataset.json")["labels"])


def finish(predictor: Predictor, model: dict[str, Any], models: Path, folder: Path, ending: str) -> Path:
    """Average the models' probabilities and postprocess, as nnU-Net does; the file of the label map."""
    io = predictor.plans_manager.image_reader_writer_class
    result = folder / model["averaged"][0] / f"{CASE}{ending}"
    if len(model["averaged"]) > 1:
        probabilities = [str(folder / name / f"{CASE}.npz") for name in model["averaged"]]
        merge_files(probabilities, str(folder / "averaged"), ending, io(), predictor.label_manager)
        result = folder / f"averaged{ending}"
    if model["postprocessing"]:
        functions, arguments = load_pickle(str(models / model["postprocessing"]))
        postprocessed = folder / f"postprocessed{ending}"
        load_postprocess_save(str(result), str(postprocessed), io(), functions, arguments)
        result = postprocessed
    return result

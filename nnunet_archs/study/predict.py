"""nnU-Net's prediction of a test set that no other process predicts, and its evaluation.

`python -m nnunet_archs.study.predict FOLDER LOCK [LOCK ...] -- REFERENCES ...`, with `nnUNetv2_predict`'s arguments at
the end: those of a job that goes on from what the folder holds.
"""

from __future__ import annotations

import sys
from itertools import takewhile
from pathlib import Path

from nnunet_archs.files import read_json
from nnunet_archs.nnunet.whole import check_whole

from .train import run_alone


def predict(folder: Path, arguments: list[str]) -> None:
    """Predict what is missing, then evaluate all, in this process."""
    references, *predicting = arguments
    folds = takewhile(str.isdigit, predicting[predicting.index("-f") + 1 :])
    discard_stale(folder, [folder.with_name(f"fold_{fold}") / "checkpoint_final.pth" for fold in folds])
    from nnunetv2.evaluation.evaluate_predictions import evaluate_folder_entry_point
    from nnunetv2.inference.predict_from_raw_data import predict_entry_point

    sys.argv = ["nnUNetv2_predict", *predicting]
    print(*sys.argv, flush=True)
    predict_entry_point()
    files = ["-djfile", str(folder / "dataset.json"), "-pfile", str(folder / "plans.json")]
    # --chill: a split's references are those of all training cases
    sys.argv = ["nnUNetv2_evaluate_folder", references, str(folder), *files, "--chill"]
    print(*sys.argv, flush=True)
    evaluate_folder_entry_point()


def discard_stale(folder: Path, networks: list[Path]) -> None:
    """Remove predictions that were cut off while they were written, or that earlier networks made."""
    (folder / "summary.json").unlink(missing_ok=True)
    newest = max(network.stat().st_mtime for network in networks)
    ending = read_json(folder.with_name("dataset.json"))["file_ending"]
    for file in folder.glob(f"*{ending}"):
        if file.stat().st_mtime < newest or not is_whole(file):
            print(f"{file} is removed: it is not whole, or older than the networks", file=sys.stderr)
            file.unlink()


def is_whole(file: Path) -> bool:
    """Whether all of an image was written."""
    try:
        check_whole(file)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    run_alone(predict)

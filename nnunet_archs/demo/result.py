"""The end of the demo: the Dice table, the seconds of each step, and the pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.evaluation.evaluate_predictions import load_summary_json

from nnunet_archs.nnunet.images import reader_for
from nnunet_archs.study.examples import draw_files

from .pipeline import Run

LabelEntries = Mapping[str, int | list[int]]  # of a dataset.json: a label, or the labels of a region
CaseDice = dict[int | tuple[int, ...], float]  # by label or region


def report(run: Run, seconds: Mapping[str, float | None]) -> None:
    """Print the Dice table, the seconds of each step and the paths of the pictures; draw the overlays."""
    summary = load_summary_json(str(run.predictions / "summary.json"))
    dataset_json = load_json(str(run.raw / "dataset.json"))
    ending = dataset_json["file_ending"]
    cases = {
        Path(case["reference_file"]).name.removesuffix(ending): {
            label: values["Dice"] for label, values in case["metrics"].items()
        }
        for case in summary["metric_per_case"]
    }
    which = "held-out cases" if run.is_held_out else "cases that nnU-Net validated on (none were held out)"
    print(f"\nDice of the {which}: {run.trainer}, {run.configuration}, fold {run.fold}\n")
    print(format_dice(cases, dataset_json["labels"]))
    print(f"\nmean foreground Dice {summary['foreground_mean']['Dice']:.3f}\n")
    for step, duration in seconds.items():
        print(f"  {step:<20}{'was done' if duration is None else f'{duration:7.0f} s'}")
    print(f"  {'together':<20}{sum(filter(None, seconds.values())):7.0f} s\n")
    for extreme, overlay in draw_extremes(run, cases, dataset_json).items():
        print(f"overlay of the {extreme} case: {overlay}")
    print(f"nnU-Net's progress plot: {run.results / 'progress.png'}")


def format_dice(cases: Mapping[str, CaseDice], labels: LabelEntries) -> str:
    """Return a table, a row a case and a column a label or region; `-` where truth and prediction have none."""
    names = {tuple(entry) if isinstance(entry, list) else entry: name for name, entry in labels.items()}
    header = ["case", *(names[label] for label in next(iter(cases.values()))), "mean"]
    rows = [[case, *map(_format, (*dice.values(), mean_dice(dice)))] for case, dice in cases.items()]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    first, *others = widths
    lines = (
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in (header, *rows)
    )
    return "\n".join(f"  {line}" for line in lines)


def mean_dice(dice: CaseDice) -> float:
    """Return the mean over the labels that truth or prediction has, NaN where there is none."""
    present = [value for value in dice.values() if not np.isnan(value)]
    return float(np.mean(present)) if present else float("nan")


def draw_extremes(run: Run, cases: Mapping[str, CaseDice], dataset_json: Mapping[str, Any]) -> dict[str, Path]:
    """Draw the worst and the best of the predicted cases, by mean foreground Dice (a case without any is worst)."""
    ranked = sorted(cases, key=lambda case: np.nan_to_num(mean_dice(cases[case]), nan=-1.0))
    ending, folder = dataset_json["file_ending"], run.output / "overlays"
    images, labels = (run.raw / f"{what}{'Ts' if run.is_held_out else 'Tr'}" for what in ("images", "labels"))
    reader = reader_for(dataset_json, images / f"{ranked[0]}_0000{ending}")
    folder.mkdir(exist_ok=True)
    drawn = {}
    for which, case in (("worst", ranked[0]), ("best", ranked[-1])):
        image, truth = images / f"{case}_0000{ending}", labels / f"{case}{ending}"
        prediction = {f"{which}: {case}, Dice {_format(mean_dice(cases[case]))}": run.predictions / f"{case}{ending}"}
        drawn[which] = folder / f"{run.name}_{which}.png"
        png, _ = draw_files(reader, [image], truth, prediction, dataset_json)
        drawn[which].write_bytes(png)
    return drawn


def _format(dice: float) -> str:
    return "-" if np.isnan(dice) else f"{dice:.3f}"

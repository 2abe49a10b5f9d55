"""Plan, train, predict and evaluate with nnU-Net's own commands, on a phantom or on your images.

Running it again goes on from what is there.
"""

import argparse
import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json, save_json
from nnunetv2.evaluation.evaluate_predictions import load_summary_json
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from nnunet_archs.plans.resize import resize_plans

from .doctor import find_trainer
from .overlay import Row, draw_overlay
from .path import discovery_folder
from .phantom import write_phantom
from .raw_dataset import inspect_folder, write_dataset
from .steps import Step, StepError, nnunet_command, run_step

STOCK_PLANS, SMALL_PLANS = "nnUNetPlans", "nnUNetPlans_small"
# What is appended to one of our trainers' names that sets no length: 10 minutes on two CPU cores, or on a GPU.
CPU_LENGTH, GPU_LENGTH = "_12epochs_20iterations", "_50epochs_100iterations"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
SOURCE_KEY = "nnunet_archs_source"  # of dataset.json: what a raw data set was made from

CaseDice = dict[int | tuple[int, ...], float]  # by label or region


@dataclass(frozen=True)
class Run:
    """What is trained, on what, where; the paths of it as nnU-Net and the demo name them."""

    output: Path
    dataset: str
    trainer: str
    plans: str
    configuration: str
    fold: str
    device: str

    @property
    def raw(self) -> Path:
        return self.output / "nnUNet_raw" / self.dataset

    @property
    def preprocessed(self) -> Path:
        return self.output / "nnUNet_preprocessed" / self.dataset

    @property
    def results(self) -> Path:
        model = f"{self.trainer}__{self.plans}__{self.configuration}"
        return self.output / "nnUNet_results" / self.dataset / model / f"fold_{self.fold}"

    @property
    def predictions(self) -> Path:
        return self.output / "predictions" / self.results.relative_to(self.output / "nnUNet_results")

    @property
    def name(self) -> str:
        return "__".join(self.results.relative_to(self.output / "nnUNet_results").parts)

    def log(self, step: str) -> Path:
        return self.output / "logs" / f"{self.name}__{step}.log"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the demo's arguments; those that nnU-Net has too mean the same here."""
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER",
        help="your images instead of the phantom: an nnU-Net raw data set, an MSD task folder, "
        "or a folder with images/ and labels/ of equal names; it is only read",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("demo_run"), help="default: %(default)s")
    parser.add_argument("--trainer", default="VNetSharpTrainer", help="default: %(default)s")
    parser.add_argument(
        "--configuration", choices=("2d", "3d_lowres", "3d_fullres"),
        help="default: 3d_fullres, and 2d for images of one plane",
    )  # fmt: skip
    parser.add_argument("--fold", choices=("0", "1", "2", "3", "4", "all"), default="0", help="default: 0")
    parser.add_argument(
        "--device", choices=("cpu", "cuda", "mps"), help="default: cuda where there is one, or cpu"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; return 0, or 1 where a command of nnU-Net's failed. Raises ValueError for bad input."""
    device = choose_device(args.device)
    trainer = choose_trainer(args.trainer, device)
    output = args.output.resolve()
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {args.output} is a file: give a folder, or a new name")
    try:
        started = time.monotonic()
        dataset = prepare_dataset(args.data, output)
        seconds: dict[str, float | None] = {"raw data": time.monotonic() - started}
        configuration = choose_configuration(args.configuration, output / "nnUNet_raw" / dataset)
        plans = STOCK_PLANS if device == "cuda" else SMALL_PLANS
        demo = Run(output, dataset, trainer, plans, configuration, args.fold, device)
        seconds |= run_steps(demo)
    except StepError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    report(demo, seconds)
    return 0


# --- choices -----------------------------------------------------------------------------------------------------


def choose_device(wanted: str | None) -> str:
    """Return the device: the one wanted, else CUDA where there is one, else the CPU."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted and not available[wanted]:
        usable = ", ".join(device for device, is_there in available.items() if is_there)
        raise ValueError(f"--device {wanted}: torch finds none on this machine; use one of: {usable}")
    return wanted or ("cuda" if available["cuda"] else "cpu")


def choose_trainer(name: str, device: str) -> str:
    """Return the trainer's name, with the demo's length where it is one of ours and sets none."""
    from nnunet_archs.trainers.names import UnknownTrainer, trainer_class

    try:
        trainer_class(name)
    except UnknownTrainer:
        _check_foreign_trainer(name)
        return name
    if re.search(r"_\d+(epochs|iterations)", name):
        return name
    length = GPU_LENGTH if device == "cuda" else CPU_LENGTH
    print(f"{name} sets no length: the demo trains {name + length}")
    return name + length


def _check_foreign_trainer(name: str) -> None:
    """Raise ValueError where nnU-Net has no trainer of that name, nor a folder in the user's nnUNet_extTrainer."""
    try:
        find_trainer(name)
    except LookupError as error:
        raise ValueError(
            f"--trainer {name} is neither one of ours nor one of nnU-Net's: `nnunet-archs list` shows ours"
        ) from error


def choose_configuration(wanted: str | None, raw: Path) -> str:
    """Return the configuration; images of one plane have 2d only."""
    is_flat = load_json(str(raw / "dataset.json"))[SOURCE_KEY]["is_flat"]
    if is_flat and wanted not in (None, "2d"):
        raise ValueError(f"--configuration {wanted}: the images have one plane; use 2d")
    return wanted or ("2d" if is_flat else "3d_fullres")


# --- raw data ----------------------------------------------------------------------------------------------------


def prepare_dataset(folder: Path | None, output: Path) -> str:
    """Return the name of the raw data set made from `folder` (None: the phantom), which is made if need be."""
    source = {"data": "phantom"} if folder is None else fingerprint(folder)
    raw = output / "nnUNet_raw"
    for file in sorted(raw.glob("Dataset*/dataset.json")):
        known = load_json(str(file)).get(SOURCE_KEY, {})
        if source.items() <= known.items():
            print(f"raw data: {file.parent} is there already")
            return file.parent.name
        if known.get("data") == source["data"]:
            print(f"raw data: {folder} has changed since {file.parent.name} was made from it")
    name = f"Dataset{_free_id(output):03d}_{_dataset_name(folder)}"
    if folder is None:
        print(f"raw data: drawing {raw / name}", flush=True)
        _make(raw / name, write_phantom, {**source, "is_flat": False})
        return name
    print(f"raw data: checking {folder}", flush=True)
    data = inspect_folder(folder)
    for note in data.notes:
        print(f"  {note}")
    print(f"  {len(data.training)} training and {len(data.test)} test cases go to {raw / name}", flush=True)
    _make(raw / name, lambda target: write_dataset(data, target), {**source, "is_flat": data.is_flat})
    return name


def fingerprint(folder: Path) -> dict[str, Any]:
    """Return what tells whether a raw data set was made from this folder as it is now."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        status = file.stat()
        digest.update(f"{file.relative_to(folder)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return {"data": str(folder.resolve()), "files": digest.hexdigest()}


def _make(target: Path, write: Callable[[Path], None], source: Mapping[str, Any]) -> None:
    """Write a raw data set beside its place and move it there once it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished_", dir=target.parent) as unfinished:
        folder = Path(unfinished) / target.name
        write(folder)
        file = str(folder / "dataset.json")
        save_json({**load_json(file), SOURCE_KEY: dict(source)}, file, sort_keys=False)
        folder.rename(target)


def _free_id(output: Path) -> int:
    """Return the next data set number: nnU-Net wants one name a number in its three folders together."""
    names = [path.name for folder in FOLDERS for path in (output / folder).glob("Dataset[0-9][0-9][0-9]_*")]
    return max((int(name[7:10]) for name in names), default=0) + 1


def _dataset_name(folder: Path | None) -> str:
    """Return a name that nnU-Net's folder names can hold."""
    if folder is None:
        return "Phantom"
    name = re.sub(r"^Dataset\d{3}_", "", folder.resolve().name)
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "Images"


# --- nnU-Net's commands ------------------------------------------------------------------------------------------


def run_steps(demo: Run) -> dict[str, float | None]:
    """Run nnU-Net's commands; return the seconds each took, None where it was done before."""
    environment = make_environment(demo)
    seconds = {"plan and preprocess": run_step(plan_step(demo), environment)}
    write_plans(demo)
    training = {"nnUNet_n_proc_DA": "0"} if demo.device == "cpu" else {}  # planning fails with 0
    seconds["train"] = run_step(train_step(demo), {**environment, **training})
    seconds["predict"] = run_step(predict_step(demo), environment)
    seconds["evaluate"] = run_step(evaluate_step(demo), environment)
    return seconds


def make_environment(demo: Run) -> dict[str, str]:
    """Return the environment of nnU-Net's commands: everything is below the output folder, whatever is set now."""
    searched = [folder for folder in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if folder]
    environment = {
        **os.environ,
        **{folder: str(demo.output / folder) for folder in FOLDERS},
        "nnUNet_extTrainer": os.pathsep.join([discovery_folder(), *searched]),
        "PYTHONUNBUFFERED": "1",  # so that a log is up to date
    }
    if demo.device == "cpu":
        environment["nnUNet_def_n_proc"] = "1"  # each worker process of nnU-Net's takes 0.9 GB
    return environment


def plan_step(demo: Run) -> Step:
    """Return the step that makes the fingerprint, the plans and the preprocessed data of one configuration."""
    few = ("-npfp", "1", "-np", "1") if demo.device == "cpu" else ()
    return Step(
        "Plan and preprocess",
        (
            nnunet_command("nnUNetv2_plan_and_preprocess"), "-d", _id(demo), "-c", demo.configuration,
            "--verify_dataset_integrity", *few,
        ),
        demo.output / "logs" / f"{demo.dataset}__{demo.configuration}__plan.log",
        products=[demo.preprocessed / f"{STOCK_PLANS}.json"],
        stamp=demo.preprocessed / f"{STOCK_PLANS}_{demo.configuration}.done",
    )  # fmt: skip


def write_plans(demo: Run) -> None:
    """Write the smaller plans beside nnU-Net's where they are to be used."""
    stock = load_json(str(demo.preprocessed / f"{STOCK_PLANS}.json"))
    if demo.configuration not in stock["configurations"]:
        raise ValueError(
            f"--configuration {demo.configuration}: nnU-Net plans none for these images; "
            f"use one of {', '.join(stock['configurations'])}"
        )
    if demo.plans != STOCK_PLANS:
        small = resize_plans(stock, demo.plans)
        save_json(small, str(demo.preprocessed / f"{demo.plans}.json"), sort_keys=False)
        chosen = small["configurations"][demo.configuration]
        arch_kwargs = chosen["architecture"]["arch_kwargs"]
        print(
            f"  nnU-Net's plans are too large for this device; {demo.plans} has batches of {chosen['batch_size']}, "
            f"patches of {chosen['patch_size']} voxels and {arch_kwargs['features_per_stage']} features"
        )


def train_step(demo: Run) -> Step:
    """Return the step that trains and validates one fold, from the newest checkpoint there is."""
    final = demo.results / "checkpoint_final.pth"
    resume: tuple[str, ...] = ()
    if final.exists():
        resume = ("--val",)
    elif any((demo.results / f"checkpoint_{which}.pth").exists() for which in ("latest", "best")):
        resume = ("--c",)
    return Step(
        f"Train {demo.trainer}, {demo.configuration}, fold {demo.fold}, on {demo.device}",
        (
            nnunet_command("nnUNetv2_train"), _id(demo), demo.configuration, demo.fold, "-tr", demo.trainer,
            "-p", demo.plans, "-device", demo.device, *resume,
        ),
        demo.log("train"),
        products=[final, demo.results / "validation" / "summary.json"],
    )  # fmt: skip


def predict_step(demo: Run) -> Step:
    """Return the step that predicts the held-out cases."""
    in_process = ("-npp", "0", "-nps", "0") if demo.device == "cpu" else ()
    return Step(
        "Predict the held-out cases",
        (
            nnunet_command("nnUNetv2_predict"), "-d", _id(demo), "-i", str(demo.raw / "imagesTs"),
            "-o", str(demo.predictions), "-tr", demo.trainer, "-p", demo.plans, "-c", demo.configuration,
            "-f", demo.fold, "-device", demo.device, *in_process,
        ),
        demo.log("predict"),
        products=[demo.predictions / label.name for label in (demo.raw / "labelsTs").iterdir()],
        inputs=[demo.results / "checkpoint_final.pth"],
        stamp=demo.predictions / "predict.done",
    )  # fmt: skip


def evaluate_step(demo: Run) -> Step:
    """Return the step that compares the predictions with the held-out labels."""
    few = ("-np", "1") if demo.device == "cpu" else ()
    return Step(
        "Evaluate",
        (
            nnunet_command("nnUNetv2_evaluate_folder"), str(demo.raw / "labelsTs"), str(demo.predictions),
            "-djfile", str(demo.predictions / "dataset.json"), "-pfile", str(demo.predictions / "plans.json"),
            *few,
        ),
        demo.log("evaluate"),
        products=[demo.predictions / "summary.json"],
        inputs=[demo.predictions / "predict.done"],
    )  # fmt: skip


def _id(demo: Run) -> str:
    return str(int(demo.dataset[7:10]))


# --- report ------------------------------------------------------------------------------------------------------


def report(demo: Run, seconds: Mapping[str, float | None]) -> None:
    """Print the Dice table, the seconds of each step and the paths of the pictures, drawing the overlay."""
    summary = load_summary_json(str(demo.predictions / "summary.json"))
    dataset_json = load_json(str(demo.raw / "dataset.json"))
    cases = {
        Path(case["reference_file"]).name: {
            label: values["Dice"] for label, values in case["metrics"].items()
        }
        for case in summary["metric_per_case"]
    }
    print(f"\nDice of the held-out cases: {demo.trainer}, {demo.configuration}, fold {demo.fold}\n")
    print(format_dice(cases, dataset_json["labels"]))
    print(f"\nmean foreground Dice {summary['foreground_mean']['Dice']:.3f}\n")
    for step, duration in seconds.items():
        print(f"  {step:<20} {'was there' if duration is None else f'{duration:6.0f} s'}")
    print(f"  {'together':<20} {sum(filter(None, seconds.values())):6.0f} s\n")
    overlay = demo.output / "overlays" / f"{demo.name}.png"
    draw_extremes(demo, cases, dataset_json, overlay)
    print(f"overlay (worst and best case): {overlay}\ntraining progress: {demo.results / 'progress.png'}")


def format_dice(cases: Mapping[str, CaseDice], labels: Mapping[str, int | list[int]]) -> str:
    """Return a table with a row a case and a column a label or region; `-` where truth and prediction have none."""
    names = {tuple(value) if isinstance(value, list) else value: name for name, value in labels.items()}
    columns = list(next(iter(cases.values())))
    header = ["case", *(names[column] for column in columns), "mean"]
    body = [
        [case, *(f"{value:.3f}" for value in (*dice.values(), mean_dice(dice)))]
        for case, dice in cases.items()
    ]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    return "\n".join(
        "  "
        + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).replace("nan", "  -")
        for row in (header, *body)
    )


def mean_dice(dice: CaseDice) -> float:
    """Return a case's mean over the labels that it or its prediction has; NaN where there is none."""
    present = [value for value in dice.values() if not np.isnan(value)]
    return float(np.mean(present)) if present else float("nan")


def draw_extremes(
    demo: Run, cases: Mapping[str, CaseDice], dataset_json: Mapping[str, Any], path: Path
) -> None:
    """Draw the overlay of the worst and the best held-out case."""
    ranked = sorted((mean_dice(dice), case) for case, dice in cases.items() if not np.isnan(mean_dice(dice)))
    ending = dataset_json["file_ending"]
    rows = []
    for which, (dice, case) in {"worst": ranked[0], "best": ranked[-1]}.items() if ranked else ():
        image_files = sorted((demo.raw / "imagesTs").glob(f"{case.removesuffix(ending)}_[0-9]*{ending}"))
        reader = determine_reader_writer_from_dataset_json(
            dict(dataset_json), str(image_files[0]), verbose=False
        )()
        image, properties = reader.read_images([str(file) for file in image_files])
        truth, prediction = (
            reader.read_seg(str(folder / case))[0][0].astype(int)
            for folder in (demo.raw / "labelsTs", demo.predictions)
        )
        title = f"{which}: {case.removesuffix(ending)}, Dice {dice:.3f}"
        rows.append(Row(title, image[0], truth, prediction, properties["spacing"]))
    draw_overlay(rows, label_names(dataset_json["labels"]), path)


def label_names(labels: Mapping[str, int | list[int]]) -> dict[int, str]:
    """Return a name for each value in a label map; of regions, the smallest that holds the value gives it."""
    names: dict[int, str] = {}
    by_size = sorted(labels.items(), key=lambda item: len(item[1]) if isinstance(item[1], list) else 1)
    for name, value in by_size:
        for one in value if isinstance(value, list) else [value]:
            names.setdefault(one, name)
    return names

"""From test images to a package that is checked, by nnU-Net's own commands; or to a container of the models.

The models are those of -tr, -c and -p, or what nnU-Net's own search finds the best. nnU-Net's commands predict, average
and postprocess; a run that was cut off goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_archs.nnunet.commands import (
    check_step_size,
    last_line,
    nnunet_command,
    python_command,
    unwound_by_sigterm,
    variables,
    without_workers,
)
from nnunet_archs.nnunet.datasets import segment_names
from nnunet_archs.nnunet.device import choose_device
from nnunet_archs.nnunet.steps import Step, StepError, run_step

from .check import check, check_pattern, find_cases, name_cases
from .container import Settings, build_container
from .dicom import check_installed, find_series, slices_of, write_segmentation
from .sockets import WITH_GEOMETRY, label_map, make_files
from .submit import (
    FOLDS,
    INFORMATION,
    Member,
    Selection,
    best_selection,
    candidates,
    find_dataset,
    find_dataset_json,
    find_reader,
    keep_to_request,
    remove_unfinished,
    results,
    select,
    write_package,
)

PACKAGE = "submission.zip"
IMAGES = "images"  # what DICOM series are converted to
SEGMENTATIONS = "dicom"


def make_submission(args: argparse.Namespace) -> None:
    """Predict, check and zip as the command's arguments say; or only check.

    Raises:
        ValueError: if something is wrong with them, with the models, or with what they predict.
    """
    check_arguments(args)
    args.device = choose_device(args.device)
    dataset = find_dataset(args.dataset)
    if args.check_only:
        dataset_json = find_dataset_json(dataset)
        example, *_ = next(iter(name_cases(args.images, dataset_json).values()))
        reader = find_reader(dataset, dataset_json, example)
        cases = find_cases(args.images, dataset_json, reader)
        judge(args, args.check_only, cases, dataset_json, reader)
        print(f"{args.check_only}: {len(cases)} cases, nothing wrong")
        return
    with unwound_by_sigterm():
        selection = find_selection(args, dataset)
        (make_container if args.container else submit)(args, selection)


def check_arguments(args: argparse.Namespace) -> None:
    """Check options that do not go together.

    Raises:
        ValueError: for such.
    """
    check_pattern(args.rename)
    given = {"-i": args.images, "-o": args.output, "--container": args.container, "--check-only": args.check_only}
    sockets = {"--input-socket": args.input_socket, "--output-socket": args.output_socket}
    needed = {"--container", *sockets} if args.container else {"-i", "--check-only" if args.check_only else "-o"}
    for option, value in {**given, **sockets, "--time-limit": args.time_limit}.items():
        if value is None and option in needed:
            raise ValueError(f"{option} is missing; give it")
        if value is not None and option not in needed and not (args.container and option == "--time-limit"):
            raise ValueError(f"{option} does not go with {', '.join(sorted(needed))}; leave it out")
    if args.time_limit is not None and (args.step_size or args.no_mirroring):
        raise ValueError("--time-limit decides on step size and mirroring; leave out --step-size and --no-mirroring")
    if args.time_limit is not None and not args.time_limit > 0:
        raise ValueError(f"--time-limit {args.time_limit:g}: give the seconds that a case may take")
    if args.dicom:
        if args.check_only:
            raise ValueError("--dicom does not go with --check-only; leave it out, with the images of OUT/images as -i")
        check_installed()
    if args.check_only and not args.check_only.exists():
        raise ValueError(f"--check-only {args.check_only}: there is no such file")
    check_step_size(args.step_size)
    if unknown := [fold for fold in args.folds or () if fold != "all" and not fold.isdecimal()]:
        raise ValueError(f"-f {unknown[0]}: give numbers of folds, or all")
    if (args.trainers or args.plans or args.folds) and not args.configurations:
        raise ValueError("-tr, -p and -f are of models whose configuration -c names; add -c, or leave them out")


def find_selection(args: argparse.Namespace, dataset: str) -> Selection:
    """The models that are asked for, or the best, which nnU-Net's search finds where it has not yet."""
    if args.configurations:
        names = (args.trainers or ["nnUNetTrainer"], args.plans or ["nnUNetPlans"], args.configurations)
        return select(dataset, *names, args.folds or FOLDS)
    information = results(dataset) / INFORMATION
    if not information.exists():
        found = candidates(dataset)
        command = python_command("nnunet_archs.deploy.best", dataset, *(member.name for member in found))
        log = results(dataset) / "find_best_configuration.log"
        do(Step(f"Find the best of {len(found)} models and their pairs", command, log, [information]), args.device)
    return best_selection(dataset)


def submit(args: argparse.Namespace, selection: Selection) -> None:
    """Predict with every model, average, postprocess, check and zip."""
    dataset_json, reader = selection.members[0].dataset_json, selection.members[0].reader
    series: dict[str, list[Path]] = {}
    if args.dicom:
        series = find_series(args.images, len(dataset_json["channel_names"]))
        args.images = convert_series(series, args.output / IMAGES, dataset_json["file_ending"], reader)
    cases = find_cases(args.images, dataset_json, reader)
    options = prediction_options(args.step_size, mirroring=not args.no_mirroring)
    keep_to_request(args.output, selection, cases, options)
    package = args.output / PACKAGE
    package.unlink(missing_ok=True)  # of a run before, perhaps under other names
    for step in steps(args, selection, list(cases), options):
        predictions = step.products[0].parent
        if not step.is_done():
            remove_unfinished(predictions, dataset_json["file_ending"], reader)
        do(step, args.device)
    unfinished = args.output / f".{PACKAGE}.unfinished"
    try:
        write_package(unfinished, predictions, cases, dataset_json["file_ending"], args.rename)
        judge(args, unfinished, cases, dataset_json, reader)
        if series:
            write_segmentations(series, predictions, args.output / SEGMENTATIONS, dataset_json, reader)
        unfinished.replace(package)
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"\n{package}: {len(cases)} cases, nothing wrong")


def convert_series(series: Mapping[str, Sequence[Path]], folder: Path, ending: str, reader: BaseReaderWriter) -> Path:
    """A folder of images in the models' format, of DICOM series; what is newer than its series stays as it is.

    Raises:
        ValueError: if a series cannot be read, or the models' format has no spacing.
    """
    if ending not in WITH_GEOMETRY:
        known = ", ".join(WITH_GEOMETRY)
        raise ValueError(f"--dicom: the model reads {ending}, and series are made into {known}; leave out --dicom")
    folder.mkdir(parents=True, exist_ok=True)
    for case, channels in series.items():
        made = [folder / f"{case}_{channel:04}{ending}" for channel in range(len(channels))]
        newest = max(Path(file).stat().st_mtime for channel in channels for file in slices_of(channel))
        if not all(file.exists() and file.stat().st_mtime > newest for file in made):
            with TemporaryDirectory(dir=folder, prefix=".") as unfinished:
                for file in make_files(channels, Path(unfinished, case), ending, reader):
                    file.replace(folder / file.name)
    return folder


def write_segmentations(
    series: Mapping[str, Sequence[Path]],
    predictions: Path,
    folder: Path,
    dataset_json: Mapping[str, Any],
    reader: BaseReaderWriter,
) -> None:
    """Write the predictions as DICOM segmentations of the cases' first series."""
    names = segment_names(dataset_json["labels"])
    folder.mkdir(exist_ok=True)
    for case, (first, *_) in series.items():
        label = label_map(predictions / f"{case}{dataset_json['file_ending']}", first, reader)
        write_segmentation(label, names, first, folder / f"{case}.dcm")


def make_container(args: argparse.Namespace, selection: Selection) -> None:
    """Write the container's folder."""
    step_size, mirroring = args.step_size or 0.5, not args.no_mirroring
    settings = Settings(args.input_socket, args.output_socket, step_size, mirroring, args.time_limit, args.dicom)
    build_container(args.container, selection, settings)
    print(f"{args.container}: {', '.join(member.name for member in selection.members)}; see README.md there")


def prediction_options(step_size: float | None, *, mirroring: bool) -> list[str]:
    """Options of `nnUNetv2_predict`."""
    return [*(["-step_size", f"{step_size:g}"] if step_size else []), *([] if mirroring else ["--disable_tta"])]


def steps(args: argparse.Namespace, selection: Selection, cases: Sequence[str], options: Sequence[str]) -> list[Step]:
    """nnU-Net's commands: prediction with each model, ensembling of several, postprocessing."""
    members, ending = selection.members, selection.members[0].dataset_json["file_ending"]
    files = [f"{case}{ending}" for case in cases]
    is_ensemble = len(members) > 1
    made = [
        predict_step(args, stage, cases, [*options, *(["--save_probabilities"] if is_ensemble else [])])
        for stage in selection.stages
    ]
    result = args.output / members[0].name
    processes = ("-np", "1") if args.device == "cpu" else ()
    if is_ensemble:
        folders, result = [str(args.output / member.name) for member in members], args.output / "ensemble"
        command = [nnunet_command("nnUNetv2_ensemble"), "-i", *folders, "-o", str(result), *processes]
        made.append(make_step(args, f"Average {len(members)} models", command, result, files))
    if selection.postprocessing:
        source, result = result, args.output / "postprocessed"
        command = [nnunet_command("nnUNetv2_apply_postprocessing"), "-i", str(source), "-o", str(result), *processes]
        model = members[0].folder
        command += ["-plans_json", str(model / "plans.json"), "-dataset_json", str(model / "dataset.json")]
        command += ["-pp_pkl_file", str(selection.postprocessing)]
        made.append(make_step(args, "Postprocess", command, result, files))
    return made


def predict_step(args: argparse.Namespace, member: Member, cases: Sequence[str], options: Sequence[str]) -> Step:
    """The step that predicts with a model; it goes on from what is there."""
    target = args.output / member.name
    command = [nnunet_command("nnUNetv2_predict"), "-i", str(args.images), "-o", str(target), *member.arguments]
    command += [*options, "-device", args.device, "--continue_prediction"]
    if previous := member.previous():
        command += ["-prev_stage_predictions", str(args.output / previous.name)]
    command += without_workers(args.device)
    endings = [member.dataset_json["file_ending"], *([".npz"] if "--save_probabilities" in options else [])]
    heading = f"Predict {len(cases)} cases: {member.name}, folds {' '.join(member.folds)}"
    return make_step(args, heading, command, target, [f"{case}{ending}" for case in cases for ending in endings])


def make_step(
    args: argparse.Namespace, heading: str, command: Sequence[str], target: Path, files: Sequence[str]
) -> Step:
    """A step that writes files into a folder."""
    log = args.output / "logs" / f"{target.name}.log"
    return Step(heading, command, log, [target / file for file in files], stamp=target / "done.txt")


def do(step: Step, device: str) -> None:
    """Run a step.

    Raises:
        ValueError: if it fails, with the last line that it printed.
    """
    try:
        run_step(step, variables(device))
    except StepError as error:
        raise ValueError(f"{step.heading} failed: {last_line(step.log)} (all of it: {step.log})") from error


def judge(
    args: argparse.Namespace,
    package: Path,
    cases: Mapping[str, Sequence[Path]],
    dataset_json: Mapping[str, Any],
    reader: BaseReaderWriter,
) -> None:
    """Check a package; warn of what is allowed.

    Raises:
        ValueError: if something is wrong with it; it is printed before.
    """
    problems = check(package, cases, dataset_json, reader, pattern=args.rename, geometry=args.geometry)
    allowed = [problem for problem in problems if problem.is_warning or (problem.is_empty and args.allow_empty)]
    for problem in problems:
        print(f"{'warning: ' if problem in allowed else ''}{problem}")
    if count := len(problems) - len(allowed):
        first = next(problem for problem in problems if problem not in allowed)
        remedy = "put that right; nothing was packed" if package != args.check_only else "do not upload it"
        if first.is_empty:
            remedy += ", or give --allow-empty where a case may have none"
        raise ValueError(f"{count} problem{'s' * (count > 1)}, first {first}; {remedy}")

"""What makes a submission: trained models, what nnU-Net found the best of them, and a package of predictions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo, is_zipfile

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results

from nnunet_archs.files import write_whole
from nnunet_archs.nnunet.commands import is_trained
from nnunet_archs.nnunet.datasets import check_folders, dataset_id, dataset_json_files, dataset_name, read_dataset_json
from nnunet_archs.nnunet.images import read_labels, reader_for, reader_of
from nnunet_archs.nnunet.plans import plans_in
from nnunet_archs.nnunet.whole import check_whole

from .check import file_name

FOLDS = ("0", "1", "2", "3", "4")
INFORMATION = "inference_information.json"  # nnU-Net's, of the best configuration or ensemble
REQUEST = "request.json"
DATE = (1980, 1, 1, 0, 0, 0)  # of every file in the package, so that equal predictions make equal packages


@dataclass(frozen=True)
class Member:
    """Folds of a trained model."""

    dataset: str
    trainer: str
    plans: str
    configuration: str
    folds: tuple[str, ...] = FOLDS

    @property
    def name(self) -> str:
        """nnU-Net's name of the model's folder."""
        return f"{self.trainer}__{self.plans}__{self.configuration}"

    @property
    def folder(self) -> Path:
        """nnU-Net's results folder of all folds."""
        return results(self.dataset) / self.name

    @property
    def checkpoints(self) -> list[Path]:
        """What nnU-Net predicts with."""
        return [self.folder / f"fold_{fold}" / "checkpoint_final.pth" for fold in self.folds]

    @property
    def dataset_json(self) -> dict[str, Any]:
        """The channels and labels that it was trained on."""
        return read_dataset_json(self.folder / "dataset.json")

    @property
    def plan(self) -> dict[str, Any]:
        """The plans that it was trained on."""
        return load_json(str(self.folder / "plans.json"))

    @property
    def reader(self) -> BaseReaderWriter:
        """What it reads images with."""
        return reader_of(self.plan)

    @property
    def arguments(self) -> tuple[str, ...]:
        """What tells nnU-Net's commands which model."""
        model = ("-tr", self.trainer, "-p", self.plans, "-c", self.configuration)
        return ("-d", dataset_id(self.dataset), *model, "-f", *self.folds)

    def previous(self) -> Member | None:
        """The first stage of a cascade."""
        stage = self.plan["configurations"][self.configuration].get("previous_stage")
        return stage and Member(self.dataset, self.trainer, self.plans, stage, self.folds)


@dataclass(frozen=True)
class Selection:
    """The models whose probabilities are averaged, and nnU-Net's postprocessing."""

    members: tuple[Member, ...]
    postprocessing: Path | None = None

    @property
    def stages(self) -> list[Member]:
        """Everything that is predicted: a cascade's first stage before it, none twice."""
        stages = [stage for member in self.members for stage in (member.previous(), member) if stage]
        return list(dict.fromkeys(stages))


def find_dataset(name: str) -> str:
    """A data set's name, of its name or ID.

    Raises:
        ValueError: if nnU-Net's folders do not have it, or nnUNet_results is not set.
    """
    check_folders("nnUNet_results")
    return dataset_name(name)


def find_dataset_json(dataset: str) -> dict[str, Any]:
    """A data set's channels and labels, from whichever of nnU-Net's folders has them.

    Raises:
        ValueError: if none has.
    """
    for file in (*dataset_json_files(dataset), *sorted(results(dataset).glob("*__*__*/dataset.json"))):
        return read_dataset_json(file)
    raise ValueError(f"{dataset} has no dataset.json in nnU-Net's folders; put it into nnUNet_raw/{dataset}")


def find_reader(dataset: str, dataset_json: Mapping[str, Any], example: Path) -> BaseReaderWriter:
    """The reader that a data set's plans name; without plans, the one that nnU-Net would choose.

    Raises:
        ValueError: if there is none that reads the example.
    """
    folders = [Path(nnUNet_preprocessed.get(), dataset)] if nnUNet_preprocessed.get() else []
    for folder in (*folders, *sorted(results(dataset).glob("*__*__*"))):
        for plans in plans_in(folder):
            return reader_of(plans.plans)
    return reader_for(dataset_json, example)


def select(
    dataset: str, trainers: Sequence[str], plans: Sequence[str], configurations: Sequence[str], folds: Sequence[str]
) -> Selection:
    """Models by name: the first of each list, the second of each, and so on; a list of one goes with all.

    Raises:
        ValueError: if the lists do not go together, or a model is not there, or not finished.
    """
    count = max(len(trainers), len(plans), len(configurations))
    lists = {"-tr": trainers, "-p": plans, "-c": configurations}
    for option, names in lists.items():
        if len(names) not in (1, count):
            raise ValueError(f"{option} has {len(names)} names, and another {count}; give one for all, or one for each")
    named = zip(*(names if len(names) > 1 else list(names) * count for names in lists.values()), strict=True)
    once = tuple(dict.fromkeys(folds))
    members = (Member(dataset, trainer, plan, configuration, once) for trainer, plan, configuration in named)
    return checked(Selection(tuple(dict.fromkeys(members))))


def checked(selection: Selection) -> Selection:
    """The selection, once all of it is there.

    Raises:
        ValueError: if a fold is missing, unfinished or cut off, or the models know different labels.
    """
    for member in selection.members:
        check_model(member)
    for stage in selection.stages:
        check_model(stage)
    first, *others = selection.members
    for other in others:
        if other.dataset_json["labels"] != first.dataset_json["labels"]:
            raise ValueError(f"{other.name} knows other labels than {first.name}; average models of the same labels")
    return selection


def check_model(member: Member) -> None:
    """Check that a model can predict.

    Raises:
        ValueError: if something is missing or cut off.
    """
    for file in ("plans.json", "dataset.json"):
        if not (member.folder / file).is_file():
            there = ", ".join(sorted(folder.name for folder in results(member.dataset).glob("*__*__*")))
            raise ValueError(f"{member.folder} has no {file}; name a model that is there ({there or 'there is none'})")
    for fold, checkpoint in zip(member.folds, member.checkpoints, strict=True):
        if not checkpoint.is_file():
            raise ValueError(
                f"fold {fold} of {member.folder} is missing or unfinished (no {checkpoint.name}); "
                "train it to its end, or name the folds that there are with -f"
            )
        if not is_zipfile(checkpoint):
            raise ValueError(f"{checkpoint} is cut off; copy or train that fold again")


def best_selection(dataset: str) -> Selection:
    """What nnU-Net's search found the best.

    Raises:
        ValueError: if something of it is not there any more.
    """
    file = results(dataset) / INFORMATION
    information = load_json(str(file))
    found = information["best_model_or_ensemble"]
    folds = tuple(str(fold) for fold in information["folds"])
    members = tuple(
        Member(dataset, model["trainer"], model["plans_identifier"], model["configuration"], folds)
        for model in found["selected_model_or_models"]
    )
    postprocessing = Path(found["postprocessing_file"])
    if not postprocessing.is_file():
        raise ValueError(f"{file} names {postprocessing}, which is gone; remove {file}, and run this again")
    return checked(Selection(members, postprocessing))


def candidates(dataset: str) -> list[Member]:
    """The models that nnU-Net's search can compare: all five folds trained and validated.

    Raises:
        ValueError: if there are none, or several of which one has no probabilities to average.
    """
    named = [tuple(folder.name.split("__")) for folder in sorted(results(dataset).glob("*__*__*"))]
    members = [Member(dataset, *names) for names in named if len(names) == 3]
    found = [member for member in members if all(is_trained(checkpoint.parent) for checkpoint in member.checkpoints)]
    if not found:
        raise ValueError(f"{results(dataset)} has no model with all five folds; train them, or give -tr, -c, -p and -f")
    for member in found if len(found) > 1 else ():
        check_probabilities(member)
    return found


def check_probabilities(member: Member) -> None:
    """Check that the validation of a model's folds left the probabilities of every case.

    Raises:
        ValueError: if some are missing.
    """
    ending = member.dataset_json["file_ending"]
    for fold, checkpoint in zip(member.folds, member.checkpoints, strict=True):
        folder = checkpoint.parent / "validation"
        cases = [file.name.removesuffix(ending) for file in folder.glob(f"*{ending}")]
        if not all((folder / f"{case}.npz").exists() for case in cases):
            again = f"{dataset_id(member.dataset)} {member.configuration} {fold} -tr {member.trainer} -p {member.plans}"
            raise ValueError(
                f"{folder} has no probabilities (.npz), which the search for the best ensemble needs; "
                f"run nnUNetv2_train {again} --val --npz, or give -tr, -c and -p"
            )


def keep_to_request(
    output: Path, selection: Selection, cases: Mapping[str, Sequence[Path]], options: Sequence[str]
) -> None:
    """Note what a folder of predictions is for; predictions for something else are not gone on from.

    Raises:
        ValueError: if the folder has such.
    """
    files = [file for stage in selection.stages for file in stage.checkpoints]
    files += [file for images in cases.values() for file in images]
    files += [selection.postprocessing] if selection.postprocessing else []
    request = {
        "models": {stage.name: stage.folds for stage in selection.stages},
        "averaged": [member.name for member in selection.members],
        "options": list(options),
        "files": {str(file.resolve()): [file.stat().st_size, file.stat().st_mtime_ns] for file in files},
    }
    file, content = output / REQUEST, json.dumps(request, indent=1) + "\n"
    if file.exists() and file.read_text() != content:
        raise ValueError(f"{output} is of other models, images or options ({REQUEST}); give another -o, or remove it")
    write_whole(file, content)


def remove_unfinished(folder: Path, ending: str, reader: BaseReaderWriter) -> None:
    """Remove predictions that were cut off while they were written: nnU-Net would keep them."""
    for file in folder.glob(f"*{ending}"):
        remove_unless(partial(read_labels, reader), file)
    for file in folder.glob("*.npz"):
        remove_unless(check_whole, file)


def remove_unless(read: Callable[[Path], object], file: Path) -> None:
    """Remove a file that is not whole."""
    try:
        read(file)
    except ValueError:
        file.unlink()


def write_package(target: Path, predictions: Path, cases: Iterable[str], ending: str, pattern: str) -> None:
    """Zip the predictions of all cases, under names that the pattern makes."""
    with ZipFile(target, "w") as archive:
        for case in sorted(cases):
            file = predictions / f"{case}{ending}"
            info = ZipInfo(file_name(pattern, case, ending), DATE)
            info.compress_type, info.external_attr, info.file_size = ZIP_DEFLATED, 0o644 << 16, file.stat().st_size
            with file.open("rb") as source, archive.open(info, "w") as member:
                shutil.copyfileobj(source, member)


def results(dataset: str) -> Path:
    """nnU-Net's folder of a data set's models."""
    return Path(str(nnUNet_results), dataset)

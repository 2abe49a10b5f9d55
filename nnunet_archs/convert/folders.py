"""Turn a folder of images and labels into an nnU-Net raw data set, after checking every file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from tqdm import tqdm

from nnunet_archs.instances import described
from nnunet_archs.lengths import Length
from nnunet_archs.nnunet.datasets import normal_form
from nnunet_archs.nnunet.images import read_image, reader_for

from .case_files import Case, Contents, check_case
from .raw_data import RawData, check_labels, known_values

N_FOLDS = 5  # of nnU-Net's cross-validation, which needs as many training cases
TEST_SHARE = 5  # one case in five is held out where a data set has no labelled test cases
SEED = 20240229
MSD_ONLY = ("numTest", "training", "test", "tensorImageSize")  # paths that are no longer true
MAX_LABEL = 255  # what a label map of bytes holds
FORMS = (
    "an nnU-Net raw data set (dataset.json, imagesTr, labelsTr), an MSD task folder (the same, 4D images), "
    "or a folder with images/ and labels/ of equal names"
)
ENDINGS = sorted({ending for reader in LIST_OF_IO_CLASSES for ending in reader.supported_file_endings})


def inspect_folder(
    folder: Path, *, hold_out: bool = True, binary: bool = False, border: Length | None = None
) -> RawData:
    """Read all images and labels of `folder` and return what is to be written; nothing is written yet.

    With `hold_out` a fifth of the cases is kept for testing where there are no others. With `binary` labels of pairs
    are ids of instances, and all above 0 become one label; with a `border` they become cores and borders of its width.

    Raises ValueError for a folder of no known form, an image without label and the reverse, a file that is no
    image, labels of another shape than their image or with unknown values, and fewer than 5 training cases.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give {FORMS}")
    if (folder / "dataset.json").is_file():
        for option in (name for name, given in {"binary": binary, "instances": border}.items() if given):
            raise ValueError(f"{folder / 'dataset.json'} says what the labels are: leave --{option} out")
        return _check_count(_inspect_dataset(folder), folder, hold_out=hold_out)
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        return _check_count(_inspect_pairs(folder, binary=binary, border=border), folder, hold_out=hold_out)
    what = "holds neither dataset.json nor images/ and labels/" if any(folder.iterdir()) else "is empty"
    raise ValueError(f"{folder} {what}: give {FORMS}")


def check_files(
    cases: Sequence[Case], dataset_json: Mapping[str, Any], values: set[int] | None = None
) -> list[Contents]:
    """Read the files of all cases; what each holds. Raises ValueError for the first that is not as it should be.

    `values` are those that label maps may hold, where they are not the labels of dataset.json.
    """
    reader = reader_for(dataset_json, cases[0].images[0])
    contents = []
    for case in tqdm(cases, desc="Checking", unit="case", leave=False, disable=None):
        contents.append(check_case(case, reader, len(dataset_json["channel_names"])))
        check_labels(case, contents[-1].values, known_values(dataset_json) if values is None else values)
    return contents


def _inspect_dataset(folder: Path) -> RawData:
    """Inspect an nnU-Net raw data set, of its first version too, or an MSD task folder."""
    source = _load_dataset_json(folder / "dataset.json")
    dataset_json = {key: value for key, value in source.items() if key not in ("dataset", *MSD_ONLY)}
    _check_known_values(dataset_json, folder / "dataset.json")
    ending = dataset_json["file_ending"]
    if "dataset" in source:
        files = get_filenames_of_train_images_and_targets(str(folder), source)
        training = [Case(k, tuple(map(Path, v["images"])), Path(v["label"])) for k, v in files.items()]
    else:
        training = _pair_dataset(folder / "imagesTr", folder / "labelsTr", ending)
    test = []
    if _files(folder / "labelsTs"):
        test = _pair_dataset(folder / "imagesTs", folder / "labelsTs", ending)
    contents = check_files([*training, *test], dataset_json)
    return RawData(
        dataset_json,
        tuple(training),
        tuple(test),
        is_flat=all(found.is_flat for found in contents),
        may_be_4d=isinstance(reader_for(dataset_json, training[0].images[0]), SimpleITKIO),
        notes=tuple(_notes(contents)),
    )


def _inspect_pairs(folder: Path, *, binary: bool, border: Length | None) -> RawData:
    """Inspect a folder with `images` and `labels` of equal names."""
    endings = {ending_of(file) for part in ("images", "labels") for file in _files(folder / part)}
    if len(endings) > 1:
        raise ValueError(f"{folder} mixes {', '.join(sorted(endings))}: nnU-Net needs one file ending; convert")
    ending = "".join(endings)
    cases = _pair(folder / "images", folder / "labels", ending, numbered=False)
    reader = reader_for({"file_ending": ending}, cases[0].images[0])
    n_channels = len(read_image(reader, cases[0].images)[0])
    progress = tqdm(cases, desc="Checking", unit="case", leave=False, disable=None)
    contents = [check_case(case, reader, n_channels) for case in progress]
    values = {0}.union(*(found.values for found in contents))
    new_labels = _consecutive(values, folder / "labels", binary=binary or border is not None)
    is_natural = isinstance(reader, NaturalImage2DIO)
    drop_alpha = is_natural and n_channels == 4
    is_renumbered = any(value != label for value, label in new_labels.items())
    notes = list(_notes(contents))
    if isinstance(reader, SimpleITKIO) and n_channels > 1:
        notes.append(f"the {n_channels} volumes of each file become {n_channels} channels")
    if border:
        notes.append(f"labels above 0 are ids of instances: each becomes a core in a border of {border}")
    elif binary:
        notes.append("labels above 0 are ids of instances: all become 1")
    elif is_renumbered:
        notes.append("label values become " + ", ".join(f"{old} → {new}" for old, new in new_labels.items()))
    if drop_alpha:
        notes.append("the alpha channel of the RGBA images is left out")
    return RawData(
        {
            "file_ending": ending,
            "channel_names": _channel_names(3 if drop_alpha else n_channels, is_natural),
            "labels": {"background": 0, "foreground": 1} if binary else _names(new_labels),
            **(described(str(border)) if border else {}),
        },
        tuple(cases),
        (),
        is_flat=all(found.is_flat for found in contents),
        may_be_4d=isinstance(reader, SimpleITKIO),
        drop_alpha=drop_alpha,
        new_labels=new_labels if is_renumbered and not border else None,
        border=border,
        notes=tuple(notes),
    )


def _check_count(data: RawData, folder: Path, *, hold_out: bool) -> RawData:
    """Return `data` with test cases: where there are none, a seeded fifth of the training cases that can be spared."""
    n_cases = len(data.training)
    if hold_out and not data.test and n_cases > N_FOLDS:
        n_test = min(n_cases // TEST_SHARE, n_cases - N_FOLDS)
        held_out = set(np.random.default_rng(SEED).permutation(n_cases)[:n_test].tolist())
        data = replace(
            data,
            training=tuple(case for i, case in enumerate(data.training) if i not in held_out),
            test=tuple(case for i, case in enumerate(data.training) if i in held_out),
            notes=(*data.notes, f"{n_test} of {n_cases} labelled cases are held out for testing"),
        )
    n_training = len(data.training)
    if n_training < N_FOLDS:
        raise ValueError(f"{folder} has {n_cases} cases to train on; nnU-Net's {N_FOLDS} folds need as many: add cases")
    if hold_out and not data.test:
        data = replace(data, notes=(*data.notes, f"of {n_cases} labelled cases none can be held out for testing"))
    return data


def _notes(contents: Sequence[Contents]) -> Iterator[str]:
    """What a user should know of the images."""
    if all(found.spacing == (1.0, 1.0, 1.0) for found in contents):
        yield "every voxel has 1 x 1 x 1 mm; where that is not so, the spacing was lost: write it into the files"


def _load_dataset_json(file: Path) -> dict[str, Any]:
    """Return a dataset.json as nnU-Net has it now; the MSD and its first version name labels by their values."""
    try:
        source = normal_form(load_json(str(file)))
    except ValueError as error:
        raise ValueError(f"{file} is not a JSON file: {error}; correct it") from error
    labels = source.get("labels", {})
    if labels and all(isinstance(name, str) and value.isdecimal() for value, name in labels.items()):
        source = {"file_ending": ".nii.gz", **source, "labels": {name: int(value) for value, name in labels.items()}}
    required = ("channel_names", "labels", "file_ending")
    if missing := [key for key in required if key not in source]:
        raise ValueError(f"{file} has no {' and no '.join(missing)}: nnU-Net needs {', '.join(required)}")
    return source


def _check_known_values(dataset_json: Mapping[str, Any], file: Path) -> None:
    """Check the labels, regions and ignore label of a dataset.json. Raises ValueError where nnU-Net takes none such."""
    labels = dataset_json["labels"]
    values: list[Any] = []
    for entry in labels.values():
        values += entry if isinstance(entry, list) else [entry]
    if not all(isinstance(value, int) for value in values) or set(values) != set(range(len(set(values)))):
        rule = 'nnU-Net needs names with consecutive numbers, as {"background": 0, "organ": 1}; renumber'
        raise ValueError(f"{file} has the labels {dict(labels)}: {rule}")
    regions = [name for name in labels if name not in ("background", "ignore")]
    order = dataset_json.get("regions_class_order")
    if any(isinstance(entry, list) for entry in labels.values()) and len(order or ()) != len(regions):
        rule = "nnU-Net needs regions_class_order, a label for each, in the order in which they are painted; add it"
        raise ValueError(f"{file} has the regions {', '.join(regions)} and regions_class_order {order}: {rule}")


def _consecutive(values: set[int], folder: Path, *, binary: bool) -> dict[int, int]:
    """Return a label for each value, without gaps; or 1 for all above 0."""
    if values == {0}:
        raise ValueError(f"{folder} holds nothing but 0: there is nothing to learn; give labels above 0")
    if binary:
        return {value: int(value > 0) for value in sorted(values)}
    if len(values) > MAX_LABEL + 1:
        found = f"{folder} holds {len(values)} values, more than {MAX_LABEL + 1}"
        rule = "a label is a class and not an instance; give a class each, or make ids binary (convert --binary)"
        raise ValueError(f"{found}: {rule}")
    return {value: label for label, value in enumerate(sorted(values))}


def _names(new_labels: Mapping[int, int]) -> dict[str, int]:
    return {f"label {old}" if new else "background": new for old, new in new_labels.items()}


def _channel_names(n_channels: int, is_natural: bool) -> dict[str, str]:
    names = ["R", "G", "B"] if is_natural and n_channels == 3 else [f"image {i}" for i in range(n_channels)]
    return {str(i): name for i, name in enumerate(names)}


def _files(folder: Path) -> list[Path]:
    """Return the files in a folder, without the hidden ones that MSD archives carry."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))


def ending_of(file: Path) -> str:
    """Return the longest file ending that nnU-Net reads."""
    matching = [ending for ending in ENDINGS if file.name.lower().endswith(ending)]
    if not matching:
        rule = f"nnU-Net reads files that end with {', '.join(ENDINGS)}; convert or remove it"
        raise ValueError(f"{file} is not an image: {rule}")
    return file.name[-max(map(len, matching)) :]


def _pair(images: Path, labels: Path, ending: str, *, numbered: bool) -> list[Case]:
    """Pair images with labels by name; `numbered` images carry a channel number, as in CASE_0000.nii.gz."""
    number = "_[0-9]{4}" if numbered else ""
    channels: dict[str, list[Path]] = {}
    for file in _files(images):
        match = re.fullmatch(rf"(.+){number}{re.escape(ending)}", file.name)
        if not match:
            rule = f"images here are named CASE{'_0000' if numbered else ''}{ending}; rename or remove it"
            raise ValueError(f"{file} is not an image of this data set: {rule}")
        channels.setdefault(match[1], []).append(file)
    label_files = {file.name.removesuffix(ending): file for file in _files(labels)}
    if not channels and not label_files:
        raise ValueError(f"{images} is empty: put images there, and labels of the same names in {labels}")
    if missing := sorted(channels.keys() - label_files.keys()):
        image = channels[missing[0]][0]
        raise ValueError(f"{image} has no label{_more(missing)}: add {labels / (missing[0] + ending)}")
    if missing := sorted(label_files.keys() - channels.keys()):
        raise ValueError(f"{label_files[missing[0]]} has no image{_more(missing)}: add it to {images}")
    return [Case(name, tuple(files), label_files[name]) for name, files in sorted(channels.items())]


def _pair_dataset(images: Path, labels: Path, ending: str) -> list[Case]:
    """Pair images with labels: by equal names, as in the MSD, where there are such; else images carry numbers."""
    equal = {file.name for file in _files(images)} & {file.name for file in _files(labels)}
    return _pair(images, labels, ending, numbered=not equal)


def _more(names: Sequence[str]) -> str:
    return f", nor have {len(names) - 1} others" if len(names) > 1 else ""

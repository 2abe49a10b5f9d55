"""Data sets of volumes in NIfTI: COVID19-I, KiTS19, LiTS and BraTS19."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK

from .case_files import Case
from .layout import Layout, Options, found, there
from .pixels import Array, Window, array_of, check_same_shape, in_window, read_volume, windowed
from .raw_data import Drawn, Item, Unit
from .splits import THREE_FOLDS

CT = ("CT",)


def find_covid19(folder: Path, options: Options, *, merge: bool) -> list[Unit]:
    """A unit for each annotated slice; all labels are one where they are merged."""
    (image_file,) = found(folder, "tr_im.nii.gz", "tr_im.nii.gz")
    label_file = there(folder / "tr_mask.nii.gz", image_file)
    volume, labels = read_volume(image_file), array_of(read_volume(label_file))
    check_same_shape(volume.GetSize()[::-1], labels.shape, image_file, label_file)
    if unknown := set(np.unique(labels).tolist()) - {0, 1, 2, 3}:
        raise ValueError(f"{label_file} holds the value {min(unknown)}: its labels are 0 to 3; replace it")
    units = []
    for index in np.flatnonzero(labels.any((1, 2))).tolist():
        name = f"slice_{index:03}"
        label = labels[index] > 0 if merge else labels[index]
        units.append(Unit(name, partial(draw_slice, name, volume, label, index, options.window)))
    return units


def draw_slice(name: str, volume: SimpleITK.Image, label: Array, index: int, window: Window | None) -> Iterator[Drawn]:
    """A slice of a volume, as a volume of one plane."""
    plane = volume[:, :, index : index + 1]
    yield Drawn(name, in_window(array_of(plane), window), label[None], plane)


def find_kits19(folder: Path, options: Options) -> Sequence[Item]:
    """The annotated cases: the challenge's test cases have no segmentation."""
    root = folder / "data" if (folder / "data").is_dir() else folder
    labels = found(root, "case_*/segmentation.nii.gz", "case_00000/segmentation.nii.gz")
    cases = [Case(label.parent.name, (there(label.with_name("imaging.nii.gz"), label),), label) for label in labels]
    return in_windows(cases, options.window)


def find_lits(folder: Path, options: Options) -> Sequence[Item]:
    """The annotated volumes, in this folder or those in it."""
    cases = []
    for label in found(folder, "**/segmentation-*.nii*", "segmentation-0.nii"):
        image = there(label.with_name(label.name.replace("segmentation", "volume")), label)
        number = label.name.removeprefix("segmentation-").split(".")[0]
        cases.append(Case(f"liver_{number.zfill(3)}", (image,), label))
    return in_windows(cases, options.window)


def find_brats19(folder: Path, options: Options) -> Sequence[Item]:
    """Four volumes a case: of high-grade gliomas, and of low-grade ones."""
    cases = []
    for label in found(folder, "[HL]GG/*/*_seg.nii*", "HGG/<case>/<case>_seg.nii.gz"):
        images = [there(label.with_name(label.name.replace("_seg.", f"_{kind}.")), label) for kind in BRATS_CHANNELS]
        cases.append(Case(label.parent.name, tuple(images), label))
    return cases


def in_windows(cases: Sequence[Case], window: Window | None) -> Sequence[Item]:
    """The cases as they are; or with a window units that make bytes of them."""
    if window is None:
        return cases
    return [Unit(case.name, partial(draw_in_window, case, window)) for case in cases]


def draw_in_window(case: Case, window: Window) -> Iterator[Drawn]:
    """A volume as bytes of a window."""
    volume, label = read_volume(case.images[0]), array_of(read_volume(case.label))
    check_same_shape(volume.GetSize()[::-1], label.shape, case.images[0], case.label)
    yield Drawn(case.name, windowed(array_of(volume), window), label, volume)


BRATS_CHANNELS = {"t1": "T1", "t1ce": "T1ce", "t2": "T2", "flair": "FLAIR"}

COVID19 = Layout(
    name="covid19",
    title="COVID-19 CT segmentation, the 100 slices (COVID19-I)",
    form="tr_im.nii.gz and tr_mask.nii.gz",
    marks=("tr_mask.nii.gz",),
    source="http://medicalsegmentation.com/covid19",
    licence="see its page; Inf-Net's copy is for non-commercial use",
    channels=CT,
    labels={"background": 0, "infection": 1},
    find=partial(find_covid19, merge=True),
    splits={"crosslink": THREE_FOLDS},
    ending=".nii.gz",
    takes=("window",),
)

LAYOUTS = (
    COVID19,
    replace(
        COVID19,
        name="covid19-classes",
        marks=(),
        labels={"background": 0, "ground glass": 1, "consolidation": 2, "pleural effusion": 3},
        find=partial(find_covid19, merge=False),
    ),
    Layout(
        name="kits19",
        title="KiTS19, kidneys and their tumours",
        form="data/case_00000/imaging.nii.gz and segmentation.nii.gz",
        marks=("data/case_*/segmentation.nii.gz",),
        source="https://github.com/neheller/kits19",
        licence="CC BY-NC-SA 4.0, by KiTS21's page",
        channels=CT,
        labels={"background": 0, "kidney": [1, 2], "tumour": 2},
        find=find_kits19,
        splits={"crosslink": THREE_FOLDS},
        ending=".nii.gz",
        is_flat=False,
        takes=("window",),
        more={"overwrite_image_reader_writer": "NibabelIOWithReorient"},  # the files' first axis is the slice
    ),
    Layout(
        name="lits",
        title="LiTS17, the liver and its tumours",
        form="volume-<n>.nii and segmentation-<n>.nii",
        marks=("segmentation-*.nii*", "*/segmentation-*.nii*"),
        source="https://competitions.codalab.org/competitions/17094",
        licence="Creative Commons, non-commercial; check the challenge's page",
        channels=CT,
        labels={"background": 0, "liver": [1, 2], "tumour": 2},
        find=find_lits,
        ending=".nii.gz",
        is_flat=False,
        takes=("window",),
    ),
    Layout(
        name="brats19",
        title="BraTS19, gliomas",
        form="HGG/<case>/<case>_{t1,t1ce,t2,flair,seg}.nii.gz, and LGG/ likewise",
        marks=("HGG/BraTS19_*", "LGG/BraTS19_*"),
        source="https://www.med.upenn.edu/cbica/brats2019",
        licence="registration at the challenge; no redistribution",
        channels=tuple(BRATS_CHANNELS.values()),
        labels={"background": 0, "whole tumour": [1, 2, 3], "tumour core": [2, 3], "enhancing tumour": 3},
        find=find_brats19,
        ending=".nii.gz",
        is_flat=False,
        in_files={0: 0, 2: 1, 1: 2, 4: 3},  # oedema, necrosis, enhancing tumour; as in nnU-Net's own conversion
    ),
)

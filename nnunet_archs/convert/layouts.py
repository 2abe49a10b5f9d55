"""The official layouts, which is a folder's, and what is to be written of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from nnunet_archs.instances import described
from nnunet_archs.lengths import Length

from .case_files import Case
from .folders import FORMS, check_files
from .layout import Layout, Options
from .nodules import LAYOUTS as NODULES
from .pictures import LAYOUTS as PICTURES
from .raw_data import RawData
from .splits import FIVE_FOLDS, Split, apply
from .volumes import LAYOUTS as VOLUMES
from .york import LAYOUTS as YORK

LAYOUTS = {layout.name: layout for layout in (*PICTURES, *YORK, *VOLUMES, *NODULES)}


def recognise(folder: Path) -> Layout | None:
    """The layout whose files lie in a folder; None where none is recognised."""
    return next((layout for layout in LAYOUTS.values() if any(_holds(folder, mark) for mark in layout.marks)), None)


def layout_of(folder: Path, name: str | None) -> Layout | None:
    """The layout that is named, or recognised; None for the forms that `inspect_folder` reads.

    Raises:
        ValueError: for a folder that is none, and one of no known form.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give one")
    if name:
        return LAYOUTS[name]
    if (folder / "dataset.json").is_file() or ((folder / "images").is_dir() and (folder / "labels").is_dir()):
        return None
    layout = recognise(folder)
    if layout is None:
        known = "; ".join(f"{layout.name}: {layout.form}" for layout in LAYOUTS.values())
        raise ValueError(f"{folder} has none of the known layouts: give {FORMS}; or name a --layout ({known})")
    return layout


def inspect_layout(layout: Layout, folder: Path, options: Options, split: str | None, seed: int | None) -> RawData:
    """Check a folder's structure and return what is to be written; nothing is written yet.

    Files that are copied are read, those of which cases are made are read when they are written.

    Raises:
        ValueError: for options and splits that the layout has not, missing files, and files that are not as they should
            be.
    """
    for name in (option.name for option in fields(Options)):
        if getattr(options, name) is not None and name not in layout.takes:
            takers = ", ".join(other.name for other in LAYOUTS.values() if name in other.takes)
            raise ValueError(f"--{name} is not for {layout.name}, but for {takers}: leave it out")
    chosen = _split(layout, split)
    items = tuple(layout.find(folder, options))
    if twice := [name for name, n in Counter(item.name for item in items).items() if n > 1]:
        raise ValueError(f"{folder} holds the case {twice[0]} twice, in two of its folders; remove one")
    cases = [item for item in items if isinstance(item, Case)]
    dataset_json = _dataset_json(layout, options, _ending(cases) if cases else layout.ending)
    is_flat = layout.is_flat
    if cases:
        in_files = set(layout.in_files) if layout.in_files else None
        is_flat = all(contents.is_flat for contents in check_files(cases, dataset_json, in_files))
    data = RawData(
        dataset_json, items, (), is_flat, new_labels=layout.in_files if cases else None, notes=layout.notes(options)
    )
    return apply(chosen, seed, data) if chosen else data


def _split(layout: Layout, name: str | None) -> Split | None:
    """The split of this name; without one the first of the layout's, or None, which leaves the folds to nnU-Net."""
    splits: Mapping[str, Split] = {**layout.splits, "five-folds": FIVE_FOLDS}
    if name is None:
        return next(iter(layout.splits.values()), None)
    if name not in splits:
        raise ValueError(f"--split {name}: {layout.name} has {', '.join(splits)}; give one of these")
    return splits[name]


def _ending(cases: Sequence[Case]) -> str:
    """The ending of all files. Raises ValueError where there are several."""
    endings = sorted({"".join(file.suffixes) for case in cases for file in (*case.images, case.label)})
    if len(endings) > 1:
        raise ValueError(f"{cases[0].label.parent} and the like mix {', '.join(endings)}: nnU-Net needs one; convert")
    return endings[0]


def _dataset_json(layout: Layout, options: Options, ending: str) -> dict[str, Any]:
    channels = ("rgb_to_0_1",) if options.window else layout.channels
    content: dict[str, Any] = {
        "name": layout.title,
        "reference": layout.source,
        "licence": layout.licence,
        "converted_by": "nnunet-archs convert",
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": dict(layout.labels),
        **({"description": "; ".join(notes)} if (notes := layout.notes(options)) else {}),
        "file_ending": ending,
        **layout.more,
    }
    regions = [name for name, label in layout.labels.items() if name != "background"]
    if any(isinstance(label, list) for label in layout.labels.values()):
        content["regions_class_order"] = list(range(1, len(regions) + 1))
    asked = {option.name: getattr(options, option.name) for option in fields(Options)}
    if given := {
        name: str(value) if isinstance(value, (Path, Length)) else value for name, value in asked.items() if value
    }:
        content["converted_with"] = given
    return content | (described(str(options.instances)) if options.instances else {})


def _holds(folder: Path, mark: str) -> bool:
    return next(folder.glob(mark), None) is not None

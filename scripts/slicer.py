"""Write segmentations for 3D Slicer: every label with its name and a colour."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import check_new

EXAMPLE = "nnunet-archs slicer predictions -o slicer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    what = "a folder of segmentations: of nnUNetv2_predict, a fold's validation, labelsTr"
    parser.add_argument("segmentations", type=Path, metavar="SEGMENTATIONS", help=what)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a folder that is not there")


def run(args: argparse.Namespace) -> int:
    """Write the files; print how they are opened."""
    from nnunet_archs.convert.slicer import write_for_slicer

    check_new(args.output)
    count = write_for_slicer(args.segmentations, args.output)
    print(f"{args.output}: {count} files. To look at one over its image: Slicer IMAGE {args.output}/CASE.seg.nrrd")
    return 0

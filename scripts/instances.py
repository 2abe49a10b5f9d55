"""Turn predictions into instance maps, in which every object has an id of its own.

Labels that are cores and borders, as `convert --instances` makes them, are told apart by their cores; a mask with one
label falls into the objects that do not touch. Any trainer's predictions are taken, in 2D and 3D. Where they were made
with --save_probabilities, cores and borders give objects with scores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import check_new

EXAMPLE = "nnunet-archs instances predictions -o instances"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="a folder of segmentations")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a new folder")
    smallest = "count cores of up to N voxels as border; default: %(default)s"
    parser.add_argument("--smallest-core", type=int, default=0, metavar="N", help=smallest)
    isolated = "drop borders without a core of up to N voxels; default: %(default)s"
    parser.add_argument("--smallest-border", type=int, default=0, metavar="N", help=isolated)
    forced = "labels are cores (1) and borders (2), even if no dataset.json says so"
    parser.add_argument("--border-core", action="store_true", help=forced)
    compared = "instance maps of equal names: writes metrics.csv, and prints the means over images"
    parser.add_argument("--references", type=Path, metavar="FOLDER", help=compared)


def run(args: argparse.Namespace) -> int:
    """Write the instance maps; print how many objects there are."""
    from nnunet_archs.convert.objects import METRICS, write_instances

    check_new(args.output)
    counts = write_instances(
        args.predictions,
        args.output,
        border_core=args.border_core,
        smallest_core=args.smallest_core,
        smallest_border=args.smallest_border,
        references=args.references,
    )
    print(f"{args.output}: {sum(counts.values())} objects in {len(counts)} images")
    if args.references:
        import pandas

        metrics = pandas.read_csv(args.output / METRICS)
        print(metrics.mean(numeric_only=True).round(4).to_string())
    return 0

"""Measure in 25 minutes what only a GPU can tell, in one page of Markdown and one JSON file.

In this order, each in its share of the time: what the planner expects of every trainer's memory beside what is taken,
time of all networks in both forms, eager and compiled, single fusions, the tests marked gpu, DDP, and a training of a
few minutes. Both files are written after each measurement, and the same command goes on where one was cut off. On a CPU
it runs at toy size, to see that it does.
"""

import argparse
from pathlib import Path

from .options import add_device

EXAMPLE = "nnunet-archs gpu -o gpu_run --data Task04_Hippocampus --tests tests"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    default = "default: %(default)s"
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        default=Path("gpu_run"),
        help=f"for gpu.md and gpu.json; {default}",
    )
    parser.add_argument("--minutes", type=float, default=25, metavar="N", help=f"for all of it; {default}")
    parser.add_argument("-tr", "--trainers", nargs="+", metavar="TRAINER", help="default: all")
    data_help = "images of the hippocampus, as `demo --data` takes them; default: msd_task04_hippocampus in "
    data_help += "NNUNET_ARCHS_DATA, else nothing is trained"
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=data_help)
    parser.add_argument("--tests", type=Path, metavar="FOLDER", help="the checkout's tests; default: none are run")
    add_device(parser, "it measures")


def run(args: argparse.Namespace) -> int:
    """Measure, and print where the page is."""
    from nnunet_archs.benchmark.gpu.run import measure_gpu

    print(measure_gpu(args))
    return 0

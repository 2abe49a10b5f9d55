"""Measure multiply-adds, memory and time of the networks, in the papers' form and in ours.

Every network stands beside nnU-Net's own two, at one workload after the other. Multiply-adds and the memory kept for
backward are counted without running anything. For the times all networks take turns in every round, so that what
disturbs the machine for a while disturbs all of them. With --json the rounds that are done are kept, and the same
command resumes after them.
"""

import argparse
from pathlib import Path

from .options import add_device

EXAMPLE = "nnunet-archs benchmark UNetSharp CAggNet --topology 3d-paper --repeats 3"
FORMS = ("textbook", "exact", "checkpoint")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument(
        "networks", nargs="*", metavar="NETWORK", help="such as UNetSharp or UNetSharp_L3; default: all"
    )
    parser.add_argument(
        "--topology",
        nargs="+",
        metavar="NAME",
        help="of 2d-paper, 3d-paper, 2d-nnunet, 3d-nnunet, 3d-anisotropic; default: the papers', or --plans alone",
    )
    parser.add_argument("--plans", type=Path, metavar="FILE", help="nnUNetPlans.json of a data set, for its topology")
    parser.add_argument(
        "-c", "--configuration", metavar="NAME", help="a configuration of these plans, such as 3d_fullres"
    )
    parser.add_argument(
        "--forms", nargs="+", metavar="FORM", default=[*FORMS], help=f"of {', '.join(FORMS)}; default: all"
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="timed rounds; 0 only counts; default: 5")
    add_device(parser, "networks are timed")
    parser.add_argument("--threads", type=int, metavar="N", help="threads on the CPU; default: torch's own choice")
    parser.add_argument("--amp", choices=["bf16", "fp16"], help="mixed precision")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument(
        "--graph",
        action="store_true",
        help="measure graphs, not training steps: export to ONNX, time and memory of a patch in onnxruntime",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there; resume from what it holds")


def run(args: argparse.Namespace) -> int:
    """Count, time and print the tables."""
    from nnunet_archs.benchmark.run import benchmark

    print(benchmark(args))
    return 0

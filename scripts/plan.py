"""Plan for a trainer's network: patch and batch that fit a GPU, or a width that matches other plans.

Plans are written beside nnU-Net's, as <Network>Plans.json, when all that was asked for is planned. Preprocessed data is
shared with other plans where it is the same; none is made or deleted here.
"""

import argparse

EXAMPLE = "nnunet-archs plan -d 4 -tr CAggNetTrainer UNetSharpTrainer --gpu-memory 24"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand; those that nnU-Net has too mean the same."""
    parser.add_argument("-d", nargs="+", required=True, metavar="ID", dest="datasets", help="data sets, by ID or name")
    parser.add_argument(
        "-tr", nargs="+", required=True, metavar="TRAINER", dest="trainers", help="one or more, such as CAggNetTrainer"
    )
    parser.add_argument(
        "-c", nargs="+", metavar="CONFIGURATION", dest="configurations", help="default: all that the data set has"
    )
    parser.add_argument(
        "--gpu-memory", type=float, metavar="GB", help="memory of the GPU; default: 8, as in nnU-Net's plans"
    )
    parser.add_argument(
        "--base-width", type=int, metavar="N", help="features at full resolution; other stages in proportion"
    )
    parser.add_argument("--match", metavar="PLANS", help="take patch and batch from these plans, such as nnUNetPlans")
    parser.add_argument(
        "--by", choices=["memory", "parameters"], help="with --match: what the widths make equal; default: memory"
    )
    parser.add_argument(
        "--published",
        nargs="?",
        const="",
        metavar="ROW",
        help="the paper's own topology, patch and batch; ROW: a configuration of nnunet-archs list",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace plans of the same name")


def run(args: argparse.Namespace) -> int:
    """Plan everything, then write it and print a table."""
    from nnunet_archs.plans.making import plan

    table, commands = plan(args)
    print(table, "", "Next:", *(f"  {command}" for command in commands), sep="\n")
    return 0

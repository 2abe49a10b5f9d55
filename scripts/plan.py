"""Plan for the networks of trainers: patches and batches that fit a GPU, or widths that match other plans.

Plans are written beside nnU-Net's, as <Network>Plans.json, when all that was asked for is planned. Preprocessed data is
shared with other plans where it is the same; none is made or deleted here.
"""

import argparse

EXAMPLE = "nnunet-archs plan -d 4 -tr CAggNetTrainer UNetSharpTrainer --gpu-memory 24"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand; those that nnU-Net has too mean the same."""
    parser.add_argument("-d", nargs="+", required=True, metavar="ID", dest="datasets", help="data sets, by ID or name")
    parser.add_argument("-tr", nargs="+", required=True, metavar="TRAINER", dest="trainers", help="as CAggNetTrainer")
    parser.add_argument("-c", nargs="+", metavar="CONFIGURATION", dest="configurations", help="default: all there are")
    parser.add_argument("--gpu-memory", type=float, metavar="GB", help="of the GPU; default: 8, as nnU-Net's")
    parser.add_argument("--base-width", type=int, metavar="N", help="features at full resolution, others in proportion")
    parser.add_argument("--match", metavar="PLANS", help="take patch and batch of these plans, as nnUNetPlans")
    parser.add_argument(
        "--by", choices=["memory", "parameters"], help="with --match: of what as much is taken; default: memory"
    )
    parser.add_argument(
        "--published",
        nargs="?",
        const="",
        metavar="ROW",
        help="the paper's own topology, patch and batch; of a row of nnunet-archs list, or the first",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace plans of the same name")


def run(args: argparse.Namespace) -> int:
    """Plan everything, then write it and print a table."""
    from nnunet_archs.plans.making import plan

    table, commands = plan(args)
    print(table, "", "These come next:", *(f"  {command}" for command in commands), sep="\n")
    return 0

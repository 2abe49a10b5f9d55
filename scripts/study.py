"""Train, measure and compare networks, from one file."""

import argparse
from pathlib import Path

EXAMPLE = "nnunet-archs study run hippocampus.yaml"
STEPS = {
    "run": "Plan what is missing, train and predict what is not finished; run it again to resume.",
    "status": "Show how far every training and prediction is, from any machine that sees the results.",
    "report": "Measure the validation and test cases, compare the networks, write an HTML report.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A subcommand for each step."""
    steps = parser.add_subparsers(metavar="step", required=True)
    for name, line in STEPS.items():
        subparser = steps.add_parser(name, help=line, description=line)
        subparser.add_argument("file", type=Path, metavar="STUDY.yaml")
        subparser.set_defaults(step=name)
        if name == "run":
            subparser.add_argument("--dry-run", action="store_true", help="print the commands without running them")
            subparser.add_argument(
                "--replan", action="store_true", help="replace plans that were made for another budget"
            )


def run(args: argparse.Namespace) -> int:
    """Run the step."""
    from nnunet_archs.study.definition import read_study
    from nnunet_archs.study.steps import STEPS as FUNCTIONS

    return FUNCTIONS[args.step](args, read_study(args.file))

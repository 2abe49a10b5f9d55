"""List the trainers and options, or the papers' own training."""

import argparse
import json

EXAMPLE = "nnunet-archs list --names"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--recipes", action="store_true", help="print the papers' own training, which _recipe follows")
    form.add_argument("--names", action="store_true", help="print only the trainers' names, which is quick")


def run(args: argparse.Namespace) -> int:
    """Print a row for every configuration that a paper prints, and one for every trainer that has none."""
    if args.names:
        from nnunet_archs.trainers.registry import known

        print("\n".join(known()))
        return 0
    if args.recipes:
        from nnunet_archs.trainers.recipes import page

        print(page())
        return 0
    from nnunet_archs.trainers.listing import listing, text

    rows = listing()
    print(json.dumps(rows, indent=2) if args.json else text(rows))
    return 0

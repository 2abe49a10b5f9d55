"""Print docs/fidelity.md: what papers state, what is built here, and how released code differs."""

import argparse

EXAMPLE = "nnunet-archs fidelity > docs/fidelity.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print the page."""
    from nnunet_archs.fidelity.page import page

    print(page())
    return 0

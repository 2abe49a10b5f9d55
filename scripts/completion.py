"""Completion in the shell: subcommands, options, choices, files, and the names of trainers."""

import argparse
from pathlib import Path

import shtab

OPTION = "--print-completion"
TRAINERS = shtab.cmd("nnunet-archs list --names")


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add the option that prints a shell's completion of the whole command."""
    line = 'print the completion for this shell and exit; in bash: eval "$(nnunet-archs --print-completion bash)"'
    shtab.add_argument_to(parser, OPTION, help=line)


def complete_values(parser: argparse.ArgumentParser) -> None:
    """Say what completes the values of a subcommand's arguments: files where they are paths, names of trainers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                complete_values(subparser)
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "TRAINER":
            action.complete = TRAINERS  # type: ignore[attr-defined]

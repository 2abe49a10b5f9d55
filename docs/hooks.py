"""The pages that mkdocs writes itself: the trainers with their options, and the command line."""

from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from inspect import getdoc
from io import StringIO
from os import environ
from unittest.mock import patch

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from nnunet_archs.scripts.main import SUBCOMMANDS, main
from nnunet_archs.study.citations import reference_of
from nnunet_archs.tables import markdown_table
from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.listing import every_option
from nnunet_archs.trainers.optimisation import NNUNET
from nnunet_archs.trainers.registry import paper_trainers


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for name, page in (("trainers", trainers_page()), ("commands", commands_page())):
        files.append(File.generated(config, f"reference/{name}.md", content=page))
    return files


def trainers_page() -> str:
    """Every trainer and every option, from the registry."""
    rows = [trainer_row(trainer) for trainer in paper_trainers()]
    header = ("trainer", "network and supervised outputs", "paper", "2D, 3D", "loss; optimiser")
    named = [(f"`_{option.spelling}`", option.meaning, where or "all") for option, where in every_option().items()]
    return f"""---
hide: [toc]
---

# Trainers and options

Written from the registry when this site is built. `nnunet-archs list` prints the same on your machine, together with
the sizes that papers print and the trainers of other packages. [Choose a trainer](../trainers.md) explains the names.

## Trainers

{markdown_table(header, rows)}

## Options

{markdown_table(("option", "meaning", "trainers"), named)}
"""


def trainer_row(trainer: type[PaperTrainer]) -> tuple[str, ...]:
    """A trainer's name, network, paper, dimensions and loss."""
    reference = reference_of(trainer.__name__)
    short = reference.text.partition(': "')[0]
    paper = f"[{short}]({reference.link})" if reference.link else short
    return (
        f"`{trainer.__name__}`",
        (getdoc(trainer) or "").partition("\n")[0],
        paper,
        ", ".join(f"{dim}D" for dim in trainer.dimensions()),
        training_of(trainer),
    )


def training_of(trainer: type[PaperTrainer]) -> str:
    """The loss and the optimiser of a bare name."""
    if trainer.objective == "nnunet":
        return "nnU-Net's"
    loss = type(trainer.new_loss()).__name__
    finds_objects = not getattr(trainer.network_class, "is_graph", True)
    named = "torchvision's" if finds_objects else f"[{loss}](losses.md#nnunet_archs.losses.{loss})"
    return named if trainer.own_optimisation == NNUNET else f"{named}; {trainer.own_optimisation.optimiser}"


def commands_page() -> str:
    """The help of every command."""
    return "\n".join(
        [
            "# Command line",
            "",
            "Written from the commands' own help when this site is built. Bad input ends a command with one line and "
            "exit code 2, and nothing is written.",
            "",
            *(line for name in ("", *SUBCOMMANDS) for line in command(name)),
        ]
    )


def command(name: str) -> Iterator[str]:
    """A section with the help of one command; without a name, that of `nnunet-archs` itself."""
    printed = StringIO()
    with patch.dict(environ, COLUMNS="84", NO_COLOR="1"), redirect_stdout(printed), suppress(SystemExit):
        main([*filter(None, [name]), "--help"])
    yield from (f"## nnunet-archs {name}".rstrip(), "", "```text", printed.getvalue().rstrip(), "```", "")
